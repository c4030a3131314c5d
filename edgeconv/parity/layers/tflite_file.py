"""The layers of a .tflite file. Runs LiteRT: call `measure` in a worker."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.convert.onnx.value_map import HeldValue, scope_name
from edgeconv.core.arrays import read_npz
from edgeconv.core.artifacts import Array, Artifact, TensorSpec
from edgeconv.core.streams import SampleReader
from edgeconv.metrics.layer_errors import LayerError, Ratio
from edgeconv.parity.layers import excerpt
from edgeconv.quantize.recovery.localise import isolated, of_files, prune
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

_PIECE = 48 * 2**20
"""Bytes of values that layers make, each by itself, at a time."""


def matched(
    graph: Graph, held: Sequence[HeldValue], outputs: Sequence[TensorSpec]
) -> dict[int, HeldValue]:
    """Return the ONNX value of each tensor that is known to hold one.

    The converter names a tensor after the nodes that went into it, and an output of the file has
    the value's own name. The outputs of an operator with several, such as SPLIT, all have its
    node's name, with a number behind: those go by their place, which the converter keeps. Only a
    tensor of the value's stored shape is taken.
    """
    names = _Names(held)
    results = {spec.name: spec for spec in outputs}
    by_value = {value.value: value for value in held}
    found: dict[str, tuple[int, HeldValue]] = {}
    for operator in graph.operators:
        several = len(operator.outputs) > 1
        for place, index in enumerate(operator.outputs):
            name, value = graph.name(index), None
            if name in results and name in by_value:
                spec = results[name]
                value = HeldValue(name, name, spec.permutation, graph.shape(index))
            else:
                value = names.value_of(name, place if several else None)
            if value is not None and value.fits(graph.shape(index)) and graph.is_float(index):
                found[value.value] = (index, value)
    return dict(found.values())


class _Names:
    """Reads the names that TensorFlow's converter gives to tensors.

    They are the names of the fused nodes joined by ``;``, and a number after the last of them
    where another tensor has the name already. Nodes lie in the scope of the ONNX value that they
    compute. The tensor holds the last of these values, if the very node that held it is there:
    where it is not, something was added that is no value, and nothing is known.
    """

    def __init__(self, held: Sequence[HeldValue]) -> None:
        self._held = held
        self._nodes = {value.node: number for number, value in enumerate(held)}
        self._scopes = {scope_name(value.value): number for number, value in enumerate(held)}
        self._outputs = {value.tensor: value for value in held}
        self._counts = Counter(value.node for value in held)

    def value_of(self, name: str, place: int | None = None) -> HeldValue | None:
        """Return the value that a tensor holds.

        Args:
            name: The tensor's name.
            place: Which output of its operator it is, of an operator with several.
        """
        parts = name.split(";")
        ends = [parts[-1][: len(parts[-1]) - count] for count in _digits(parts[-1])]
        parts[-1] = next((end for end in ends if end in self._nodes), parts[-1])
        last = max((self._scope(part) for part in parts), default=-1)
        if last < 0 or self._held[last].node not in parts:
            return None
        node = self._held[last].node
        if place is not None:
            return self._outputs.get(f"{node}:{place}")
        return self._held[last] if self._counts[node] == 1 else None

    def _scope(self, part: str) -> int:
        """Return the number of the value that a node is a part of, -1 where it is none."""
        while part:
            if part in self._scopes:
                return self._scopes[part]
            part = part.rpartition("/")[0]
        return -1


def _digits(text: str) -> range:
    """Return how many characters may be taken off the end: up to all of its digits."""
    return range(len(text) - len(text.rstrip("0123456789")) + 1)


def measure(
    model: Mapping[str, Any],
    feeds: str,
    held: Sequence[Mapping[str, Any]],
    numbers: Mapping[str, int],
    reference: str,
    keep: Mapping[str, str] | None = None,
) -> dict[str, list[Any]]:
    """Add up signal and noise of every layer; see `edgeconv.parity.layers.saved_model.measure`."""
    artifact = Artifact.from_dict(model)
    graph = Graph(tflite.load(artifact.path))
    values = [HeldValue.from_dict(item) for item in held]
    pairs = {
        index: value
        for index, value in matched(graph, values, artifact.outputs).items()
        if value.value in numbers
    }
    if not pairs:
        return {}
    here = {index: Ratio() for index in pairs}
    carried = {index: Ratio() for index in pairs}
    arrays = read_npz(Path(feeds))
    count = len(next(iter(arrays.values())))
    rows = [[arrays[spec.name][index, ...] for spec in artifact.inputs] for index in range(count)]
    with closing(SampleReader(Path(reference))) as reader:

        def expected(sample: int, index: int) -> Array:
            value = pairs[index]
            return value.store(reader.read(sample, numbers[value.value]))

        def see_whole(sample: int, index: int, array: Array) -> None:
            carried[index].add(expected(sample, index), array)

        def see_apart(sample: int, index: int, array: Array) -> None:
            here[index].add(expected(sample, index), array)
            if keep is not None and keep["value"] == pairs[index].value:
                np.save(keep["path"], array)

        runner = Runner(graph, list(pairs))
        for sample, row in enumerate(rows):
            runner.show(row, partial(see_whole, sample))
        del runner
        # `isolated` looks at the keys alone.
        alone, fed = isolated(graph, dict.fromkeys(pairs, 0))
        for wanted in _pieces(graph, pairs):
            piece = alone.copy()
            read = prune(piece, fed, wanted)
            runner = Runner(piece, wanted)
            for sample, row in enumerate(rows):
                known = [expected(sample, index) for index in read]
                runner.show([*known, *row], partial(see_apart, sample))
            del runner
    producers = graph.producers()
    return {
        value.value: [
            graph.op(producers[index]),
            here[index].signal,
            here[index].noise,
            carried[index].noise,
        ]
        for index, value in pairs.items()
    }


def _pieces(graph: Graph, tensors: Iterable[int]) -> list[list[int]]:
    """Return the tensors in order, so many together that memory holds their values."""
    pieces: list[list[int]] = []
    room = 0
    for index in tensors:
        size = 4 * math.prod(map(abs, graph.shape(index)))
        if not pieces or size > room:
            pieces.append([])
            room = _PIECE
        pieces[-1].append(index)
        room -= size
    return pieces


def _values_of(artifact: Artifact, held: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the ONNX value of each tensor that is known to hold one, by the tensor's name."""
    graph = Graph(tflite.load(artifact.path))
    values = [HeldValue.from_dict(item) for item in held]
    found = matched(graph, values, artifact.outputs)
    return {graph.name(index): value.value for index, value in found.items()}


