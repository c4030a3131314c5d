"""Read what the compiler prints and logs, of every release from 1.0 to 16.0.

Lines are found by their key, not by their place: releases differ in order, in what they add, and
in the names (``Input:`` in the log, ``Input model:`` on stdout).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeconv.targets.coral.compiler.advice import MAPPED, advice_for

_VERSION = re.compile(r"^Edge TPU Compiler version (\S+)$")
_SIZE = re.compile(r"^(\d{1,15}(?:\.\d*)?)\s*(B|KiB|MiB|GiB)$")
_ROW = re.compile(r"^(\S+)\s{2,}(\d+)\s{2,}(.+)$")
_ATTEMPT = re.compile(r"^Try to compile segment with (\d+) ops$")
_MILLISECONDS = re.compile(r"^Model compiled successfully in (\d+) ms[.!]?$")
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

_TEXTS = {
    "input": ("Input model", "Input"),
    "output": ("Output model", "Output"),
    "log": ("Operation log",),
}
_SIZES = {
    "input_bytes": ("Input size",),
    "output_bytes": ("Output size",),
    "cached_bytes": ("On-chip memory used for caching model parameters",),
    "free_bytes": (
        "On-chip memory remaining for caching model parameters",
        "On-chip memory available for caching model parameters",
    ),
    "streamed_bytes": ("Off-chip memory used for streaming uncached model parameters",),
}
_COUNTS = {
    "subgraphs": ("Number of Edge TPU subgraphs",),
    "operations": ("Total number of operations",),
    "on_edgetpu": ("Number of operations that will run on Edge TPU",),
    "on_cpu": ("Number of operations that will run on CPU",),
}
_FAILURES = (
    "ERROR:",
    "Invalid model:",
    "Model not quantized",
    "Model could not be parsed",
    "Compilation failed",
    "Internal compiler error",
    "The number of lists given",
)


@dataclass(frozen=True, slots=True)
class Status:
    """One row of the operator table.

    Attributes:
        op: Builtin name; ``CUSTOM`` for every custom operator.
        count: How many operators of that name have the status.
        status: The compiler's words.
        advice: What to do; empty where it is mapped or the words are unknown.
    """

    op: str
    count: int
    status: str
    advice: str

    @property
    def mapped(self) -> bool:
        """Whether they run on the Edge TPU."""
        return self.status == MAPPED


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What the compiler says of one model, or one segment of it; ``None`` where it says nothing.

    Attributes:
        input: Name of the input file.
        output: Name of the output file.
        log: Name of the operation log.
        input_bytes: Size of the input; sizes are rounded to two decimals of their unit.
        output_bytes: Size of the output.
        cached_bytes: Parameters kept on the chip.
        free_bytes: Memory left on the chip for parameters.
        streamed_bytes: Parameters sent with each inference.
        subgraphs: Custom operators in the output.
        operations: Operators of the input.
        on_edgetpu: Of these, on the Edge TPU.
        on_cpu: Of these, on the CPU.
        milliseconds: How long it took.
        statuses: The operator table, where it is there.
    """

    input: str | None = None
    output: str | None = None
    log: str | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    cached_bytes: int | None = None
    free_bytes: int | None = None
    streamed_bytes: int | None = None
    subgraphs: int | None = None
    operations: int | None = None
    on_edgetpu: int | None = None
    on_cpu: int | None = None
    milliseconds: int | None = None
    statuses: tuple[Status, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of the compiler printed.

    Attributes:
        version: The compiler's release, ``16.0.384591198``; empty where it did not say.
        models: What it says of each model, in its order; of ``-d`` the last attempt only.
        failures: The lines that tell of a failure; of ``-d`` those of the last attempt.
        failed: Whether it said that it failed, or said nothing of any model.
        attempts: Sizes of the segments that ``-d`` tried.
    """

    version: str
    models: tuple[ModelReport, ...]
    failures: tuple[str, ...]
    failed: bool
    attempts: tuple[int, ...] = ()


@dataclass(slots=True)
class _Draft:
    """A model's report while its lines come in."""

    values: dict[str, Any] = field(default_factory=dict)
    statuses: list[Status] = field(default_factory=list)

    def finish(self) -> ModelReport:
        values = dict(self.values)
        # A model that maps as a whole has no lines about the split.
        if values.get("subgraphs") and "on_edgetpu" not in values and "operations" in values:
            values["on_edgetpu"], values["on_cpu"] = values["operations"], 0
        return ModelReport(**values, statuses=tuple(self.statuses))


def parse(text: str) -> Report:
    """Read the compiler's stdout, or an operation log. Lines that are not known are passed over."""
    lines = [line.strip() for line in text.splitlines()]
    version = next((found[1] for line in lines if (found := _VERSION.match(line))), "")
    attempts, last = _attempts(lines)
    models = tuple(_models(last))
    failures = tuple(line for line in last if line.startswith(_FAILURES))
    failures += tuple(line for line in last if "Segmentation fault" in line)
    timeouts = tuple(line for line in last if line.startswith("Compilation timeout"))
    return Report(version, models, failures + timeouts, bool(failures) or not models, attempts)


def parse_size(text: str) -> int | None:
    """Return the bytes that ``6.89MiB`` stands for, or ``None``."""
    found = _SIZE.match(text.strip())
    return None if found is None else round(float(found[1]) * _UNITS[found[2]])


def _attempts(lines: Sequence[str]) -> tuple[tuple[int, ...], Sequence[str]]:
    """Return the sizes that ``-d`` tried, and the lines of the last attempt, or all."""
    starts = [(at, int(m[1])) for at, line in enumerate(lines) if (m := _ATTEMPT.match(line))]
    if not starts:
        return (), lines
    return tuple(size for _, size in starts), lines[starts[-1][0] :]


def _models(lines: Sequence[str]) -> Iterator[ModelReport]:
    draft = _Draft()
    milliseconds: int | None = None
    for line in lines:
        if found := _MILLISECONDS.match(line):
            milliseconds = int(found[1])
            continue
        if row := _ROW.match(line):
            if row[1] != "Operator":
                status = row[3].strip()
                draft.statuses.append(Status(row[1], int(row[2]), status, advice_for(status)))
            continue
        entry = _entry(line)
        if entry is None:
            continue
        key, value = entry
        if key == "input" and draft.values:
            yield draft.finish()
            draft = _Draft()
        if key == "input" and milliseconds is not None:
            draft.values["milliseconds"], milliseconds = milliseconds, None
        draft.values[key] = value
    if draft.values:
        yield draft.finish()


def _entry(line: str) -> tuple[str, Any] | None:
    name, colon, value = line.partition(": ")
    if not colon:
        return None
    for key, names in _TEXTS.items():
        if name in names:
            return key, value.strip()
    for key, names in _SIZES.items():
        if name in names:
            size = parse_size(value)
            return None if size is None else (key, size)
    for key, names in _COUNTS.items():
        if name in names and value.strip().isdigit():
            return key, int(value)
    return None
