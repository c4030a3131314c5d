"""Measure the layers of every stage on a bundle's vectors.

The ONNX file is the reference of the SavedModel and of float .tflite files; a float .tflite file is
the one of what was quantized from it. Samples pass in portions, so that neither memory nor disk
grows with their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeconv import parity
from edgeconv.arrays import write_npz
from edgeconv.artifacts import Arrays, Artifact, Format
from edgeconv.convert.value_map import PLACE, HeldValue, read_map
from edgeconv.errors import EdgeconvError
from edgeconv.layer_errors import LayerError, Ratio
from edgeconv.layers.onnx_graph import became, origins
from edgeconv.toolchain.pool import WorkerKind, WorkerPool

_PORTION = 128 * 2**20
"""Bytes of reference values that are kept at a time."""

_FLOAT_STAGES = ("tflite_fp32", "tflite_legalised", "tflite_approximated")

MEASURE = {
    Format.SAVED_MODEL: (WorkerKind.TENSORFLOW, "edgeconv.layers.saved_model:measure"),
    Format.TFLITE: (WorkerKind.LITERT, "edgeconv.layers.tflite_file:measure"),
}
"""The worker and the function that measures the layers of each format."""


@dataclass(frozen=True, slots=True)
class StageLayers:
    """The layers of one stage.

    Attributes:
        layers: Every layer that could be matched, in the order of the network.
        unmatched: The others of the ONNX graph: name, operator, why.
        note: Why layers could not be measured, ``""`` where they were.
    """

    layers: tuple[LayerError, ...] = ()
    unmatched: tuple[tuple[str, str, str], ...] = ()
    note: str = ""


@dataclass(slots=True)
class _Sums:
    """What was added up of one layer."""

    op: str
    here: Ratio = field(default_factory=Ratio)
    carried: Ratio = field(default_factory=Ratio)

    def add(self, signal: float, here: float, carried: float) -> None:
        self.here.merge((signal, here))
        self.carried.merge((signal, carried))


def measure_layers(
    workers: WorkerPool, artifacts: Mapping[str, Artifact], inputs: Arrays, scratch: Path
) -> dict[str, StageLayers]:
    """Measure the layers of each stage after the ONNX file.

    Args:
        workers: Where files run.
        artifacts: The stages' artifacts by name, in the pipeline's order.
        inputs: Samples by input name, ``[sample, ...]``, as the source model takes them.
        scratch: Directory for temporary files.

    Returns:
        By stage its layers. A stage whose layers cannot be measured has a note that says why.
    """
    onnx = artifacts.get("onnx")
    saved = artifacts.get("saved_model")
    later = {name: item for name, item in artifacts.items() if item.format in MEASURE}
    known = read_map(saved.path) if saved is not None else None
    if onnx is None or known is None:
        note = f"the SavedModel has no {PLACE}, which says what its tensors hold"
        return {name: StageLayers(note=note) for name in later}
    return _Run(workers, onnx, later, inputs, scratch, *known).run()


def is_direct(stage: str, artifact: Artifact) -> bool:
    """Tell whether a stage's layers are compared with ONNX, not with a float .tflite file."""
    return artifact.format is Format.SAVED_MODEL or stage in _FLOAT_STAGES


