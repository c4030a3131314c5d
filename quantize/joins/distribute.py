"""Send operators through joins: what works on joined tensors works on each part instead.

The float graph keeps computing the same. Beside each operator that reads a joined tensor stand the
same operators on the parts, as far as that can be said; what nobody reads in the end is dropped. So
joins come last, and what takes a part out of a join again reads the part.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOptions, ReshapeOptionsT

from edgeconv.core.artifacts import Array
from edgeconv.quantize.joins.joins import BINARY, JOINS, UNARY
from edgeconv.quantize.rules.names import concatenation
from edgeconv.quantize.rules.precision import Precision
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

Runs = Callable[[OperatorT], Sequence[Sequence[int]] | None]
"""From a joining operator to its inputs, by place, in runs that stay together; ``None`` where it
stays as it is."""

Push = Callable[["Distributor", OperatorT], None]
"""Adds the operators on the parts of what an operator moves."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a joined tensor.

    Attributes:
        tensor: Where it is by itself; but for the axis of the join in the joined tensor's shape.
        positions: Its positions on that axis of the joined tensor, ascending.
    """

    tensor: int
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a tensor is joined from.

    Attributes:
        axis: The stored axis along which the parts lie.
        parts: Together they have every position of it once.
    """

    axis: int
    parts: tuple[Part, ...]

    @property
    def contiguous(self) -> bool:
        """Whether the parts, put side by side in their order, are the tensor."""
        order = [position for part in self.parts for position in part.positions]
        return order == list(range(len(order)))

    def like(self, other: Parts) -> bool:
        """Tell whether another tensor has parts at the same positions of the same axis."""
        ours, theirs = ([part.positions for part in one.parts] for one in (self, other))
        return self.axis == other.axis and ours == theirs


