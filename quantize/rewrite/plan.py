"""Choose one scale and zero point for every float activation of a graph.

Operators that only move values tie their output to their input: those tensors form a *tree* with
one scale, and only its root, the tensor that is computed or fed, is calibrated. A tree's range is
narrowed to what its readers need. Operators that join values (CONCATENATION, MAXIMUM, ...) ask for
one scale of all their inputs and outputs: trees are merged there where that costs no accuracy;
elsewhere the input is requantized on its way in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeconv.quantize.joins import carried
from edgeconv.quantize.params import needs
from edgeconv.quantize.params.needs import EVERYTHING, View, stored_range
from edgeconv.quantize.params.qparams import QuantParams, Range
from edgeconv.quantize.rewrite import casts
from edgeconv.quantize.rewrite.stored import scales_of
from edgeconv.quantize.rules import whole
from edgeconv.quantize.rules.table import RULES, Rule, Scaling, fixed
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_CLOSE = 1.1
"""Two ranges whose widths differ by no more than this are as good as one: 0.8 dB."""

_ADD_HEADROOM = {8: 2.0**-15, 16: 2.0**-13}
"""The int8 ADD and SUB kernels keep 20 fractional bits of the larger input's scale, the int16 ones
15, and abort on an output scale below those."""

_PRODUCT_HEADROOM = 1 / 128
"""XNNPACK refuses weighted operators whose products are 256 or more output steps apart."""

_LARGEST_PAD = 1e4
"""A padding value that many times the tensor's width stands for infinity, and saturates."""

_AVERAGING = ("AVERAGE_POOL_2D", "RESIZE_BILINEAR")
"""Operators with one scale that mix values: what saturates before them changes what is after."""


@dataclass(slots=True)
class _SharedQuantGroup:
    """Tensors that share one scale.

    Attributes:
        range: The real numbers to represent; ``None`` until known.
        fixed: Prescribed scale and zero point.
        returned: Whether the graph's caller reads it.
        averaged: Whether some of its tensors are averages of others.
        pads: Constants that it is padded with.
        step: What all its values are whole multiples of; ``None`` if nothing.
        narrowed: Whether its readers need less than its range.
        reads: Operators that read it other than to move values, by position, with the input slot.
    """

    range: Range | None = None
    fixed: QuantParams | None = None
    returned: bool = False
    averaged: bool = False
    pads: list[float] = field(default_factory=list)
    step: float | None = 0.0
    narrowed: bool = False
    reads: list[tuple[int, int]] = field(default_factory=list)


