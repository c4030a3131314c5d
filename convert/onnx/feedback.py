"""What an ONNX graph says of its states: which inputs it hands on to its outputs, and how.

Values are followed back from each output. Through operators that move values the way stays one;
where a recurrent layer made the value, the way goes on with what that layer began with. Cells that
are written out in operators (Hochreiter & Schmidhuber 1997 for the LSTM, Cho et al. 2014 for the
GRU) keep their state by products and sums; buffers are shifted by Slice and Concat, or written to
by Scatter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.convert.onnx.light import load_light
from edgeconv.core.artifacts import Artifact, Format
from edgeconv.core.state_search import Evidence, Link, find_states
from edgeconv.core.states import Part, State, check_states, parse_states

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, ValueInfoProto

_MOVES = frozenset(
    {
        "Cast", "Dropout", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze",
        "Transpose", "Unsqueeze",
    }
)  # fmt: skip
_KEPT_BY = frozenset({"Add", "Concat", "Div", "Mul", "Sub", "Sum", "Where"})
"""Operators that a state passes to be kept; it is among their inputs."""

_WRITES = frozenset({"Pad", "Scatter", "ScatterElements", "ScatterND", "TensorScatter"})
"""Operators that keep their first input."""

_CELLS = {"GRU": (5, 5), "LSTM": (5, 5, 6), "RNN": (5, 5)}
"""For each output of a recurrent layer the input that it began with."""

_GATES = frozenset({"HardSigmoid", "Sigmoid"})

_Shape = tuple[int | None, ...]


def states_of(onnx: Artifact, asked: Sequence[str] = ()) -> tuple[State, ...]:
    """Return the states of a model.

    Args:
        onnx: The model, its inputs and outputs named as users know them.
        asked: What ``--state`` says; the graph and the names tell where it says nothing.

    Raises:
        UsageError: A state that it names is none that the model can have.
    """
    given = parse_states(asked)
    if onnx.format is not Format.ONNX:
        return given or ()
    if given is None:
        return find_states(onnx.inputs, onnx.outputs, evidence_of(onnx.path))
    check_states(given, onnx.inputs, onnx.outputs)
    return given


def evidence_of(path: Path) -> Evidence:
    """Return what the graph of an ONNX file says of its states; its weights are not read."""
    return _Feedback(load_light(path).graph).evidence()


class _Feedback:
    def __init__(self, graph: GraphProto) -> None:
        constants = {item.name for item in graph.initializer}
        self._inputs = [item.name for item in graph.input if item.name not in constants]
        self._outputs = [item.name for item in graph.output]
        typed = (*graph.input, *graph.value_info, *graph.output)
        self._shapes = {item.name: _shape(item) for item in typed}
        self._shapes |= {item.name: tuple(item.dims) for item in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._depends = self._dependencies(graph.node)
        self._kept: dict[str, frozenset[str]] = {}

    def evidence(self) -> Evidence:
        links = [link for output in self._outputs for link in self._links(output)]
        depends = {output: self._named(self._depends.get(output, 0)) for output in self._outputs}
        # An output of a layer's last step also is one of all steps; the former is the state.
        links.sort(key=lambda link: self._ends_as_sequence(link.output))
        return Evidence(tuple(links), depends)

    def _dependencies(self, nodes: Iterable[NodeProto]) -> Mapping[str, int]:
        """Return for each value a bit for each input that it depends on."""
        found = {name: 1 << place for place, name in enumerate(self._inputs)}
        for node in nodes:
            bits = reduce(or_, (found.get(name, 0) for name in _reads(node)), 0)
            found.update(dict.fromkeys(node.output, bits))
        return found

    def _named(self, bits: int) -> frozenset[str]:
        return frozenset(name for place, name in enumerate(self._inputs) if bits >> place & 1)

    def _links(self, output: str) -> Iterator[Link]:
        """Yield the ways that end at an output, the whole of it first."""
        size = self._size(output)
        sure = self._certain(output)
        same = [name for name in self._inputs if self._shapes.get(name) == self._shapes[output]]
        for name in same:
            if name in sure:
                yield Link(name, output, None, sure[name], sure=True)
            elif name in self._keeps(output):
                yield Link(name, output, None, f"{output} keeps its values", sure=False)
        for part, value in self._parts(output):
            sure = self._certain(value)
            for name in self._inputs:
                if name in same or size is None or self._size(name) != self._size(value):
                    continue
                if name in sure:
                    yield Link(name, output, part, sure[name], sure=True)
                elif name in self._keeps(value):
                    yield Link(name, output, part, f"{output}{part} keeps its values", sure=False)

    def _parts(self, output: str) -> Iterator[tuple[Part, str]]:
        """Yield what a concatenation joins to an output, and where it lies there."""
        node = self._makers.get(output)
        while node is not None and node.op_type == "Identity":
            node = self._makers.get(node.input[0])
        if node is None or node.op_type != "Concat":
            return
        axis = next(item.i for item in node.attribute if item.name == "axis")
        rank, start = len(self._shapes[output]), 0
        for name in node.input:
            shape = self._shapes.get(name, ())
            size = shape[axis % rank] if len(shape) == rank else None
            if size is None:
                return
            yield Part(axis % rank, start, start + size), name
            start += size

    def _certain(self, value: str) -> dict[str, str]:
        """Return the input, if any, that all of a value's recurrent layers began with, and how."""
        found: dict[str, str] | None = None
        for leaf in self._leaves(value):
            began = self._began_with(leaf)
            found = began if found is None else {n: h for n, h in found.items() if n in began}
        return found if found is not None and len(found) == 1 else {}

    def _leaves(self, value: str) -> Iterator[str]:
        """Yield what a value is joined from, as far back as it was only moved."""
        value = self._origin(value)
        node = self._makers.get(value)
        if node is None or node.op_type != "Concat":
            yield value
            return
        for name in node.input:
            yield from self._leaves(name)

    def _origin(self, value: str) -> str:
        """Return what a value was before it was moved."""
        node = self._makers.get(value)
        while node is not None and node.op_type in _MOVES:
            value = node.input[0]
            node = self._makers.get(value)
        return value

    def _began_with(self, value: str) -> dict[str, str]:
        """Return the inputs that a recurrent layer, of which this is the end, began with."""
        node = self._makers.get(value)
        if node is None:
            return {}
        if node.op_type in _CELLS:
            place = _CELLS[node.op_type][list(node.output).index(value)]
            begin = self._origin(node.input[place]) if place < len(node.input) else ""
            how = f"{node.op_type} begins with it and ends with the output"
            return {begin: how} if begin in self._inputs else {}
        return self._cell(node) or self._cell_output(node)

    def _cell(self, node: NodeProto) -> dict[str, str]:
        """Return the input that an LSTM's cell, written out, began with: ``f * c + i * tanh``."""
        if node.op_type != "Add":
            return {}
        pairs = [self._gated(name) for name in node.input]
        begins = [self._origin(name) for name in pairs if name is not None]
        known = [name for name in begins if name in self._inputs]
        tanh = [name for name in begins if self._made_by(name, "Tanh")]
        if len(known) != 1 or len(tanh) != 1:
            return {}
        return {known[0]: "an LSTM's cell begins with it and ends with the output"}

    def _cell_output(self, node: NodeProto) -> dict[str, str]:
        """Return what an LSTM's output, written out as ``o * tanh(cell)``, began with."""
        other = None if node.op_type != "Mul" else self._gated(node.output[0])
        if other is None or not self._made_by(self._origin(other), "Tanh"):
            return {}
        cell = self._origin(self._makers[self._origin(other)].input[0])
        maker = self._makers.get(cell)
        begun = {} if maker is None else self._cell(maker)
        how = "an LSTM's output begins with it and ends with the output"
        for name in begun:
            inputs = self._named(self._depends[node.output[0]])
            same = [i for i in inputs if self._shapes[i] == self._shapes[name] and i != name]
            return dict.fromkeys(same or [name], how)
        return {}

    def _gated(self, value: str) -> str | None:
        """Return what a product multiplies with a gate, ``None`` where it is no such product."""
        node = self._makers.get(self._origin(value))
        if node is None or node.op_type != "Mul":
            return None
        gates = [self._is_gate(name) for name in node.input]
        return str(node.input[0 if gates[1] else 1]) if any(gates) else None

    def _is_gate(self, value: str) -> bool:
        return any(self._made_by(self._origin(value), kind) for kind in _GATES)

    def _made_by(self, value: str, kind: str) -> bool:
        node = self._makers.get(value)
        return node is not None and node.op_type == kind

    def _keeps(self, value: str) -> frozenset[str]:
        """Return the inputs whose own values are still in a value, as a state's would be."""
        pending, order = [value], list[str]()
        seen: set[str] = set()
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            order.append(name)
            pending += self._followed(name)
        return frozenset(order) & frozenset(self._inputs) | self._of_cell_outputs(order)

    def _followed(self, value: str) -> list[str]:
        node = self._makers.get(value)
        if node is None:
            return []
        if node.op_type in _KEPT_BY:
            return list(node.input)
        return list(node.input[:1]) if node.op_type in _MOVES | _WRITES else []

    def _of_cell_outputs(self, values: Iterable[str]) -> frozenset[str]:
        nodes = (self._makers.get(value) for value in values)
        return frozenset(name for node in nodes if node for name in self._cell_output(node))

    def _size(self, value: str) -> int | None:
        """Return the number of elements, of one sample where the batch is open."""
        shape = self._shapes.get(value)
        return None if shape is None else math.prod(1 if size is None else size for size in shape)

    def _ends_as_sequence(self, output: str) -> bool:
        value = self._origin(output)
        node = self._makers.get(value)
        return node is not None and node.op_type in _CELLS and value == node.output[0]


def _reads(node: NodeProto) -> Iterator[str]:
    """Yield what a node reads, in its branches too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _reads(inner)
            yield from (item.name for item in graph.output)


def _shape(value: ValueInfoProto) -> _Shape:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