class Distributor:
    """Builds the operators on parts.

    Args:
        graph: The graph; changed in place by `run`.
        precisions: The precision of each operator.
        runs: Which joining operators are taken apart, and into what.
        pushes: By operator, what adds those that move values; `distribute_moves.PUSHES`.

    Attributes:
        parts: What joined tensors are joined from.
    """

    def __init__(
        self,
        graph: Graph,
        precisions: Sequence[Precision],
        runs: Runs,
        pushes: Mapping[str, Push],
    ) -> None:
        self.graph = graph
        self.parts: dict[int, Parts] = {}
        self._precisions = list(precisions)
        self._runs = runs
        self._pushes = pushes
        self._alone: dict[int, int] = {}
        self._made: list[OperatorT] = []

    def run(self) -> list[Precision]:
        """Add the operators on parts; return the precisions of all operators, as they then are."""
        graph, found = self.graph, self._precisions
        operators: list[OperatorT] = []
        self._precisions = []
        for operator, precision in zip(graph.operators, found, strict=True):
            self._made = []
            operator.inputs = [self._alone.get(index, index) for index in operator.inputs]
            self._visit(operator)
            operators += [operator, *self._made]
            self._precisions += [precision] * (1 + len(self._made))
        graph.subgraph.operators = operators
        for index in [index for index in graph.outputs if index in self._alone]:
            put_output(graph, index, [self._alone[index]])
        return self._precisions

    def emit(
        self, like: OperatorT, inputs: Sequence[int], shape: Sequence[int], to: int = -1
    ) -> int:
        """Add an operator like another one; return its output."""
        graph = self.graph
        operator = copy.copy(like)
        operator.builtinOptions = copy.copy(like.builtinOptions)
        name = f"{graph.name(like.outputs[0])}/part_{len(graph.tensors)}"
        to = graph.add_activation(name, shape, "float32")
        operator.inputs, operator.outputs = list(inputs), [to]
        self._made.append(operator)
        return to

    def add(self, operator: OperatorT) -> None:
        """Add an operator that is not like another one."""
        self._made.append(operator)

    def take(self, index: int, parts: Parts) -> None:
        """Note what a tensor is joined from; of a single part, that it is that part."""
        if len(parts.parts) > 1:
            self.parts[index] = parts
            return
        tensor = parts.parts[0].tensor
        if index in self.graph.outputs and not any(tensor in one.outputs for one in self._made):
            tensor = self.reshape(tensor, self.graph.shape(index))
        self._alone[index] = tensor

    def reshape(self, tensor: int, shape: Sequence[int]) -> int:
        """Add a RESHAPE; return its output."""
        graph = self.graph
        name = f"{graph.name(tensor)}/reshaped_{len(graph.tensors)}"
        target = graph.add_activation(name, shape, "float32")
        sizes = graph.add_constant(f"{name}/shape", np.array(shape, np.int32))
        options = ReshapeOptionsT()
        options.newShape = list(shape)
        coded = (BuiltinOptions.ReshapeOptions, options)
        self._made.append(graph.operator("RESHAPE", 1, (tensor, sizes), (target,), coded))
        return target

    def join(self, output: int, parts: Parts) -> None:
        """Join an output at the very end, of parts that lie side by side."""
        graph = self.graph
        whole = graph.add_activation(f"{graph.name(output)}/joined", graph.shape(output), "float32")
        tensors = [part.tensor for part in parts.parts]
        graph.operators.append(concatenation(graph, tensors, parts.axis, whole))
        put_output(graph, output, [whole])

    def own(self, tensors: Iterable[int]) -> list[int]:
        """Return tensors that can be outputs: computed, and not outputs yet; else their copies."""
        graph, found = self.graph, list[int]()
        computed = {index for operator in graph.operators for index in operator.outputs}
        for tensor in tensors:
            free = tensor in computed and tensor not in (*found, *graph.outputs)
            self._made = []
            found.append(tensor if free else self.reshape(tensor, graph.shape(tensor)))
            graph.operators.extend(self._made)
        return found

    def _visit(self, operator: OperatorT) -> None:
        graph, name = self.graph, self.graph.op(operator)
        if not all(graph.is_float(index) for index in operator.outputs):
            return
        if name in JOINS:
            self._join(operator)
        elif any(index in self.parts for index in operator.inputs):
            if name in UNARY or name in BINARY:
                self._elementwise(operator)
            elif name in self._pushes:
                self._pushes[name](self, operator)

    def _join(self, operator: OperatorT) -> None:
        graph = self.graph
        if getattr(operator.builtinOptions, "fusedActivationFunction", 0):
            return
        axis = operator.builtinOptions.axis % len(graph.shape(operator.outputs[0]))
        joined = [self.parts.get(index) for index in operator.inputs]
        if any(joined) and self._across(operator, axis):
            return
        runs = self._runs(operator)
        flat = graph.op(operator) == "CONCATENATION" and any(
            one is not None and one.axis == axis for one in joined
        )
        if runs is None and not flat:
            return
        runs = runs or [[place] for place in range(len(operator.inputs))]
        self.parts[operator.outputs[0]] = Parts(
            axis, tuple(self._side_by_side(operator, axis, runs))
        )

    def _side_by_side(
        self, operator: OperatorT, axis: int, runs: Sequence[Sequence[int]]
    ) -> list[Part]:
        """Return the parts of what is joined along an axis, those of joined inputs among them."""
        graph, found, start = self.graph, list[Part](), 0
        packs = graph.op(operator) == "PACK"
        for run in self._alone_where_joined(operator, runs):
            inputs = [operator.inputs[place] for place in run]
            sizes = [1 if packs else graph.shape(index)[axis] for index in inputs]
            inner = self.parts.get(inputs[0]) if len(inputs) == 1 and not packs else None
            if inner is not None and inner.axis == axis:
                found += [
                    Part(part.tensor, tuple(start + position for position in part.positions))
                    for part in inner.parts
                ]
            else:
                tensor = inputs[0]
                if packs or len(inputs) > 1 or graph.is_constant(tensor):
                    shape = list(graph.shape(operator.outputs[0]))
                    shape[axis] = sum(sizes)
                    tensor = self.emit(operator, inputs, shape)
                    if packs:
                        self._made[-1].builtinOptions.valuesCount = len(inputs)
                found.append(Part(tensor, tuple(range(start, start + sum(sizes)))))
            start += sum(sizes)
        return found

    def _alone_where_joined(
        self, operator: OperatorT, runs: Sequence[Sequence[int]]
    ) -> list[Sequence[int]]:
        """Let inputs that have parts of their own be runs of their own."""
        found: list[Sequence[int]] = []
        for run in runs:
            joined = any(operator.inputs[place] in self.parts for place in run)
            found += [[place] for place in run] if joined else [run]
        return found

    def _across(self, operator: OperatorT, axis: int) -> bool:
        """Join tensors of the same parts along another axis: part by part."""
        graph = self.graph
        first = self.parts.get(operator.inputs[0])
        if first is None:
            return False
        new = graph.op(operator) == "PACK"
        others = [self.parts.get(index) for index in operator.inputs]
        if not all(other is not None and other.like(first) for other in others):
            return False
        if not new and first.axis == axis:
            return False
        at = first.axis + (new and axis <= first.axis)
        found = []
        for place, part in enumerate(first.parts):
            inputs = [other.parts[place].tensor for other in others if other is not None]
            shape = list(graph.shape(operator.outputs[0]))
            shape[at] = len(part.positions)
            found.append(Part(self.emit(operator, inputs, shape), part.positions))
        self.parts[operator.outputs[0]] = Parts(at, tuple(found))
        return True

    def _elementwise(self, operator: OperatorT) -> None:
        """Compute each part; of constants with its own slice."""
        graph, output = self.graph, operator.outputs[0]
        rank = len(graph.shape(output))
        known = {index: self.parts[index] for index in operator.inputs if index in self.parts}
        moved = {
            index: Parts(one.axis + rank - len(graph.shape(index)), one.parts)
            for index, one in known.items()
        }
        first = next(iter(moved.values()))
        if not all(one.like(first) for one in moved.values()):
            return
        shape = list(graph.shape(output))
        operands = [
            self._operand(index, first, rank, moved) if index >= 0 else [-1] * len(first.parts)
            for index in operator.inputs
        ]
        if any(operand is None for operand in operands):
            return
        found = []
        for place, part in enumerate(first.parts):
            shape[first.axis] = len(part.positions)
            inputs = [operand[place] for operand in operands if operand is not None]
            found.append(Part(self.emit(operator, inputs, shape), part.positions))
        self.parts[output] = Parts(first.axis, tuple(found))

    def _operand(
        self, index: int, parts: Parts, rank: int, moved: Mapping[int, Parts]
    ) -> list[int] | None:
        """Return an operand of each part; ``None`` where a computed one would have to be cut."""
        graph = self.graph
        if index in moved:
            return [part.tensor for part in moved[index].parts]
        axis = parts.axis - rank + len(graph.shape(index))
        if axis < 0 or graph.shape(index)[axis] == 1:
            return [index] * len(parts.parts)
        if not graph.is_constant(index):
            return None
        value = graph.value(index)
        return [
            graph.add_constant(graph.name(index), np.take(value, part.positions, axis))
            for part in parts.parts
        ]


