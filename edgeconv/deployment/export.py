"""A self-contained folder for a board without a network."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.core.arrays import write_npz
from edgeconv.core.artifacts import Array, Arrays, Artifact, TensorSpec
from edgeconv.core.bundle import Bundle
from edgeconv.core.errors import UsageError
from edgeconv.metrics import parity
from edgeconv.toolchain.device.job import (
    EXPECTED,
    RUNNER,
    TAIL_EXPECTED,
    Job,
    Tail,
    joined_of,
)

if TYPE_CHECKING:
    from edgeconv.deployment.run import DeployOptions

_README = """# {name}

Copy this folder to the board and run, there:

    python3 runner.py

It needs Python 3.7 or later, numpy, and one of tflite_runtime and ai_edge_litert; no network.
{needs}

It runs {model} on the samples in inputs.npz and prints one JSON object: where it
ran (`ran_on`, and `fallback`: why not on {label}), `latency_ms` (first run, median, 90th
percentile), `memory_bytes`, and `max_difference`, how far the outputs are from expected.npz, in the
units they are stored in: of an int8 output, steps of its quantization. A few are normal: kernels
round differently{rounding}. The exit status is 0 if the model could be run.

{compiled}

The inputs, in the order of the file:

{inputs}

The outputs:

{outputs}
"""


_JOINED = """Some outputs are parts of one, because no single scale holds the values of all. The
runner writes joined.npz, which has them put together, as real numbers; each part has the positions
start:stop:step there:

{joins}"""


@dataclass(frozen=True, slots=True)
class Expected:
    """What this machine's CPU computes.

    Attributes:
        outputs: The model's, in stored form and in its order.
        results: The source model's, in real numbers, by name.
    """

    outputs: Sequence[Array]
    results: Arrays


def export(
    bundle: Bundle, model: Artifact, job: Job, expected: Expected, options: DeployOptions
) -> None:
    """Write the folder; it appears under its name when it is whole.

    Args:
        bundle: The bundle.
        model: Its model, with the tail that may have been cut off.
        job: What is run.
        expected: What this machine's CPU computes.
        options: Where to, and what else to put there.

    Raises:
        UsageError: The folder exists and is not to be replaced, or is something else than an
            earlier export; or it cannot be written.
    """
    assert options.export is not None
    target = options.export.absolute()
    _require_place(target, replace_it=options.force)
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        replace(job, tail=_tail(model), joins=joined_of(model)).write(partial, options.run)
        write_npz(partial / EXPECTED, {str(i): array for i, array in enumerate(expected.outputs)})
        if model.tail is not None:
            stored = parity.store(expected.results, model.tail.outputs)
            ends = {str(i): stored[spec.name] for i, spec in enumerate(model.tail.outputs)}
            write_npz(partial / TAIL_EXPECTED, ends)
        if options.labels is not None:
            shutil.copyfile(options.labels, partial / "labels.txt")
        (partial / "README.md").write_text(_readme(bundle, model, job))
        _put(partial, target)
    except OSError as error:
        raise UsageError(
            "the folder cannot be written", where=str(target), why=error.strerror or str(error)
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _require_place(target: Path, *, replace_it: bool) -> None:
    if not target.exists():
        return
    if not (target / RUNNER).is_file():
        raise UsageError(
            "the folder exists already, and is no earlier export",
            where=str(target),
            hint="choose another --export; it is not overwritten, even with --force",
        )
    if not replace_it:
        raise UsageError(
            "the folder exists already",
            where=str(target),
            hint="add --force to replace it, or choose another --export",
        )


def _put(partial: Path, target: Path) -> None:
    """Give a finished folder its name; an earlier one is there until then."""
    if not target.exists():
        partial.rename(target)
        return
    earlier = target.with_name(f".{target.name}.earlier-{secrets.token_hex(4)}")
    target.rename(earlier)
    partial.rename(target)
    shutil.rmtree(earlier, ignore_errors=True)


def _tail(model: Artifact) -> Tail | None:
    """Return what the device runs behind the model, fed with what it takes and returns."""
    if model.tail is None:
        return None
    places: dict[str, tuple[str, int | str, float | None, int | None]] = {
        join.output.name: ("joined", join.output.name, None, None) for join in model.joins
    }
    for kind, specs in (("inputs", model.inputs), ("results", model.outputs)):
        for place, spec in enumerate(specs):
            q = spec.quantization
            scaling = (None, None) if q is None else (q.scale, q.zero_point)
            places[spec.name] = (kind, place, *scaling)
    return Tail(model.tail.path, [places[spec.name] for spec in model.tail.inputs])


def _joins(model: Artifact) -> str:
    lines = []
    for join in joined_of(model):
        parts = [
            f"{model.outputs[place].name} at "
            + ", ".join(":".join(map(str, ends)) for ends in slices)
            for place, _, _, slices in join.parts
        ]
        lines.append(f"- {join.output}, along axis {join.axis}: " + "; ".join(parts))
    return "\n".join(lines)


def _listed(specs: Sequence[TensorSpec]) -> str:
    lines = []
    for spec in specs:
        text = f"- {spec.name}: {spec.dtype} {list(spec.shape)}, layout {spec.layout}"
        if spec.quantization is not None:
            q = spec.quantization
            text += f", real = {q.scale:g} * (stored - {q.zero_point})"
        lines.append(text)
    return "\n".join(lines)


def _readme(bundle: Bundle, model: Artifact, job: Job) -> str:
    label = "an accelerator" if job.part is None else job.part.label
    compiled = f"There is none for {label} here: {job.why_not}." if job.why_not else ""
    if job.compiled is not None:
        compiled = (
            f"{job.compiled_name} is the same model compiled for {label}. A CPU cannot run it; "
            f"where {label} does not work, {job.model.name} runs instead."
        )
    if model.joins:
        compiled += f"\n\n{_JOINED.format(joins=_joins(model))}"
    if model.tail is not None:
        compiled += (
            f"\n\nThe end of the model was cut off for the CPU: {model.tail.path.name} takes what "
            f"{job.model.name} returns, as real numbers. The runner runs it on the CPU behind "
            f"{job.model.name}, wherever that ran, writes tail_results.npz, and adds `tail` to its "
            "answer: its latency, and how far its outputs are from tail_expected.npz. Its outputs:"
            f"\n\n{_listed(model.tail.outputs)}"
        )
    return _README.format(
        name=bundle.manifest["model"],
        model=job.model.name,
        compiled=compiled,
        needs="" if job.part is None else job.part.needs,
        label=label,
        rounding=f", {job.part.rounding}" if job.part is not None and job.part.rounding else "",
        inputs=_listed(model.inputs),
        outputs=_listed(model.outputs),
    ).replace("\n\n\n\n", "\n\n")
