"""Measure the layers of stages that are compared with the same values.

The reference writes its values to a file; the stages then run side by side, each in the worker of
its runtime, and read from it one value after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.convert.onnx.value_map import HeldValue
from edgeconv.convert.torch.values import Values
from edgeconv.core.arrays import write_npz
from edgeconv.core.artifacts import Arrays, Artifact, Format
from edgeconv.core.errors import EdgeconvError, first_line
from edgeconv.core.streams import remove
from edgeconv.metrics import parity
from edgeconv.metrics.layer_errors import Ratio
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool

MEASURE = {
    Format.ONNX: (WorkerKind.ONNXRUNTIME, "edgeconv.parity.layers.onnx_values:measure"),
    Format.SAVED_MODEL: (WorkerKind.TENSORFLOW, "edgeconv.parity.layers.saved_model:measure"),
    Format.TFLITE: (WorkerKind.LITERT, "edgeconv.parity.layers.tflite_file:measure"),
}
"""The worker and the function that measures the layers of each format."""

Record = Callable[[Path], Sequence[str]]
"""Writes the reference's values of all samples; returns their names by number."""


@dataclass(slots=True)
class Sums:
    """What was added up of one layer."""

    op: str
    here: Ratio = field(default_factory=Ratio)
    carried: Ratio = field(default_factory=Ratio)

    def add(self, signal: float, here: float, carried: float) -> None:
        """Add what a worker has added up."""
        self.here.merge((signal, here))
        self.carried.merge((signal, carried))


@dataclass(frozen=True, slots=True)
class Hop:
    """Stages, and what they are compared with.

    Attributes:
        stages: Artifacts by stage.
        held: The values that their tensors may hold.
        record: Runs the reference.
    """

    stages: Mapping[str, Artifact]
    held: Sequence[HeldValue]
    record: Record


@dataclass(frozen=True, slots=True)
class HopResult:
    """The layers of a hop's stages.

    Attributes:
        sums: By stage, by value.
        notes: By stage, why its layers could not be measured.
    """

    sums: dict[str, dict[str, Sums]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def measure_hop(workers: WorkerPool, hop: Hop, inputs: Arrays, scratch: Path) -> HopResult:
    """Measure the layers of a hop's stages.

    Args:
        workers: Where they run.
        hop: The hop.
        inputs: Samples by input name, ``[sample, ...]``, as the source model takes them.
        scratch: A directory of its own for temporary files.
    """
    result = HopResult()
    for name, artifact in hop.stages.items():
        write_npz(_feeds(scratch, name), parity.store(inputs, artifact.inputs))
    path = scratch / "values"
    try:
        numbers = {name: number for number, name in enumerate(hop.record(path))}
        _measure_stages(workers, hop, result, numbers, path)
    except EdgeconvError as error:
        result.notes.update(dict.fromkeys(hop.stages, first_line(error)))
    finally:
        remove(path)
    return result


def _feeds(scratch: Path, stage: str) -> Path:
    return scratch / f"{stage}.npz"


def _measure_stages(
    workers: WorkerPool, hop: Hop, result: HopResult, numbers: Mapping[str, int], path: Path
) -> None:
    with ThreadPoolExecutor(len(MEASURE), "edgeconv-layers") as threads:
        answers = {
            name: threads.submit(_call, workers, hop, name, numbers, path) for name in hop.stages
        }
    for name, answer in answers.items():
        try:
            for value, (op, *figures) in answer.result().items():
                sums = result.sums.setdefault(name, {})
                sums.setdefault(value, Sums(op)).add(*figures)
        except EdgeconvError as error:
            result.notes[name] = first_line(error)


def _call(
    workers: WorkerPool, hop: Hop, name: str, numbers: Mapping[str, int], path: Path
) -> Mapping[str, Any]:
    artifact = hop.stages[name]
    kind, function = MEASURE[artifact.format]
    answer: Mapping[str, Any] = workers.call(
        kind,
        function,
        model=artifact.to_dict(),
        feeds=str(_feeds(path.parent, name)),
        held=[item.to_dict() for item in hop.held],
        numbers=numbers,
        reference=str(path),
    )
    return answer


def from_onnx(
    workers: WorkerPool, onnx: Artifact, held: Sequence[HeldValue], inputs: Arrays, scratch: Path
) -> Record:
    """Return what records an ONNX file's values, in onnxruntime."""
    feeds = scratch / "reference.npz"
    write_npz(feeds, parity.store(inputs, onnx.inputs))

    def record(path: Path) -> list[str]:
        names: list[str] = workers.call(
            WorkerKind.ONNXRUNTIME,
            "edgeconv.parity.layers.onnx_values:record",
            onnx_model=onnx.to_dict(),
            feeds=str(feeds),
            names=[item.value for item in held],
            results=str(path),
        )
        return names

    return record


def from_torch(torch: Values, held: Sequence[HeldValue], inputs: Arrays) -> Record:
    """Return what records a PyTorch program's values."""
    names = [item.value for item in held]

    def record(path: Path) -> list[str]:
        torch.record(inputs, names, path)
        return names

    return record