def drop_unread(graph: Graph, precisions: Sequence[Precision]) -> list[Precision]:
    """Drop operators whose outputs nobody reads; return the precisions of those that stay."""
    read = set(graph.outputs)
    kept: list[tuple[OperatorT, Precision]] = []
    for operator, precision in zip(
        reversed(graph.operators), reversed(list(precisions)), strict=True
    ):
        if read & set(operator.outputs) or not operator.outputs:
            kept.append((operator, precision))
            read.update(operator.inputs)
    kept.reverse()
    graph.subgraph.operators = [operator for operator, _ in kept]
    return [precision for _, precision in kept]


def put_output(graph: Graph, old: int, new: Sequence[int]) -> list[str]:
    """Put tensors in the place of an output: one under its name, several under `part_names`.

    Returns:
        The names of the tensors.
    """
    place, name = graph.outputs.index(old), graph.name(old)
    names = part_names(name, len(new), [graph.name(index) for index in graph.outputs])
    graph.tensors[old].name = f"{name}/whole"
    for index, one in zip(new, names, strict=True):
        graph.tensors[index].name = one
    graph.subgraph.outputs = [*graph.outputs[:place], *new, *graph.outputs[place + 1 :]]
    for signature in graph.model.signatureDefs or []:
        signature.outputs = _entries(list(signature.outputs or ()), old, new)
    return names


def _entries(entries: list[Any], old: int, new: Sequence[int]) -> list[Any]:
    """Return a signature's outputs with others in the place of one."""
    found = []
    taken = [_text(entry.name) for entry in entries]
    for entry in entries:
        if entry.tensorIndex != old:
            found.append(entry)
            continue
        names = part_names(_text(entry.name), len(new), taken)
        for index, name in zip(new, names, strict=True):
            made = copy.copy(entry)
            made.tensorIndex, made.name = index, name
            found.append(made)
    return found


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def part_names(name: str, count: int, taken: Sequence[str]) -> list[str]:
    """Return what the parts of an output are called: its name, ``_`` and a number from 0.

    A single one keeps the name. Names of other outputs are avoided by a ``_`` at the end.
    """
    if count == 1:
        return [name]
    found = []
    for place in range(count):
        one = f"{name}_{place}"
        while one in taken:
            one += "_"
        found.append(one)
    return found


def label(parts: Parts, shape: Sequence[int]) -> Array:
    """Return for each element of a joined tensor the place of its part."""
    numbers = np.zeros(shape[parts.axis], np.int32)
    for place, part in enumerate(parts.parts):
        numbers[list(part.positions)] = place
    along = [1] * len(shape)
    along[parts.axis] = len(numbers)
    return np.broadcast_to(numbers.reshape(along), shape)
