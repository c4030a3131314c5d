"""Which operators compute in float so that whole numbers, and what they select, come out right.

FLOOR, ROUND and casts to integers turn an error of any size beside a whole number into one of a
whole unit, and an index that is off by one fetches another sample. So what leads to them keeps
float32: the arithmetic of positions back to the layers that they come from, those layers too where
the positions select samples, and the whole way where that costs little. So does what is whole
itself, and the fraction that is left beside it, from which interpolation takes its weights. Where
NaN is made and removed, the sign of a number decides as much, and the same is done.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.quantize.islands import undefined
from edgeconv.quantize.islands.index_errors import INDEX_SLOTS, differing
from edgeconv.quantize.params.qparams import QuantParams, Range
from edgeconv.quantize.rules import whole
from edgeconv.quantize.rules.precision import BITS, Precision
from edgeconv.quantize.rules.table import COMPARISONS, RULES, Scaling
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

_ROUNDING = ("FLOOR", "CEIL", "ROUND", "FLOOR_DIV", "FLOOR_MOD")
_CHOOSING = ("ARG_MAX", "ARG_MIN")

_CHEAP = 1_000_000
"""So many multiplications take about a millisecond, in float as well."""

_SHARE = 0.1
"""And so small a share of a model's is not noticed."""

_WRONG = 0.01
"""If more indices differ than that, layers before become float as well, as long as they take"""

_DEAR, _MOST = 100_000_000, 0.5
"""no more multiplications than the larger of these: so many, or so large a share."""

_FEW = 4
"""As many samples tell how many indices differ."""

_ARITHMETIC = ("ADD", "SUB", "MUL", "SQUARE")
_POLYNOMIAL = 64
"""Elements of the largest matrix that makes weights of powers of a fraction."""

_SAMPLES = 16
"""As many samples show the ranges of whole numbers."""


@dataclass(frozen=True, slots=True)
class IndexPath:
    """What computes in float for the sake of whole numbers.

    Attributes:
        precisions: The precision of each operator.
        moved: Positions of the operators that became float.
        inexact: Layers whose integer results select samples.
        fed: The graph's inputs that these operators read.
        differing: The share of indices that they make different; 0 where it was not measured.
        undefined: How many of the operators read or write NaN or infinity.
    """

    precisions: list[Precision]
    moved: tuple[int, ...] = ()
    inexact: tuple[int, ...] = ()
    fed: frozenset[int] = frozenset()
    differing: float = 0.0
    undefined: int = 0


def find(
    graph: Graph,
    precisions: Sequence[Precision],
    base: Precision,
    feeds: Sequence[Sequence[Array]],
    given: Collection[int] = (),
) -> IndexPath:
    """Return which operators must compute in float.

    Args:
        graph: The float graph, before it is lowered.
        precisions: The precision of each operator; only those of the base precision may change.
        base: Changes nothing unless it is ``int8`` or ``int16``.
        feeds: Per sample the graph's inputs, in the stored form.
        given: Tensors whose scales the model brought, and which are exact therefore.
    """
    if base not in BITS:
        return IndexPath(list(precisions))
    return _Finder(graph, precisions, base, set(given)).run(feeds)


