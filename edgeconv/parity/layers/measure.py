"""Measure the layers of every stage on a bundle's vectors.

The PyTorch program is the reference of the ONNX file, that file the one of the SavedModel and of
float .tflite files, and a float .tflite file the one of what was quantized from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeconv.convert.onnx.value_map import PLACE, HeldValue, read_map
from edgeconv.convert.torch.values import Values
from edgeconv.core.arrays import write_npz
from edgeconv.core.artifacts import Arrays, Artifact, Format
from edgeconv.core.disk import sha256_of
from edgeconv.core.errors import EdgeconvError, first_line
from edgeconv.metrics import parity
from edgeconv.metrics.layer_errors import LayerError
from edgeconv.metrics.layers_report import Trial, Unmatched
from edgeconv.parity.layers.hops import (
    Hop,
    HopResult,
    from_onnx,
    from_torch,
    measure_hop,
)
from edgeconv.parity.layers.onnx_graph import Origin, became, origins
from edgeconv.targets.gates import float_stages
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool

LAYER_SAMPLES = 4
"""How many samples layers are measured on; more of them hardly change a ratio of so many values."""

_MOST_BYTES = 384 * 2**20
"""What the reference's values may take on disk; where they take more, fewer samples are used."""

_AFTER_ONNX = (Format.SAVED_MODEL, Format.TFLITE)
_UNKNOWN = (
    f"the SavedModel has no {PLACE}, which says what its tensors hold; only edgeconv's own "
    "translator writes it"
)


@dataclass(frozen=True, slots=True)
class StageLayers:
    """The layers of one stage.

    Attributes:
        layers: Every layer that could be matched, in the order of the network.
        unmatched: The others of both graphs.
        note: Why layers could not be measured, ``""`` where they were.
        samples: How many samples they were measured on.
        digest: SHA-256 of the file, where it cannot be measured again from the bundle.
        trials: What was tried against the stage's loss, in that order.
    """

    layers: tuple[LayerError, ...] = ()
    unmatched: tuple[Unmatched, ...] = ()
    note: str = ""
    samples: int = 0
    digest: str = ""
    trials: tuple[Trial, ...] = ()


NOT_RECORDED = StageLayers(
    note="the TorchScript exporter made the file, which does not record what its values are"
)
"""What is known of an ONNX file whose PyTorch program cannot be followed."""


def measure_layers(
    workers: WorkerPool,
    artifacts: Mapping[str, Artifact],
    inputs: Arrays,
    scratch: Path,
) -> dict[str, StageLayers]:
    """Measure the layers of each stage after the ONNX file.

    Args:
        workers: Where files run.
        artifacts: The stages' artifacts by name, in the pipeline's order.
        inputs: Samples by input name, ``[sample, ...]``, as the source model takes them; up to
            `LAYER_SAMPLES` of them are used, fewer where their values are large.
        scratch: Directory for temporary files.

    Returns:
        By stage its layers. A stage whose layers cannot be measured has a note that says why.
    """
    onnx = artifacts.get("onnx")
    later = {name: item for name, item in artifacts.items() if item.format in _AFTER_ONNX}
    if onnx is None or onnx.format is not Format.ONNX:
        return {name: StageLayers(note="there is no ONNX file to compare with") for name in later}
    return _after_onnx(workers, onnx, later, inputs, scratch)


