"""What is run on a device, and what comes back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Array, Artifact
from edgeconv.core.errors import InvalidData, ToolMissing, UsageError, WorkerError
from edgeconv.toolchain.device.answer import (
    NotUnderstood,
    clean,
    numbered,
    require_probed,
    require_ran,
)
from edgeconv.toolchain.device.part import FILE, DevicePart

RUNNER = "runner.py"
INPUTS = "inputs.npz"
RESULTS = "results.npz"
EXPECTED = "expected.npz"
TAIL_EXPECTED = "tail_expected.npz"
JOINED = "joined.npz"
JOB = "job.json"

CPU = "cpu"

RUNTIMES = {"litert": "ai-edge-litert", "tflite-runtime": "tflite-runtime", "tf": "tensorflow"}
"""TFLite runtimes by the names that ``--runtime`` has for them, as the runner calls them."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a model is run on a device.

    Attributes:
        device: Which device, by the name that its libraries have for it; empty for any.
        threads: Threads on the CPU.
        runs: How many runs the latency is taken over, beside the first.
        cpu_fallback: Whether the CPU may take over from the device.
        timeout: Seconds that the run may take.
        runtime: Which TFLite runtime, a name of `RUNTIMES`; empty for any that is installed.
        memory: Bytes that the run may take, if it is on this machine; half of its memory by
            default.
    """

    device: str = ""
    threads: int = 1
    runs: int = 50
    cpu_fallback: bool = True
    timeout: float = 600.0
    runtime: str = ""
    memory: int | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("threads", self.threads, 1), ("runs", self.runs, 1)):
            if value < least:
                raise UsageError(f"--{name} must be at least {least}, not {value}")
        if not 0 < self.timeout < float("inf"):
            raise UsageError(f"--timeout must be more than 0 seconds, not {self.timeout:g}")


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a model, which the device's CPU runs on what the model returns.

    Attributes:
        model: The .tflite file.
        feeds: For each of its inputs, in order: whether it is one of the model's ``inputs`` or
            ``results``, which one, and its scale and zero point, ``None`` where it is as stored; or
            ``joined``, and the name of what is joined.
    """

    model: Path
    feeds: Sequence[tuple[str, int | str, float | None, int | None]]

    def to_dict(self) -> dict[str, Any]:
        """Return what the runner reads."""
        files = {kind: f"tail_{kind}.npz" for kind in ("inputs", "results", "expected")}
        return {"model": self.model.name, "feeds": [list(feed) for feed in self.feeds], **files}


@dataclass(frozen=True, slots=True)
class Joined:
    """What the device puts together from several results.

    Attributes:
        output: Its name.
        axis: The axis, as it is stored.
        parts: Of each part: which result it is, its scale and zero point, ``None`` where it is as
            stored, and start, stop and step of its positions on the axis.
    """

    output: str
    axis: int
    parts: Sequence[tuple[int, float | None, int | None, Sequence[tuple[int, int, int]]]]


def joined_of(model: Artifact) -> list[Joined]:
    """Return what a device has to put together of a model's outputs."""
    places = {spec.name: place for place, spec in enumerate(model.outputs)}
    found = []
    for join in model.joins:
        parts = []
        for part in join.parts:
            q = model.outputs[places[part.name]].quantization
            scaling = (None, None) if q is None else (q.scale, q.zero_point)
            parts.append((places[part.name], *scaling, part.slices))
        axis = join.output.permutation.index(join.axis)
        found.append(Joined(join.output.name, axis, parts))
    return found


@dataclass(frozen=True, slots=True)
class Job:
    """A model and the samples to run it on.

    Attributes:
        model: The .tflite file for a CPU.
        inputs: Arrays ``[sample, ...]`` in the model's stored form, in the file's order.
        compiled: The same model compiled for the device of `part`; ``None`` runs on the CPU.
        why_not: Why nothing is compiled, where a device was asked for.
        only_compiled: Whether there is nothing that a CPU could run.
        tail: What the device runs behind the model.
        joins: What it puts together of the results, into ``joined.npz``.
        part: How a compiled model is run.
    """

    model: Path
    inputs: Sequence[Array]
    compiled: Path | None = None
    why_not: str | None = None
    only_compiled: bool = False
    tail: Tail | None = None
    joins: Sequence[Joined] = ()
    part: DevicePart | None = None

    @property
    def compiled_name(self) -> str | None:
        """Name of the compiled file on the device."""
        if self.compiled is None or self.part is None:
            return None
        return self.model.stem + self.part.suffix

    def write(self, folder: Path, options: RunOptions) -> list[Path]:
        """Write all that the runner needs into a folder; return the files."""
        compiled = self.compiled_name
        content = {
            "schema_version": 1,
            "model": self.model.name,
            "compiled": compiled,
            "part": None if self.part is None else FILE,
            "place": CPU if self.part is None else self.part.place,
            "inputs": INPUTS,
            "results": RESULTS,
            "device": options.device,
            "threads": options.threads,
            "runs": options.runs,
            "cpu_fallback": options.cpu_fallback and not self.only_compiled,
            "seconds": options.timeout,
            "why_not": self.why_not,
            "tail": None if self.tail is None else self.tail.to_dict(),
            "runtime": RUNTIMES.get(options.runtime, ""),
            "joins": [asdict(join) for join in self.joins],
            "joined": JOINED,
        }
        (folder / JOB).write_text(json.dumps(content, indent=2) + "\n")
        (folder / RUNNER).write_text(runner_source())
        shutil.copyfile(self.model, folder / self.model.name)
        write_npz(folder / INPUTS, {str(i): array for i, array in enumerate(self.inputs)})
        files = [JOB, RUNNER, self.model.name, INPUTS]
        if self.part is not None:
            (folder / FILE).write_text(self.part.source)
            files.append(FILE)
        if self.compiled is not None and compiled is not None:
            shutil.copyfile(self.compiled, folder / compiled)
            files.append(compiled)
        if self.tail is not None:
            shutil.copyfile(self.tail.model, folder / self.tail.model.name)
            files.append(self.tail.model.name)
        return [folder / name for name in files]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a device answered.

    Attributes:
        ran_on: ``cpu``, or the target's word for its device.
        fallback: Why the CPU took over; ``None`` where it did not.
        advice: What would make the device work; empty without a fallback.
        runtime: What ran the model, with its version.
        latency_ms: ``first``, ``median``, ``p90``, ``runs``.
        memory_bytes: The peak of the process that ran it; ``None`` where it is not known.
        python: Version of the device's Python.
        machine: The device's processor and system.
        outputs: Arrays ``[sample, ...]`` in the model's stored form, in the file's order.
    """

    ran_on: str
    fallback: str | None
    advice: str
    runtime: str
    latency_ms: Mapping[str, Any]
    memory_bytes: int | None
    python: str
    machine: str
    outputs: tuple[Array, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without the outputs."""
        data = asdict(self)
        del data["outputs"]
        return data