@dataclass(slots=True)
class _Finder:
    graph: Graph
    precisions: Sequence[Precision]
    base: Precision
    given: set[int]
    makers: dict[int, int] = field(default_factory=dict)
    steps: Mapping[int, float] = field(default_factory=dict)
    undefined: set[int] = field(default_factory=set)

    def run(self, feeds: Sequence[Sequence[Array]]) -> IndexPath:
        graph = self.graph
        self.makers = {
            index: position
            for position, operator in enumerate(graph.operators)
            for index in operator.outputs
        }
        self.steps = whole.steps(graph)
        self.undefined = undefined.find(graph, feeds)
        selecting, rounding = {*self._selecting(), *self.undefined}, set(self._rounding())
        wide = {self.makers[index] for index in self._too_wide(feeds)}
        chosen = self._behind({*selecting, *rounding, *wide})
        everything = self._behind(chosen, layers=True)
        if self._costs(everything, _CHEAP, _SHARE):
            return self._path(everything)
        chosen |= self._heads(self._behind(selecting))
        few = feeds[:: -(-len(feeds) // _FEW)] if feeds else []
        leading = self._behind(selecting, layers=True)
        path = self._path(chosen, self._heads(self._behind(chosen & leading)))
        if not path.inexact or not few:
            return path
        path = replace(path, differing=differing(graph, path.precisions, few))
        everything = chosen | leading
        if path.differing > _WRONG and self._costs(everything, _DEAR, _MOST):
            return self._path(everything)
        return path

    def _path(self, chosen: set[int], inexact: Collection[int] = ()) -> IndexPath:
        """Return what computes in float if some operators do."""
        graph, chosen = self.graph, chosen | self._following(chosen)
        precisions: list[Precision] = list(self.precisions)
        moved = sorted(place for place in chosen if precisions[place] == self.base)
        for place in moved:
            precisions[place] = "float"
        read = {index for place in moved for index in graph.operators[place].inputs}
        fed = frozenset(read & {*graph.inputs})
        count = len(self.undefined & set(moved))
        return IndexPath(precisions, tuple(moved), tuple(sorted(inexact)), fed, undefined=count)

    def _selecting(self) -> Iterator[int]:
        """Yield where real numbers become the integers that select samples."""
        graph, wanted = self.graph, set[int]()
        for position in range(len(graph.operators) - 1, -1, -1):
            operator = graph.operators[position]
            slots = INDEX_SLOTS.get(graph.op(operator), ())
            wanted.update(operator.inputs[slot] for slot in slots)
            if not wanted & set(operator.outputs) or any(map(graph.is_float, operator.outputs)):
                continue
            if self._decides(operator):
                yield position
            else:
                wanted.update(operator.inputs)

    def _decides(self, operator: OperatorT) -> bool:
        """Tell whether an operator makes integers or booleans of real numbers."""
        name = self.graph.op(operator)
        real = any(map(self.graph.is_activation, operator.inputs))
        return real and (name in ("CAST", *_CHOOSING) or name in COMPARISONS)

    def _rounding(self) -> Iterator[int]:
        graph = self.graph
        for position, operator in enumerate(graph.operators):
            name = graph.op(operator)
            real = any(map(graph.is_activation, operator.inputs))
            made = graph.dtype(operator.outputs[0]) if operator.outputs else ""
            if real and (name in _ROUNDING or (name == "CAST" and "int" in made)):
                yield position

    def _too_wide(self, feeds: Sequence[Sequence[Array]]) -> Iterator[int]:
        """Yield the whole numbers from integers that the base precision cannot store exactly."""
        graph, bits = self.graph, BITS[self.base]
        casts = {
            operator.outputs[0]
            for operator in graph.operators
            if graph.op(operator) == "CAST" and graph.dtype(operator.inputs[0]) != "bool"
        }
        reached = _reached(graph, casts & self.steps.keys()) & self.steps.keys()
        if not reached or not feeds:
            return
        ranges = dict.fromkeys(sorted(reached), Range(0.0, 0.0))
        runner = Runner(graph, ranges)

        def see(index: int, values: Array) -> None:
            if values.size:
                seen = Range.of(float(values.min()), float(values.max()))
                ranges[index] = ranges[index].join(seen)

        for feed in feeds[:: -(-len(feeds) // _SAMPLES)]:
            runner.show(feed, see)
        for index, limits in ranges.items():
            finite = math.isfinite(limits.width) and limits.width > 0 and self.steps[index]
            if finite and QuantParams.whole(self.steps[index], limits, bits) is None:
                yield index

    def _behind(self, places: set[int], *, layers: bool = False) -> set[int]:
        """Return operators and those before them, up to layers with weights or with these."""
        found, waiting = set(places), list(places)
        while waiting:
            for index in self.graph.operators[waiting.pop()].inputs:
                place = self.makers.get(index)
                if place is None or place in found or index in self.given:
                    continue
                if self._may_move(place) and (layers or not self._weighted(place)):
                    found.add(place)
                    waiting.append(place)
        return found

    def _may_move(self, place: int) -> bool:
        """Tell whether an operator makes real numbers, in float or in what may become it."""
        operator = self.graph.operators[place]
        real = any(map(self.graph.is_activation, operator.outputs))
        return real and self.precisions[place] in (self.base, "float")

    def _costs(self, places: Collection[int], most: int, share: float) -> bool:
        """Tell whether operators take no more multiplications than that, or than that share."""
        every = range(len(self.precisions))
        return self._cost(places) <= max(most, share * self._cost(every))

    def _heads(self, places: set[int]) -> set[int]:
        """Return the layers whose results some operators read."""
        read = {index for place in places for index in self.graph.operators[place].inputs}
        makers = {self.makers[index] for index in read - self.given if index in self.makers}
        return {place for place in makers - places if self._may_move(place)}

    def _following(self, chosen: set[int]) -> set[int]:
        """Return what is whole, the fractions beside it, and what weights are made of by these."""
        graph, found = self.graph, set[int]()
        exact = {index for place in chosen for index in graph.operators[place].outputs}
        beside = exact & self.steps.keys()
        known = exact | {
            index
            for place in chosen
            for index in graph.operators[place].inputs
            if index in graph.inputs
        }
        for place, operator in enumerate(graph.operators):
            real = {index for index in operator.inputs if graph.is_activation(index)}
            compared = graph.op(operator) in COMPARISONS and exact & real
            if place in chosen or not real <= known or not (beside & real or compared):
                continue
            if self.precisions[place] == self.base and self._keeps_exact(operator):
                found.add(place)
                known.update(operator.outputs)
                beside.update(operator.outputs)
        return found

    def _keeps_exact(self, operator: OperatorT) -> bool:
        """Tell whether an operator may belong to how interpolation makes weights of fractions."""
        graph, name = self.graph, self.graph.op(operator)
        if name in COMPARISONS or operator.outputs[0] in self.steps:
            return True
        rule = RULES.get(name)
        moves = rule is not None and rule.scaling in (Scaling.SAME, Scaling.SHARED)
        if moves or name in _ARITHMETIC:
            return True
        fixed = [index for index in operator.inputs if graph.is_constant(index)]
        sizes = [int(np.prod(graph.shape(index))) for index in fixed]
        return self._multiplies(name) and bool(sizes) and max(sizes) <= _POLYNOMIAL

    def _weighted(self, place: int) -> bool:
        return self._multiplies(self.graph.op(self.graph.operators[place]))

    def _multiplies(self, name: str) -> bool:
        rule = RULES.get(name)
        return name == "BATCH_MATMUL" or (rule is not None and rule.weight is not None)

    def _cost(self, places: Collection[int]) -> float:
        """Return about how many multiplications some operators take."""
        return float(sum(self._multiplications(self.graph.operators[place]) for place in places))

    def _multiplications(self, operator: OperatorT) -> int:
        graph, name = self.graph, self.graph.op(operator)
        each, rule = 1, RULES.get(name)
        if name == "BATCH_MATMUL":
            each = graph.shape(operator.inputs[0])[-1]
        elif rule is not None and rule.weight is not None and rule.axis is not None:
            shape = graph.shape(operator.inputs[rule.weight])
            each = int(np.prod(shape)) // max(shape[rule.axis], 1)
        return each * sum(int(np.prod(graph.shape(index))) for index in operator.outputs)


def _reached(graph: Graph, tensors: set[int]) -> set[int]:
    """Return tensors and all that is computed of them."""
    found = set(tensors)
    for operator in graph.operators:
        if found & set(operator.inputs):
            found.update(operator.outputs)
    return found