def _some(inputs: Arrays, held: Sequence[HeldValue]) -> Arrays:
    """Return a few of the samples, evenly spread: as many as have room for the held values."""
    count = len(next(iter(inputs.values())))
    bytes_each = 4 * sum(math.prod(map(abs, item.shape)) for item in held)
    wanted = max(1, min(LAYER_SAMPLES, _MOST_BYTES // max(1, bytes_each)))
    step = -(-count // wanted)
    return {name: array[::step] for name, array in inputs.items()}


def layers_of_onnx(
    workers: WorkerPool, onnx: Artifact, torch: Values, inputs: Arrays, scratch: Path
) -> StageLayers:
    """Measure the layers of an ONNX file against the PyTorch program that it was made from."""
    match = torch.match(onnx.path)
    held = [
        HeldValue(name, name, tuple(range(len(shape))), shape)
        for name, shape in match.shapes.items()
    ]
    inputs = _some(inputs, held)
    hop = Hop({"onnx": onnx}, held, from_torch(torch, held, inputs))
    folder = _folder(scratch, "torch")
    result = measure_hop(workers, hop, inputs, folder)
    names = _Names(origins(onnx.path))
    found = names.layers("onnx", result, len(next(iter(inputs.values()))))
    unmatched = (*(Unmatched(*item) for item in match.unmatched), *found.unmatched)
    return replace(found, unmatched=unmatched, digest=sha256_of(onnx.path))


def _after_onnx(
    workers: WorkerPool,
    onnx: Artifact,
    stages: Mapping[str, Artifact],
    inputs: Arrays,
    scratch: Path,
) -> dict[str, StageLayers]:
    """Measure float stages against ONNX, the others against the float stage before."""
    graph = origins(onnx.path)
    names, result = _Names(graph), HopResult()
    direct = {name: item for name, item in stages.items() if is_direct(name, item)}
    saved = next((item for item in direct.values() if item.format is Format.SAVED_MODEL), None)
    known = read_map(saved.path) if saved is not None else None
    if known is None:
        result.notes.update(dict.fromkeys(direct, _UNKNOWN))
    else:
        names = _Names(graph, *known)
    inputs = _some(inputs, names.held)
    count = len(next(iter(inputs.values())))
    if known is not None:
        folder = _folder(scratch, "onnx")
        record = from_onnx(workers, onnx, names.held, inputs, folder)
        result = measure_hop(workers, Hop(direct, names.held, record), inputs, folder)
    found: dict[str, StageLayers] = {}
    base = bases(stages)
    for name, artifact in stages.items():
        if name in direct:
            found[name] = names.layers(name, result, count)
        elif name in base:
            found[name] = _quantized(workers, stages[base[name]], artifact, inputs, scratch, names)
    return found


def bases(stages: Mapping[str, Artifact]) -> dict[str, str]:
    """Return of each quantized stage the float one that its layers are compared with."""
    found, base = {}, ""
    for name, artifact in stages.items():
        if name in float_stages():
            base = name
        elif base and artifact.format is Format.TFLITE:
            found[name] = base
    return found


def is_direct(stage: str, artifact: Artifact) -> bool:
    """Tell whether a stage's layers are compared with ONNX, not with a float .tflite file."""
    return artifact.format is Format.SAVED_MODEL or stage in float_stages()


def _quantized(
    workers: WorkerPool,
    before: Artifact,
    after: Artifact,
    inputs: Arrays,
    scratch: Path,
    names: _Names,
) -> StageLayers:
    feeds = scratch / "quantized.npz"
    write_npz(feeds, parity.store(inputs, before.inputs))
    try:
        answer = workers.call(
            WorkerKind.LITERT,
            "edgeconv.parity.layers.tflite_file:of_quantized",
            before=before.to_dict(),
            after=after.to_dict(),
            feeds=str(feeds),
            held=[item.to_dict() for item in names.held],
        )
    except EdgeconvError as error:
        return StageLayers(note=first_line(error))
    layers = [names.located(LayerError.from_dict(item)) for item in answer]
    unmatched = names.unmatched({item.name: item for item in layers}) if names.held else ()
    return StageLayers(tuple(layers), unmatched, samples=len(next(iter(inputs.values()))))


def _folder(scratch: Path, name: str) -> Path:
    folder = scratch / f"layers_{name}"
    folder.mkdir(exist_ok=True)
    return folder


class _Names:
    """The ONNX graph's values: where they come from, and why no tensor holds some of them.

    Args:
        graph: The origin of every value.
        held: The values that tensors hold.
        same: Values that are only another view of a held one, by name.
        absent: Why no tensor holds the other ones.
    """

    def __init__(
        self,
        graph: Mapping[str, Origin],
        held: Sequence[HeldValue] = (),
        same: Mapping[str, str] | None = None,
        absent: Mapping[str, str] | None = None,
    ) -> None:
        self.held = held
        self._graph = graph
        self._same = same or {}
        self._absent = absent or {}

    def layers(self, stage: str, result: HopResult, samples: int) -> StageLayers:
        """Return what was measured of a stage, in the order of the network."""
        if stage in result.notes:
            return StageLayers(note=result.notes[stage])
        sums = result.sums.get(stage, {})
        layers = [
            self.located(
                LayerError(
                    name, sums[name].op, sums[name].here.decibels, sums[name].carried.decibels
                )
            )
            for name in self._graph
            if name in sums
        ]
        return StageLayers(tuple(layers), self.unmatched(sums), samples=samples)

    def located(self, layer: LayerError) -> LayerError:
        """Return a layer with the ONNX node, the module and the source line that it is from."""
        origin = self._graph.get(layer.name)
        if origin is None:
            return layer
        return replace(layer, onnx_node=origin.node, module=origin.module, source=origin.source)

    def unmatched(self, matched: Mapping[str, object]) -> tuple[Unmatched, ...]:
        """Return the values that no tensor of a stage holds."""
        return tuple(
            Unmatched(name, origin.op, self._why(name, matched))
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