class _Run:
    """One measurement of all stages."""

    def __init__(
        self,
        workers: WorkerPool,
        onnx: Artifact,
        stages: Mapping[str, Artifact],
        inputs: Arrays,
        scratch: Path,
        held: Sequence[HeldValue],
        same: Mapping[str, str],
        absent: Mapping[str, str],
    ) -> None:
        self._workers = workers
        self._onnx = onnx
        self._stages = stages
        self._inputs = inputs
        self._scratch = scratch
        self._held = held
        self._same = same
        self._absent = absent
        self._graph = origins(onnx.path)
        self._sums: dict[str, dict[str, _Sums]] = {}
        self._notes: dict[str, str] = {}

    def run(self) -> dict[str, StageLayers]:
        """Measure float stages against ONNX, the others against the float stage before."""
        direct = [name for name, item in self._stages.items() if is_direct(name, item)]
        try:
            self._measure(direct)
        except EdgeconvError as error:
            self._notes |= dict.fromkeys(direct, _first_line(error))
        found: dict[str, StageLayers] = {}
        base = ""
        for name, artifact in self._stages.items():
            if name in direct:
                found[name] = self._result(name)
                base = name if name in _FLOAT_STAGES else base
            elif base:
                found[name] = self._quantized(self._stages[base], artifact)
        return found

    def _measure(self, names: Sequence[str]) -> None:
        count = len(next(iter(self._inputs.values())))
        for name in ("onnx", *names):
            artifact = self._onnx if name == "onnx" else self._stages[name]
            write_npz(self._feeds(name), parity.store(self._inputs, artifact.inputs))
        bytes_each = 4 * sum(math.prod(item.shape) for item in self._held)
        size = max(1, _PORTION // max(1, bytes_each))
        for start in range(0, count, size):
            self._portion(names, start, min(count, start + size))

    def _portion(self, names: Sequence[str], start: int, stop: int) -> None:
        """Measure some samples."""
        path = self._scratch / "onnx_values.npz"
        recorded = self._workers.call(
            WorkerKind.ONNXRUNTIME,
            "edgeconv.layers.onnx_values:record",
            onnx_model=self._onnx.to_dict(),
            feeds=str(self._feeds("onnx")),
            start=start,
            stop=stop,
            names=[item.value for item in self._held],
            results=str(path),
        )
        numbers = {name: number for number, name in enumerate(recorded)}
        for name in names:
            if name in self._notes:
                continue
            try:
                self._add(name, self._call(name, start, stop, numbers, path))
            except EdgeconvError as error:
                self._notes[name] = _first_line(error)
        path.unlink()

    def _call(
        self, name: str, start: int, stop: int, numbers: Mapping[str, int], path: Path
    ) -> Mapping[str, Any]:
        artifact = self._stages[name]
        kind, function = MEASURE[artifact.format]
        answer: Mapping[str, Any] = self._workers.call(
            kind,
            function,
            model=artifact.to_dict(),
            feeds=str(self._feeds(name)),
            start=start,
            stop=stop,
            held=[item.to_dict() for item in self._held],
            numbers=numbers,
            reference=str(path),
        )
        return answer

    def _add(self, stage: str, answer: Mapping[str, Any]) -> None:
        sums = self._sums.setdefault(stage, {})
        for value, (op, *figures) in answer.items():
            sums.setdefault(value, _Sums(op)).add(*figures)

    def _result(self, stage: str) -> StageLayers:
        if stage in self._notes:
            return StageLayers(note=self._notes[stage])
        sums = self._sums.get(stage, {})
        layers = [
            self._located(
                LayerError(
                    name, sums[name].op, sums[name].here.decibels, sums[name].carried.decibels
                )
            )
            for name in self._graph
            if name in sums
        ]
        return StageLayers(tuple(layers), self._unmatched(sums))

    def _quantized(self, before: Artifact, after: Artifact) -> StageLayers:
        feeds = self._scratch / "quantized.npz"
        write_npz(feeds, parity.store(self._inputs, before.inputs))
        try:
            answer = self._workers.call(
                WorkerKind.LITERT,
                "edgeconv.layers.tflite_file:of_quantized",
                before=before.to_dict(),
                after=after.to_dict(),
                feeds=str(feeds),
                held=[item.to_dict() for item in self._held],
            )
        except EdgeconvError as error:
            return StageLayers(note=_first_line(error))
        layers = [self._located(LayerError.from_dict(item)) for item in answer]
        return StageLayers(tuple(layers), self._unmatched({item.name: item for item in layers}))

    def _located(self, layer: LayerError) -> LayerError:
        origin = self._graph.get(layer.name)
        if origin is None:
            return layer
        return replace(layer, onnx_node=origin.node, module=origin.module, source=origin.source)

    def _unmatched(self, matched: Mapping[str, object]) -> tuple[tuple[str, str, str], ...]:
        return tuple(
            (name, origin.op, self._why(name, matched))
            for name, origin in self._graph.items()
            if name not in matched
        )

    def _why(self, name: str, matched: Mapping[str, object]) -> str:
        if name in self._absent:
            return self._absent[name]
        if self._same.get(name) in matched:
            return f"the same tensor as {self._same[name]}"
        later = became(name, self._graph, matched)
        return f"part of {later}" if later else "no tensor holds it"

    def _feeds(self, name: str) -> Path:
        return self._scratch / f"layers_{name}.npz"


def _first_line(error: EdgeconvError) -> str:
    return str(error).splitlines()[0]
