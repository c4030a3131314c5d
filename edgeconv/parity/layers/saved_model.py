"""The layers of a SavedModel. Imports TensorFlow: call `measure` in a worker.

The signature's graph is run in pieces, so that memory holds the values of one of them only. What a
piece reads of earlier ones is fed. For the error that a layer makes by itself the graph is cut:
whatever reads a tensor that is known from the reference reads the reference's value instead. A
layer is then all that lies between two known tensors. Weights stay where TensorFlow loaded them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

from edgeconv.convert.onnx.value_map import HeldValue
from edgeconv.convert.saved_model.write import SIGNATURE
from edgeconv.core.arrays import read_npz, sample_of
from edgeconv.core.artifacts import Array, Arrays, Artifact
from edgeconv.core.streams import SampleReader
from edgeconv.metrics.layer_errors import Ratio
from edgeconv.toolchain.runtimes import saved_model

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_FED = "edgeconv_fed/"

_PIECE = 48 * 2**20
"""Bytes of values with which a piece is full."""


def measure(
    model: Mapping[str, Any],
    feeds: str,
    held: Sequence[Mapping[str, Any]],
    numbers: Mapping[str, int],
    reference: str,
    keep: Mapping[str, str] | None = None,
) -> dict[str, list[Any]]:
    """Add up signal and noise of every layer over some samples.

    Args:
        model: The artifact, `Artifact.to_dict`.
        feeds: ``.npz`` of the samples by input name, in the stored form.
        held: What the model's tensors hold, `HeldValue.to_dict`.
        numbers: Number of each ONNX value in `reference`.
        reference: What `edgeconv.parity.layers.onnx_values.record` wrote of the samples.
        keep: A ``value`` whose result of the last sample, from the layer alone, goes to ``path``.

    Returns:
        By value: operator, signal, noise of the layer alone, noise of the whole run.
    """
    artifact = Artifact.from_dict(model)
    values = [HeldValue.from_dict(item) for item in held]
    with _unoptimized():
        network = _Network(artifact, [value for value in values if value.value in numbers])
        return _measured(network, feeds, numbers, reference, keep)


def _measured(
    network: _Network,
    feeds: str,
    numbers: Mapping[str, int],
    reference: str,
    keep: Mapping[str, str] | None,
) -> dict[str, list[Any]]:
    arrays = read_npz(Path(feeds))
    count = len(next(iter(arrays.values())))
    here = [Ratio() for _ in network.values]
    carried = [Ratio() for _ in network.values]
    own: list[dict[int, Array]] = [{} for _ in range(count)]
    with closing(SampleReader(Path(reference))) as reader:

        def expected(index: int, number: int) -> Array:
            value = network.values[number]
            return value.store(reader.read(index, numbers[value.value]))

        for piece in network.pieces():
            whole = network.function(piece.numbers, range(piece.numbers[0]))
            apart = network.function(piece.numbers, range(len(network.values)))
            for index in range(count):
                inputs = sample_of(arrays, index)
                given = {number: own[index][number] for number in whole.fed}
                found = whole.run(inputs, given)
                for number, array in found.items():
                    carried[number].add(expected(index, number), array)
                own[index] = {
                    number: array
                    for number, array in (own[index] | found).items()
                    if number in piece.later
                }
                given = {number: expected(index, number) for number in apart.fed}
                for number, array in apart.run(inputs, given).items():
                    here[number].add(expected(index, number), array)
                    if keep is not None and network.values[number].value == keep["value"]:
                        np.save(keep["path"], array)
    return {
        value.value: [network.operator(value), one.signal, one.noise, all_.noise]
        for value, one, all_ in zip(network.values, here, carried, strict=True)
    }


@contextmanager
def _unoptimized() -> Iterator[None]:
    """Keep TensorFlow from fusing layers: what is looked at inside them would cost twice."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False, **before})


@dataclass(frozen=True, slots=True)
class _Piece:
    """Values that are computed together.

    Attributes:
        numbers: Their numbers.
        later: The values up to here that later pieces read.
    """

    numbers: tuple[int, ...]
    later: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Function:
    """A part of the graph that can be run.

    Attributes:
        call: Takes the model's inputs, then what is fed.
        inputs: Names of the inputs in order.
        fed: Numbers of the values that are fed, in order.
        numbers: Numbers of the values that it returns, in order.
    """

    call: Any
    inputs: tuple[str, ...]
    fed: tuple[int, ...]
    numbers: tuple[int, ...]

    def run(self, inputs: Arrays, given: Mapping[int, Array]) -> dict[int, Array]:
        """Return the values by number, stored form."""
        arrays = [inputs[name] for name in self.inputs] + [given[number] for number in self.fed]
        found = self.call(*map(tf.constant, arrays))
        return {number: tensor.numpy() for number, tensor in zip(self.numbers, found, strict=True)}


