"""Put QUANTIZE and DEQUANTIZE where operators of different precision meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgeconv.quantize.rewrite.edges import DEQUANTIZE_VERSION, QUANTIZE_VERSION
from edgeconv.quantize.rules.precision import BITS
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_FLOAT = 32
_EDGES = {"int8": 8, "uint8": 8, "int16": 16}


@dataclass(slots=True)
class Split:
    """How a graph was split.

    Attributes:
        bits: 8 or 16 for each float activation that becomes an integer one.
        origin: For each tensor that was added, the one that it repeats in another precision.
    """

    bits: dict[int, int] = field(default_factory=dict)
    origin: dict[int, int] = field(default_factory=dict)


def split(graph: Graph, precisions: Sequence[str], io_dtype: str) -> Split:
    """Give every operator activations of its own precision, in place.

    A tensor has the precision of the operator that makes it. Where others need it in another one,
    a converted copy is added. The added operators are valid once the tensors are quantized.

    Args:
        graph: The float graph.
        precisions: The precision of each operator.
        io_dtype: dtype of the graph's inputs and outputs that stand for real numbers.
    """
    return _Splitter(graph, precisions, io_dtype).run()


class _Splitter:
    def __init__(self, graph: Graph, precisions: Sequence[str], io_dtype: str) -> None:
        self._graph = graph
        self._bits = [BITS.get(precision, _FLOAT) for precision in precisions]
        self._edge = _EDGES.get(io_dtype)
        self._home: dict[int, int] = {}
        self._copies: dict[tuple[int, int], int] = {}
        self._made: dict[int, list[OperatorT]] = {}
        self._split = Split()

    def run(self) -> Split:
        graph = self._graph
        for operator, bits in zip(graph.operators, self._bits, strict=True):
            for index in filter(graph.is_activation, operator.outputs):
                self._home[index] = bits
        self._place_inputs()
        for operator, bits in zip(graph.operators, self._bits, strict=True):
            operator.inputs = [self._as(index, bits) for index in operator.inputs]
        if self._edge is not None:
            self._convert_outputs(self._edge)
        first = [operator for index in graph.inputs for operator in self._made.pop(index, [])]
        operators = list(first)
        for operator in graph.operators:
            operators.append(operator)
            for index in operator.outputs:
                operators += self._made.pop(index, [])
        graph.subgraph.operators = operators
        self._split.bits = {index: bits for index, bits in self._home.items() if bits != _FLOAT}
        return self._split

    def _place_inputs(self) -> None:
        """Give the graph's inputs the precision of all their readers, if that is one."""
        wanted: dict[int, set[int]] = {}
        for operator, bits in zip(self._graph.operators, self._bits, strict=True):
            for index in operator.inputs:
                wanted.setdefault(index, set()).add(bits)
        for index in filter(self._graph.is_activation, self._graph.inputs):
            found = wanted.get(index, {_FLOAT})
            self._home[index] = self._edge or (found.pop() if len(found) == 1 else _FLOAT)

    def _as(self, index: int, bits: int) -> int:
        """Return the tensor that holds another one's values in that many bits."""
        if self._home.get(index, bits) == bits:
            return index
        key = (index, bits)
        if key not in self._copies:
            graph, home = self._graph, self._home[index]
            name = f"{graph.name(index)}/{'float' if bits == _FLOAT else f'int{bits}'}"
            copy = graph.add_activation(name, graph.shape(index), "float32")
            steps = self._made.setdefault(index, [])
            steps.append(_crossing(graph, (index, home), (copy, bits)))
            self._copies[key] = copy
            self._home[copy] = bits
            self._split.origin[copy] = index
        return self._copies[key]

    def _convert_outputs(self, bits: int) -> None:
        graph = self._graph
        moved = {index: self._as(index, bits) for index in graph.outputs}
        for index, copy in moved.items():
            if copy != index:
                name = graph.name(index)
                graph.tensors[index].name, graph.tensors[copy].name = f"{name}/inner", name
        graph.subgraph.outputs = [moved[index] for index in graph.outputs]
        for entry in graph.signature_entries():
            if entry.tensorIndex in moved and entry.tensorIndex not in graph.inputs:
                entry.tensorIndex = moved[entry.tensorIndex]


def _crossing(graph: Graph, source: tuple[int, int], target: tuple[int, int]) -> OperatorT:
    """Return the operator between two tensors, each given with its bits."""
    (read, home), (made, bits) = source, target
    if bits == _FLOAT:
        return graph.operator("DEQUANTIZE", DEQUANTIZE_VERSION[home], (read,), (made,))
    return graph.operator("QUANTIZE", QUANTIZE_VERSION[bits], (read,), (made,))
