"""Choose one scale and zero point for every float activation of a graph.

Operators that only move values tie their output to their input: those tensors form a *tree* with
one scale, and only its root, the tensor that is computed or fed, is calibrated. Operators that
join values (CONCATENATION, MAXIMUM, ...) ask for one scale of all their inputs and outputs. Trees
are merged there where that costs no accuracy; elsewhere the input is requantized on its way in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeconv.quantize import casts
from edgeconv.quantize.graph import Graph
from edgeconv.quantize.qparams import Affine, Range, weight_scales
from edgeconv.quantize.rules import RULES, Rule, Scaling
from edgeconv.tflite import OperatorT

_CLOSE = 1.1
"""Two ranges whose widths differ by no more than this are as good as one: 0.8 dB."""

_ADD_HEADROOM = 2.0**-15
"""The int8 ADD and SUB kernels keep 20 fractional bits of the larger input's scale, and abort on
an output scale below those."""

_PRODUCT_HEADROOM = 1 / 128
"""XNNPACK refuses weighted operators whose products are 256 or more output steps apart."""


@dataclass(slots=True)
class _Tree:
    """Tensors that share one scale.

    Attributes:
        range: The real numbers to represent; ``None`` until known.
        fixed: Prescribed scale and zero point.
        read: Whether something other than a joining operator reads it, or the caller.
        joins: The joining operators that read it, by position.
    """

    range: Range | None = None
    fixed: Affine | None = None
    read: bool = False
    joins: set[int] = field(default_factory=set)


class Plan:
    """The scale and zero point of every float activation.

    Args:
        graph: The float graph, lowered to operators of the rules' table.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._parent: dict[int, int] = {}
        self._trees: dict[int, _Tree] = {}
        for index in range(len(graph.tensors)):
            if graph.is_activation(index):
                self._parent[index] = index
        for operator in graph.operators:
            self._tie(operator)
        for index in self._parent:
            self._trees.setdefault(self._root(index), _Tree())
        for position, operator in enumerate(graph.operators):
            self._note(position, operator)
        for index in graph.outputs:
            if index in self._parent:
                self._tree(index).read = True

    def calibrated(self) -> list[int]:
        """Return the tensors whose ranges calibration must find."""
        return sorted(root for root, tree in self._trees.items() if tree.fixed is None)

    def choose(self, ranges: Mapping[int, Range]) -> dict[int, Affine]:
        """Choose scales and zero points.

        Args:
            ranges: The range of each tensor of `calibrated`.

        Returns:
            Scale and zero point by tensor index, for every float activation.
        """
        for root, tree in self._trees.items():
            if tree.fixed is None:
                found = ranges[root]
                tree.range = tree.range.join(found) if tree.range else found
        operators = self._graph.operators
        for position in range(len(operators) - 1, -1, -1):
            if _rule(self._graph, operators[position]).scaling is Scaling.SHARED:
                self._join(position, operators[position])
        for operator in operators:
            self._keep_headroom(operator)
        return {index: self._affine(index) for index in self._parent}

    def _root(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def _tree(self, index: int) -> _Tree:
        return self._trees[self._root(index)]

    def _affine(self, index: int) -> Affine:
        tree = self._tree(index)
        if tree.fixed is not None:
            return tree.fixed
        assert tree.range is not None
        return Affine.of(tree.range)

    def _tie(self, operator: OperatorT) -> None:
        """Put the outputs of a value-moving operator into its input's tree."""
        if _rule(self._graph, operator).scaling is not Scaling.SAME:
            return
        source = first_float(self._graph, operator)
        outputs = [index for index in operator.outputs if index in self._parent]
        if source in self._parent:
            outputs.insert(0, source)
        for other in outputs[1:]:
            self._parent[self._root(other)] = self._root(outputs[0])

    def _note(self, position: int, operator: OperatorT) -> None:
        """Record prescribed scales, stored values and readers of the trees that meet here."""
        graph, rule = self._graph, _rule(self._graph, operator)
        source = first_float(graph, operator) if rule.scaling is Scaling.SAME else -1
        for index in operator.outputs:
            if index in self._parent and rule.fixed is not None:
                self._tree(index).fixed = Affine(*rule.fixed)
            if index in self._parent and rule.scaling is Scaling.CAST:
                self._tree(index).fixed = casts.prescribed(graph, operator)
            if index in self._parent and source >= 0 and graph.is_constant(source):
                value = graph.value(source)
                stored = Range.of(float(value.min(initial=0)), float(value.max(initial=0)))
                self._tree(index).range = stored
        for index in operator.inputs:
            if index not in self._parent or index == source:
                continue
            if rule.scaling is Scaling.SHARED:
                self._tree(index).joins.add(position)
            else:
                self._tree(index).read = True

    def _join(self, position: int, operator: OperatorT) -> None:
        """Merge the trees of a joining operator's inputs into its output's where that is free."""
        output = next((index for index in operator.outputs if index in self._parent), None)
        if output is None:
            return
        for index in operator.inputs:
            if index in self._parent and self._root(index) != self._root(output):
                self._merge(position, self._tree(index), index, output)

    def _merge(self, position: int, tree: _Tree, index: int, output: int) -> None:
        target = self._tree(output)
        if tree.fixed is not None or target.fixed is not None:
            return
        assert tree.range is not None
        assert target.range is not None
        joint = tree.range.join(target.range)
        close = joint.width <= _CLOSE * min(tree.range.width, target.range.width)
        if close:
            target.range = joint
        elif tree.read or self._narrowest(tree) != position:
            return
        target.read |= tree.read
        target.joins |= tree.joins
        old, new = self._root(index), self._root(output)
        self._parent[old] = new
        del self._trees[old]

    def _narrowest(self, tree: _Tree) -> int:
        """Return the joining operator whose output needs the finest scale."""

        def width(position: int) -> float:
            operator = self._graph.operators[position]
            found = self._tree(operator.outputs[0]).range
            return found.width if found is not None else 0.0

        return min(tree.joins, key=width)

    def _keep_headroom(self, operator: OperatorT) -> None:
        """Raise an output scale that is finer than the kernel's arithmetic."""
        graph = self._graph
        name = graph.op(operator)
        output = operator.outputs[0] if operator.outputs else -1
        if output not in self._parent or self._tree(output).fixed is not None:
            return
        rule = _rule(graph, operator)
        inputs = [index for index in operator.inputs if index in self._parent]
        scales = [self._affine(index).scale for index in inputs]
        if name in ("ADD", "SUB"):
            floor = _ADD_HEADROOM * max(scales, default=0.0)
        elif rule.weight is not None and graph.is_constant(operator.inputs[rule.weight]):
            weight = weight_scales(graph.value(operator.inputs[rule.weight]), rule.axis)
            floor = _PRODUCT_HEADROOM * max(scales) * float(weight.max())
        else:
            return
        tree = self._tree(output)
        current = self._affine(output).scale
        assert tree.range is not None
        if current < floor:
            factor = floor / current
            tree.range = Range(tree.range.low * factor, tree.range.high * factor)
            if tree.range.width == 0:
                tree.range = Range(0.0, floor * 255)


def first_float(graph: Graph, operator: OperatorT) -> int:
    """Return an operator's first float input, ``-1`` if it has none."""
    return next((index for index in operator.inputs if graph.is_float(index)), -1)


_UNTOUCHED = Rule()


def _rule(graph: Graph, operator: OperatorT) -> Rule:
    """Return the rule of an operator of the table; of one without float tensors, a void one."""
    return RULES.get(graph.op(operator), _UNTOUCHED)
