"""Describe a quantized model: its inputs and outputs, and how outputs are joined from parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgeconv.core.artifacts import Artifact, JoinedPart, OutputJoin, Quantization, TensorSpec
from edgeconv.quantize.joins.distribute import Parts, part_names
from edgeconv.tflite.graph import Graph


def describe(
    source: Artifact, graph: Graph, path: Path, parts: Mapping[int, Parts] | None = None
) -> Artifact:
    """Return the artifact of a quantized graph.

    Args:
        source: The float model that it was made from.
        graph: The quantized graph.
        path: Its file.
        parts: By the place of an output that has become several, what it is joined from.
    """
    indices, outputs, joins = iter(graph.outputs), list[TensorSpec](), list[OutputJoin]()
    taken = [spec.name for spec in source.outputs]
    for place, spec in enumerate(source.outputs):
        found = (parts or {}).get(place)
        if found is None:
            outputs.append(_of(spec, graph, next(indices)))
            continue
        names = part_names(spec.name, len(found.parts), taken)
        made = []
        for name, part in zip(names, found.parts, strict=True):
            shape = list(spec.shape)
            shape[found.axis] = len(part.positions)
            own = replace(spec, name=name, shape=tuple(shape))
            outputs.append(_of(own, graph, next(indices)))
            made.append(JoinedPart.at(name, part.positions))
        whole = replace(spec, dtype="float32", quantization=None)
        joins.append(OutputJoin(whole, spec.permutation[found.axis], tuple(made)))
    inputs = tuple(
        _of(spec, graph, index) for spec, index in zip(source.inputs, graph.inputs, strict=True)
    )
    return replace(source, path=path, inputs=inputs, outputs=tuple(outputs), joins=tuple(joins))


def _of(spec: TensorSpec, graph: Graph, index: int) -> TensorSpec:
    return replace(spec, dtype=graph.dtype(index), quantization=_quantization(graph, index))


def _quantization(graph: Graph, index: int) -> Quantization | None:
    stored = graph.tensors[index].quantization
    if stored is None or stored.scale is None or len(stored.scale) == 0:
        return None
    return Quantization(float(stored.scale[0]), int(stored.zeroPoint[0]))