def of_quantized(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    feeds: str,
    held: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return the layers of a quantized file against the float one that it was made from.

    Args:
        before: The float artifact, `Artifact.to_dict`.
        after: The quantized one.
        feeds: ``.npz`` of samples by input name, as the float file stores them.
        held: What the SavedModel's tensors hold, `HeldValue.to_dict`.

    Returns:
        `LayerError.to_dict` of each layer, named after the ONNX value that it holds where known.
    """
    first, second = Artifact.from_dict(before), Artifact.from_dict(after)
    arrays = read_npz(Path(feeds))
    count = len(next(iter(arrays.values())))
    rows = [[arrays[spec.name][index, ...] for spec in first.inputs] for index in range(count)]
    names = _values_of(first, held)
    return [
        LayerError(
            name=names.get(layer.name, layer.name),
            op=layer.op,
            here_db=layer.here_db,
            carried_db=layer.carried_db,
        ).to_dict()
        for layer in of_files(str(first.path), str(second.path), rows)
    ]


def write_quantized(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    feeds: str,
    held: Sequence[Mapping[str, Any]],
    name: str,
    directory: str,
) -> list[str]:
    """Write one layer of a quantized file; see `edgeconv.parity.layers.excerpt.write`.

    Args:
        before: The float artifact, `Artifact.to_dict`.
        after: The quantized one.
        feeds: ``.npz`` of samples by input name, as the float file stores them.
        held: What the SavedModel's tensors hold, `HeldValue.to_dict`.
        name: What `of_quantized` calls the layer.
        directory: Where the files go.
    """
    first, second = Artifact.from_dict(before), Artifact.from_dict(after)
    names = _values_of(first, held)
    tensor = next((own for own, value in names.items() if value == name), name)
    arrays = read_npz(Path(feeds))
    feed = [arrays[spec.name][0, ...] for spec in first.inputs]
    return excerpt.write(first.path, second.path, feed, tensor, Path(directory))
