"""One layer of a quantized model as a file of its own, beside the float layer it came from.

Both files take the float model's values and return real numbers: QUANTIZE stands in front of the
quantized layer, DEQUANTIZE behind it, so that whoever runs the two on the same inputs sees the
error of that layer alone. Runs LiteRT: call `write` in a worker.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.schema_py_generated import (
    BuiltinOptions,
    MulOptionsT,
    SignatureDefT,
    TensorMapT,
)

from edgeconv.core.arrays import write_npz
from edgeconv.core.artifacts import Array
from edgeconv.quantize.params import factors
from edgeconv.quantize.recovery.localise import pairs_of
from edgeconv.quantize.rewrite.edges import DEQUANTIZE_VERSION, QUANTIZE_VERSION
from edgeconv.tflite import file as tflite
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

FLOAT, QUANTIZED, INPUTS = "float.tflite", "node.tflite", "inputs.npz"

_BITS = {"int8": 8, "uint8": 8, "int16": 16}
_CALLS = ("IF", "WHILE", "CALL_ONCE", "STABLEHLO_COMPOSITE")
"""Operators that refer to other subgraphs."""


def write(
    before: Path, after: Path, feed: Sequence[Array], tensor: str, directory: Path
) -> list[str]:
    """Write ``float.tflite``, ``node.tflite`` and ``inputs.npz`` of one layer.

    Args:
        before: The float file.
        after: The quantized one.
        feed: The float file's inputs, in order, as it stores them.
        tensor: Name of the tensor in the float file that the layer makes.
        directory: Where the files go.

    Returns:
        The operators of the layer in the quantized file, in order.
    """
    reference, quantized = (Graph(tflite.load(path)) for path in (before, after))
    pairs = pairs_of(reference, quantized)
    target, source = next(pair for pair in pairs.items() if reference.name(pair[1]) == tensor)
    sources = {**dict(zip(quantized.inputs, reference.inputs, strict=True)), **pairs}
    alone, read = excerpt(quantized, target, pairs)
    single, needed = excerpt(reference, source, {sources[index] for index in read})
    names = {index: f"input_{number}" for number, index in enumerate(dict.fromkeys(needed))}
    for index in read:
        names.setdefault(sources[index], f"input_{len(names)}")
    values = Runner(reference, list(names)).run(feed)
    operators = [alone.op(operator) for operator in alone.operators]
    stored = factors.read(quantized)
    scaling = {index: stored.get(reference.name(item)) for index, item in sources.items()}
    _to_real(alone, scaling)
    _sign(alone, [names[sources[index]] for index in read])
    _sign(single, [names[index] for index in needed])
    for graph, name in ((single, FLOAT), (alone, QUANTIZED)):
        graph.compact()
        tflite.save(graph.model, directory / name)
    write_npz(directory / INPUTS, {names[index]: value for index, value in values.items()})
    return operators


def excerpt(graph: Graph, target: int, stops: Collection[int]) -> tuple[Graph, list[int]]:
    """Return the operators that compute a tensor from others, and which of those they read.

    Args:
        graph: The graph, which is left as it is.
        target: The tensor, the one output of the result.
        stops: Tensors that are given; the graph's own inputs are anyway.

    Returns:
        The part, whose inputs are the tensors that are read.
    """
    producers = graph.producers()
    given = {*stops, *graph.inputs}
    if target in producers:
        given.discard(target)
    kept: set[int] = set()
    read: list[int] = []
    queue = [target]
    while queue:
        index = queue.pop()
        if index in given:
            read += [index] * (index not in read)
        elif index in producers and id(producers[index]) not in kept:
            kept.add(id(producers[index]))
            queue += producers[index].inputs
    places = [place for place, item in enumerate(graph.operators) if id(item) in kept]
    part = graph.copy()
    part.subgraph.operators = [part.operators[place] for place in places]
    part.subgraph.inputs, part.subgraph.outputs = list(read), [target]
    if not {part.op(operator) for operator in part.operators} & set(_CALLS):
        part.model.subgraphs = [part.subgraph]
    part.model.signatureDefs, part.model.metadata, part.model.metadataBuffer = [], [], None
    return part, read


def _to_real(graph: Graph, scaling: Mapping[int, Array | None]) -> None:
    """Let integer inputs and the output stand for real numbers, without factors on channels.

    Args:
        graph: The part of a quantized graph.
        scaling: By tensor the factors that equalization put on its channels, ``None`` for none.
    """
    entries: list[OperatorT] = []
    for place, index in enumerate(graph.inputs):
        if graph.tensors[index].quantization is None or graph.dtype(index) not in _BITS:
            continue
        given = _like(graph, index)
        graph.inputs[place] = given
        if scaling[index] is not None:
            given = _scaled(graph, given, scaling[index], entries)
        version = QUANTIZE_VERSION[_BITS[graph.dtype(index)]]
        entries.append(graph.operator("QUANTIZE", version, (given,), (index,)))
    exits: list[OperatorT] = []
    (target,) = graph.outputs
    found = target
    if graph.dtype(target) in _BITS:
        found = _like(graph, target)
        version = DEQUANTIZE_VERSION[_BITS[graph.dtype(target)]]
        exits.append(graph.operator("DEQUANTIZE", version, (target,), (found,)))
    factor = scaling[target]
    if factor is not None:
        found = _scaled(graph, found, 1 / factor, exits)
    graph.subgraph.outputs = [found]
    graph.subgraph.operators = [*entries, *graph.operators, *exits]


def _like(graph: Graph, index: int) -> int:
    """Return a new float tensor of the same shape."""
    return graph.add_activation(f"{graph.name(index)}/real", graph.shape(index), "float32")


def _scaled(graph: Graph, index: int, factor: Array | None, operators: list[OperatorT]) -> int:
    """Append the product of a float tensor and factors on its channels; return its tensor."""
    result = graph.add_activation(f"{graph.name(index)}/scaled", graph.shape(index), "float32")
    constant = graph.add_constant(
        f"{graph.name(index)}/factors", np.asarray(factor, dtype=np.float32)
    )
    options = (BuiltinOptions.MulOptions, MulOptionsT())
    operators.append(graph.operator("MUL", 1, (index, constant), (result,), options))
    return result


def _sign(graph: Graph, names: Sequence[str]) -> None:
    """Give a graph a signature, by which its inputs can be fed under these names."""
    signature = SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs = [_entry(*pair) for pair in zip(names, graph.inputs, strict=True)]
    signature.outputs = [_entry("output", graph.outputs[0])]
    graph.model.signatureDefs = [signature]


def _entry(name: str, index: int) -> TensorMapT:
    entry = TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