class Plan:
    """The scale and zero point of every float activation that is quantized.

    Args:
        graph: The float graph, lowered to operators of the rules' table.
        bits: 8 or 16 for each activation concerned; all of them, with 8, where ``None``. An
            operator's activations have the same number of bits.
        given: Scales and zero points that are known already; those for other bits do not count.
    """

    def __init__(
        self,
        graph: Graph,
        bits: Mapping[int, int] | None = None,
        given: Mapping[int, QuantParams] | None = None,
    ) -> None:
        self._graph = graph
        if bits is None:
            bits = dict.fromkeys(graph.activations(), 8)
        self._bits = bits
        self._needed: dict[int, Range] = {}
        self._given = {
            index: affine
            for index, affine in (given or {}).items()
            if bits.get(index) == affine.bits
        }
        self._parent = {index: index for index in bits}
        self._producers = graph.producers()
        for operator in graph.operators:
            self._tie(operator)
        self._trees = {self._root(index): _SharedQuantGroup() for index in bits}
        self._carried = list(carried.pairs(graph, bits))
        readers = graph.consumers()
        for position, operator in enumerate(graph.operators):
            self._prescribe(operator, readers)
            self._note_reads(position, operator)
        for index, affine in self._given.items():
            self._tree(index).fixed = affine
        for index in graph.outputs:
            if index in self._parent:
                self._tree(index).returned = True
        steps = whole.steps(graph)
        for index in self._parent:
            tree = self._tree(index)
            tree.step = None if tree.averaged else whole.common(tree.step, steps.get(index))

    def calibrated(self) -> list[int]:
        """Return the tensors whose ranges calibration must find."""
        return sorted(root for root, tree in self._trees.items() if tree.fixed is None)

    def views(self) -> dict[int, list[View]]:
        """Return by tensor what of its values matters, where that is not all.

        What only SOFTMAX reads, moved on its way there, is seen where SOFTMAX reads it: its rows
        lie along the last axis there. What a maximum is taken of is seen without what masks hide.
        """
        found: dict[int, list[View]] = {}
        chosen_from = {
            self._root(operator.inputs[0])
            for operator in self._graph.operators
            if self._graph.op(operator) in needs.CHOOSING_HIGH
            and operator.inputs[0] in self._parent
        }
        for index in self._parent:
            tree = self._tree(index)
            readers = [self._graph.operators[position] for position, _ in tree.reads]
            soft = all(self._graph.op(reader) == "SOFTMAX" for reader in readers)
            if readers and soft and not tree.returned and not tree.averaged:
                found[index] = [
                    (reader.inputs[0], needs.softmax_view(reader)) for reader in readers
                ]
            elif self._root(index) in chosen_from:
                found[index] = [(index, needs.raise_hidden)]
        return found

    def choose(self, ranges: Mapping[int, Range]) -> dict[int, QuantParams]:
        """Choose scales and zero points.

        Args:
            ranges: The range of each tensor of `calibrated`.

        Returns:
            Scale and zero point by tensor index, for every activation concerned.
        """
        for root, tree in self._trees.items():
            if tree.fixed is None:
                found = ranges[root].join(tree.range or ranges[root])
                pads = [pad for pad in tree.pads if abs(pad) <= _LARGEST_PAD * found.width]
                tree.range = Range.of(min(found.low, *pads, 0.0), max(found.high, *pads, 0.0))
        self._carry()
        operators = self._graph.operators
        roots = [index for operator in operators for index in operator.outputs]
        for root in (*reversed(roots), *self._graph.inputs):
            self._narrow(root)
            self._keep_whole(root)
        for position in range(len(operators) - 1, -1, -1):
            if self._rule(operators[position]).scaling is Scaling.SHARED:
                self._join(position, operators[position])
        for operator in operators:
            self._keep_headroom(operator)
        return {index: self._affine(index) for index in self._parent}

    def rescaled(self) -> dict[int, QuantParams]:
        """Return the scale that outputs must get yet, to be fed to their inputs as they are."""
        found = {}
        for entered, left in self._carried:
            wanted = self._affine(entered)
            if left in self._graph.outputs and self._affine(left) != wanted:
                found[left] = wanted
        return found

    def needed(self) -> dict[int, Range]:
        """Return by tensor beyond what its values do not matter to its readers, after `choose`."""
        roots = {index: self._root(index) for index in self._parent}
        return {index: self._needed[root] for index, root in roots.items() if root in self._needed}

    def _carry(self) -> None:
        """Give both ends of a state one scale; what calibration saw at either counts."""
        for entered, left in self._carried:
            first, second = self._root(entered), self._root(left)
            tree, other = self._trees[first], self._trees[second]
            tree.returned = other.returned = True
            if first == second or (tree.fixed and other.fixed):
                continue
            if tree.fixed or other.fixed:
                self._carry_fixed(tree, other)
                continue
            assert tree.range is not None and other.range is not None
            other.range = other.range.join(tree.range)
            other.averaged |= tree.averaged
            other.reads += tree.reads
            self._parent[first] = second
            del self._trees[first]

    @staticmethod
    def _carry_fixed(tree: _SharedQuantGroup, other: _SharedQuantGroup) -> None:
        """Let a prescribed scale hold at the other end too, as far as it can."""
        known = tree.fixed or other.fixed
        free = other if tree.fixed else tree
        assert known is not None and free.range is not None
        limits, step = known.limits, known.scale
        if limits.low - step <= free.range.low and free.range.high <= limits.high + step:
            free.fixed = known
        else:
            free.range = free.range.join(limits)

    def _rule(self, operator: OperatorT) -> Rule:
        return RULES.get(self._graph.op(operator), Rule())

    def _root(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def _tree(self, index: int) -> _SharedQuantGroup:
        return self._trees[self._root(index)]

    def _affine(self, index: int) -> QuantParams:
        tree = self._tree(index)
        return tree.fixed or QuantParams.of(self._limits(index), self._bits[index])

    def _limits(self, index: int) -> Range:
        """Return the range of a float tensor, constant or not."""
        if self._graph.is_constant(index):
            return stored_range(self._graph, index)
        tree = self._tree(index)
        if tree.fixed is not None:
            return tree.fixed.limits
        assert tree.range is not None
        return tree.range

    def _output(self, operator: OperatorT) -> int | None:
        """Return an operator's first float output."""
        return next((index for index in operator.outputs if index in self._parent), None)

    def _tie(self, operator: OperatorT) -> None:
        """Put the outputs of a value-moving operator into its input's tree."""
        if self._rule(operator).scaling is not Scaling.SAME:
            return
        tied = [index for index in operator.outputs if index in self._parent]
        source = _first_float(self._graph, operator)
        if source in self._parent and not self._pads_beyond(operator, self._root(source)):
            tied.insert(0, source)
        for index in tied[1:]:
            self._parent[self._root(index)] = self._root(tied[0])

    def _pads_beyond(self, operator: OperatorT, root: int) -> bool:
        """Tell whether an operator pads a tree of prescribed scale with what that cannot hold."""
        producer = self._producers.get(root)
        computed = None if producer is None else self._fixed(producer, root)
        prescribed = self._given.get(root, computed)
        limits = EVERYTHING if prescribed is None else prescribed.limits
        pads = needs.pads(self._graph, operator, ())
        return any(not limits.low <= pad <= limits.high for pad in pads)

    def _fixed(self, operator: OperatorT, output: int) -> QuantParams | None:
        """Return the prescribed scale and zero point of an operator's output."""
        bits = self._bits[output]
        found = fixed(self._graph.op(operator), bits)
        return None if found is None else QuantParams(*found, bits)

    def _prescribe(self, operator: OperatorT, readers: Mapping[int, list[OperatorT]]) -> None:
        """Set the prescribed scales, and note the constants that move into a tree."""
        graph, rule = self._graph, self._rule(operator)
        for index in operator.outputs:
            if index not in self._parent:
                continue
            self._tree(index).averaged |= graph.op(operator) in _AVERAGING
            if (prescribed := self._fixed(operator, index)) is not None:
                self._tree(index).fixed = prescribed
            elif rule.scaling is Scaling.CAST:
                self._tree(index).fixed = casts.prescribed(graph, operator)
            elif rule.scaling is Scaling.SAME:
                source = _first_float(graph, operator)
                if graph.is_constant(source):
                    self._tree(index).range = stored_range(graph, source)
                self._tree(index).pads += needs.pads(graph, operator, readers.get(index, []))

    def _note_reads(self, position: int, operator: OperatorT) -> None:
        moved = self._rule(operator).scaling is Scaling.SAME
        source = _first_float(self._graph, operator) if moved else None
        for slot, index in enumerate(operator.inputs):
            if index in self._parent and index != source:
                self._tree(index).reads.append((position, slot))

    def _narrow(self, root: int) -> None:
        """Cut a tree's range to what its readers need, which must be narrowed before."""
        tree = self._trees.get(root)
        if tree is None or tree.range is None or tree.averaged or tree.returned or not tree.reads:
            return
        needed = Range(0.0, 0.0)
        for position, slot in tree.reads:
            needed = needed.join(self._need(self._graph.operators[position], slot))
        before, tree.range = tree.range, tree.range.meet(needed)
        tree.narrowed = tree.range != before
        self._needed[root] = needed

    def _keep_whole(self, root: int) -> None:
        """Give a tree of whole numbers a scale that stores them exactly, unless it is narrowed."""
        tree = self._trees.get(root)
        if tree is None or tree.range is None or tree.fixed is not None or not tree.step:
            return
        if not tree.narrowed:
            tree.fixed = QuantParams.whole(tree.step, tree.range, self._bits[root])

    def _need(self, operator: OperatorT, slot: int) -> Range:
        name, output = self._graph.op(operator), self._output(operator)
        if name in ("ADD", "SUB") and output is not None:
            other = self._limits(operator.inputs[1 - slot])
            return needs.term_need(name, slot, self._limits(output), other)
        shared = self._rule(operator).scaling is Scaling.SHARED
        if (shared or name == "QUANTIZE") and output is not None:
            return self._limits(output)
        if (
            name == "MUL"
            and output is not None
            and self._graph.is_constant(operator.inputs[1 - slot])
        ):
            return needs.scaled_need(
                self._limits(output), self._graph.value(operator.inputs[1 - slot])
            )
        return needs.unary_need(name, 8 if output is None else self._bits[output])

    def _join(self, position: int, operator: OperatorT) -> None:
        """Merge the trees of a joining operator's inputs into its output's where that is free."""
        output = self._output(operator)
        if output is None:
            return
        for index in operator.inputs:
            if index in self._parent and self._root(index) != self._root(output):
                self._merge(position, self._root(index), self._root(output))

    def _merge(self, position: int, source: int, target: int) -> None:
        tree, other = self._trees[source], self._trees[target]
        if tree.range is None or other.range is None or tree.fixed or other.fixed:
            return
        joint = tree.range.join(other.range)
        if joint.width <= _CLOSE * min(tree.range.width, other.range.width):
            other.range = joint
        elif not self._merges_coarsely(position, tree, joint == other.range):
            return
        other.returned |= tree.returned
        other.reads += tree.reads
        self._parent[source] = target
        del self._trees[source]

    def _merges_coarsely(self, position: int, tree: _SharedQuantGroup, covered: bool) -> bool:
        """Tell whether a tree may take a wider range: no reader would see it in a finer scale."""
        return covered and self._joined_only(tree) and self._narrowest(tree) == position

    def _joined_only(self, tree: _SharedQuantGroup) -> bool:
        """Tell whether none but joining operators read a tree."""
        operators = (self._graph.operators[position] for position, _ in tree.reads)
        shared = all(self._rule(operator).scaling is Scaling.SHARED for operator in operators)
        return shared and not tree.returned

    def _narrowest(self, tree: _SharedQuantGroup) -> int:
        """Return the position of the joining reader whose output needs the finest scale."""

        def width(position: int) -> float:
            output = self._output(self._graph.operators[position])
            return EVERYTHING.width if output is None else self._limits(output).width

        return min({position for position, _ in tree.reads}, key=width)

    def _keep_headroom(self, operator: OperatorT) -> None:
        """Raise an output scale that is finer than the kernel's arithmetic."""
        graph, rule, output = self._graph, self._rule(operator), self._output(operator)
        tree = None if output is None else self._tree(output)
        if output is None or tree is None or tree.range is None or tree.fixed:
            return
        inputs = [index for index in operator.inputs if index in self._parent]
        step = max((self._affine(index).scale for index in inputs), default=0.0)
        if graph.op(operator) in ("ADD", "SUB"):
            floor = _ADD_HEADROOM[self._bits[output]] * step
        elif rule.weight is not None and graph.is_constant(operator.inputs[rule.weight]):
            weight = scales_of(graph, operator.inputs[rule.weight], rule.axis)
            floor = _PRODUCT_HEADROOM * step * float(weight.max())
        else:
            return
        current = self._affine(output).scale
        if current < floor and tree.range.width > 0:
            factor = floor / current
            tree.range = Range(tree.range.low * factor, tree.range.high * factor)
        elif current < floor:
            tree.range = Range(0.0, floor * (255 if self._bits[output] == 8 else 32767))


def _first_float(graph: Graph, operator: OperatorT) -> int:
    """Return an operator's first float input, ``-1`` if it has none."""
    return next((index for index in operator.inputs if graph.is_float(index)), -1)