class _Network:
    """A signature as one flat graph.

    Attributes:
        values: The values that its tensors hold, in order.
    """

    def __init__(self, artifact: Artifact, values: Sequence[HeldValue]) -> None:
        self._loaded = saved_model.load(str(artifact.path))  # keeps the variables alive
        outer = self._loaded.signatures[SIGNATURE].graph
        (call,) = (item for item in outer.get_operations() if item.type in _CALLS)
        library = outer.as_graph_def().library
        name = call.get_attr("f").name
        (inner,) = (item for item in library.function if item.signature.name == name)
        graph, _ = function_def_to_graph_def(inner)
        self._library, self._versions = library, graph.versions
        self._nodes = {node.name: node for node in graph.node}
        weights = {place.name: tensor for tensor, place in outer.captures}
        arguments = [argument.name for argument in inner.signature.input_arg]
        pairs = list(zip(arguments, call.inputs, strict=True))
        self._weights = {own: weights[given.name] for own, given in pairs if given.name in weights}
        # TensorFlow sorts the inputs of a signature by their names.
        places = [(own, given) for own, given in pairs if given.name not in weights]
        self._inputs = dict(zip(sorted(spec.name for spec in artifact.inputs), places, strict=True))
        self.values = [
            value for value in values if value.node in self._nodes and value.node not in arguments
        ]
        self._numbers = {value.tensor: number for number, value in enumerate(self.values)}

    def operator(self, value: HeldValue) -> str:
        """Return the TensorFlow operator that makes a value."""
        return str(self._nodes[value.node].op)

    def pieces(self) -> list[_Piece]:
        """Return the pieces in order."""
        parts: list[list[int]] = []
        room = 0
        for number, value in enumerate(self.values):
            size = 4 * math.prod(map(abs, value.shape))
            if not parts or size > room:
                parts.append([])
                room = _PIECE
            parts[-1].append(number)
            room -= size
        pieces: list[_Piece] = []
        later: set[int] = set()
        for numbers in reversed(parts):
            pieces.append(_Piece(tuple(numbers), frozenset(later)))
            later |= self._reached(numbers, range(numbers[0]))[1]
        return pieces[::-1]

    def _reached(
        self, numbers: Iterable[int], known: Collection[int]
    ) -> tuple[dict[str, None], set[int]]:
        """Return the nodes that compute some values from known ones, and the known ones."""
        queue = [self.values[number].node for number in numbers]
        nodes = dict.fromkeys(queue)
        fed: set[int] = set()
        while queue:
            for text in self._nodes[queue.pop()].input:
                if text.startswith("^"):
                    continue
                node, tensor = _source(text)
                number = self._numbers.get(tensor, -1)
                if number in known:
                    fed.add(number)
                elif node not in nodes:
                    nodes[node] = None
                    queue.append(node)
        return nodes, fed

    def function(self, numbers: Sequence[int], known: Collection[int]) -> _Function:
        """Return what computes some values where others are known."""
        nodes, reached = self._reached(numbers, known)
        fed = sorted(reached)
        graph = tf.compat.v1.GraphDef(library=self._library, versions=self._versions)
        for name in nodes:
            if name not in self._weights and name not in dict(self._inputs.values()):
                _copy(graph.node.add(), self._nodes[name], self._numbers, reached)
        inputs = [(name, *place) for name, place in self._inputs.items() if place[0] in nodes]
        places = [f"{own}:0" for _, own, _ in inputs] + [f"{_FED}{number}:0" for number in fed]
        weights = {f"{own}:0": item for own, item in self._weights.items() if own in nodes}
        wanted = [self.values[number].tensor for number in numbers]

        def traced(*tensors: Any) -> Any:
            capture = tf.compat.v1.get_default_graph().capture
            known = {place: capture(tensor) for place, tensor in weights.items()}
            known |= dict(zip(places, tensors, strict=True))
            return tf.graph_util.import_graph_def(
                graph, input_map=known, return_elements=wanted, name="piece"
            )

        specs = [tf.TensorSpec(given.shape, given.dtype) for _, _, given in inputs]
        specs += [tf.TensorSpec(_open(self.values[number].shape), tf.float32) for number in fed]
        call = tf.function(traced, autograph=False).get_concrete_function(*specs)
        names = tuple(name for name, _, _ in inputs)
        return _Function(call, names, tuple(fed), tuple(numbers))


def _copy(copy: Any, node: Any, numbers: Mapping[str, int], fed: Collection[int]) -> None:
    """Copy a node; it reads what is fed from there."""
    copy.CopyFrom(node)
    del copy.input[:]
    for text in node.input:
        tensor = _source(text)[1]
        number = numbers.get(tensor, -1)
        # A function's control inputs only order side effects, and a model has none.
        if not text.startswith("^"):
            copy.input.append(f"{_FED}{number}:0" if number in fed else tensor)


def _source(text: str) -> tuple[str, str]:
    """Return the node and the full name of a tensor that a node reads."""
    node, _, number = text.removeprefix("^").partition(":")
    return node, f"{node}:{number or 0}"


def _open(shape: Sequence[int]) -> list[int | None]:
    return [None if size < 0 else size for size in shape]