@dataclass(frozen=True, slots=True)
class Found:
    """What a device has, told before anything is sent to it; see ``probe.py``.

    Attributes:
        runtimes: Its TFLite runtimes with versions, the one that the runner takes first.
        part: What the target's part found, by the name of each thing.
        python: Version of its Python.
        machine: Its processor and system.
    """

    runtimes: tuple[str, ...] = ()
    part: Mapping[str, Any] | None = None
    python: str = ""
    machine: str = ""

    @classmethod
    def read(cls, stdout: str) -> Found:
        """Return what ``probe.py`` printed; nothing where it was not that."""
        try:
            answer = json.loads(stdout.strip().splitlines()[-1])
            if not require_probed(answer):
                return cls()
            return cls(
                tuple(answer["runtimes"]), answer["part"], answer["python"], answer["machine"]
            )
        except (LookupError, TypeError, ValueError, RecursionError):
            return cls()


Probe = Callable[[DevicePart | None], Found]
"""Asks a device what it has, and what the part of a target finds there."""

Device = Callable[[Job, RunOptions], Ran]
"""Runs a job: this machine, or a board behind SSH."""


def runner_source() -> str:
    """Return the text of the one file that runs on devices."""
    return resources.files("edgeconv.toolchain.device").joinpath(RUNNER).read_text()


def write_probe(folder: Path, part: DevicePart | None = None) -> list[Path]:
    """Write ``probe.py`` into a folder under the runner's name, which devices execute.

    Args:
        folder: The folder.
        part: What looks too.

    Returns:
        The files, that one first.
    """
    files = [folder / RUNNER]
    probe = resources.files("edgeconv.toolchain.device").joinpath("probe.py")
    files[0].write_text(probe.read_text())
    if part is not None:
        files.append(folder / FILE)
        files[1].write_text(part.source)
    return files


def read_answer(
    stdout: str, stderr: str, results: Path, where: str, part: DevicePart | None = None
) -> Ran:
    """Turn what the runner printed and wrote into `Ran`.

    Args:
        stdout: What it printed.
        stderr: What it said beside that.
        results: What it wrote.
        where: The device.
        part: The job's part.

    Raises:
        ToolMissing: Only an accelerator would do, and there is none that works.
        WorkerError: The model could not be run there, or the runner died.
    """
    lines = stdout.strip().splitlines()
    places = (CPU,) if part is None else (part.place, CPU)
    try:
        answer = require_ran(json.loads(lines[-1]), where, places)
    except (IndexError, ValueError, RecursionError):
        raise WorkerError(
            "the runner died",
            where=where,
            why=clean((stderr.strip().splitlines() or ["it said nothing"])[-1]),
            hint="run with --verbose for all that it printed",
            details=clean(stderr),
        ) from None
    if "failure" in answer:
        refused = answer.get("fallback") == answer["failure"]
        kind = ToolMissing if refused else WorkerError
        label = "the device" if part is None else part.label
        raise kind(
            f"the model was not run on {label}" if refused else "the model could not be run",
            where=where,
            why=answer["failure"],
            hint=answer.get("advice") or "",
            details=answer.get("details", ""),
        )
    try:
        outputs = numbered(read_npz(results))
    except InvalidData as error:
        raise NotUnderstood(error.why or error.what, where) from error
    return Ran(
        answer["ran_on"],
        answer.get("fallback"),
        answer.get("advice") or "",
        answer["runtime"],
        answer["latency_ms"],
        answer.get("memory_bytes"),
        answer["python"],
        answer["machine"],
        tuple(outputs),
    )
