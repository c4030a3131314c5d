"""Keep what is joined in an output apart where one scale cannot hold it.

One scale for boxes of hundreds of pixels and scores below one leaves the scores nothing, as every
detector exported to int8 shows. Where pieces that differ that much in range are joined, each gets
a scale of its own: as real numbers they are joined behind DEQUANTIZE, as integers they become
outputs of their own. Where a join is taken apart again inside the model, it is left out. Separate
scales for what differs in range: Krishnamoorthi 2018, "Quantizing deep convolutional networks for
efficient inference", section 3.1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.core.options import SplitOutputs
from edgeconv.quantize.joins import uneven
from edgeconv.quantize.joins.distribute import Distributor, Parts, drop_unread, put_output
from edgeconv.quantize.joins.distribute_moves import PUSHES
from edgeconv.quantize.joins.float_joins import joined_in_float, joined_note
from edgeconv.quantize.joins.joins import ELEMENTWISE, JOINS, Join, find
from edgeconv.quantize.joins.moves import MOVES
from edgeconv.quantize.joins.widths import differ, widths, widths_of
from edgeconv.quantize.rules.precision import Precision
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_CUTS = ("GATHER", "SLICE", "SPLIT", "SPLIT_V", "STRIDED_SLICE", "UNPACK")
"""Operators that may take a part out of a join again."""


@dataclass(slots=True)
class Apart:
    """What became of joins.

    Attributes:
        precisions: The precision of each operator of the graph.
        outputs: By the place of an output that has become several, what it is joined from.
        notes: What to say of it.
    """

    precisions: list[Precision]
    outputs: dict[int, Parts] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def separate(
    graph: Graph,
    precisions: Sequence[Precision],
    feeds: Sequence[Sequence[Array]],
    *,
    integer: bool,
    split_outputs: SplitOutputs = "auto",
    float_inside: bool = True,
    given: Collection[int] = (),
) -> Apart:
    """Keep apart what one scale cannot hold, in place.

    Args:
        graph: The float graph, lowered.
        precisions: The precision of each operator.
        feeds: Per sample the graph's inputs, in the stored form.
        integer: Whether the outputs that stand for real numbers are integers.
        split_outputs: Whether integer outputs become several.
        float_inside: Whether element-wise work may be done in float where outputs are float, or
            that would leave the accelerator.
        given: Tensors that have a scale already, which their model has learnt to live with.
    """
    return _Separation(graph, precisions, feeds, integer, split_outputs, float_inside, given).run()


@dataclass(frozen=True, slots=True)
class _Separation:
    graph: Graph
    precisions: Sequence[Precision]
    feeds: Sequence[Sequence[Array]]
    integer: bool
    split_outputs: SplitOutputs
    float_inside: bool
    given: Collection[int]

    def run(self) -> Apart:
        """See `separate`."""
        found = Apart(self._joined())
        runs = self._runs()
        if runs:
            before = self.graph.copy()
            distributor = Distributor(
                self.graph, found.precisions, lambda one: runs.get(one.outputs[0]), PUSHES
            )
            found.precisions = distributor.run()
            self._settle(distributor, found)
            found.precisions = drop_unread(self.graph, found.precisions)
            if len(before.operators) != len(self.graph.operators) and not found.notes:
                found.notes.append(
                    "values of different ranges are not joined where they are taken apart again"
                )
        if self.integer and self.split_outputs == "never":
            found.notes += self._kept_whole()
        if not self.integer:
            found.precisions, notes = joined_in_float(
                self.graph, found.precisions, self.feeds, self.given
            )
            found.notes += notes
        return found

    def _joined(self) -> list[Precision]:
        """Write constants that make ranges differ as joins, where joins are kept apart."""
        if self.integer and self.split_outputs == "never":
            return list(self.precisions)
        layers = not self.integer or self.split_outputs == "always"
        return uneven.joined(self.graph, self.precisions, self.feeds, self.given, layers=layers)

    def _runs(self) -> dict[int, list[list[int]]]:
        """Return the joins to take apart, by output: their inputs in runs that stay together."""
        graph = self.graph
        joins = find(graph)
        ends: dict[int, list[int]] = {}
        for output, join in joins.items():
            for operator in join.between:
                if graph.op(operator) in JOINS and self._wants(output):
                    ends.setdefault(operator.outputs[0], []).append(output)
        starts = {**{index: [] for index in _taken_apart(graph)}, **ends}
        seen = find(graph, {*starts, *joins} - set(self.given))
        wide = widths(graph, seen, self.feeds)
        known = {index: dict(zip(seen[index].pieces, wide[index], strict=True)) for index in seen}
        found = {}
        for operator in graph.operators:
            index = operator.outputs[0]
            if index in known and index in starts:
                apart = _runs_of(
                    graph,
                    operator,
                    seen[index],
                    [known[one] for one in (index, *starts[index]) if one in known],
                    each=self.split_outputs == "always" and index in ends and self.integer,
                )
                if len(apart) > 1:
                    found[index] = apart
        return found

    def _kept_whole(self) -> list[str]:
        """Say which outputs have one scale for what it cannot hold."""
        joins = {index: join for index, join in find(self.graph).items() if index not in self.given}
        return [
            f"output {self.graph.name(index)} joins values of different ranges in one scale, which "
            "leaves the small ones little or nothing; --split-outputs auto makes several outputs"
            for index, wide in widths(self.graph, joins, self.feeds).items()
            if differ(wide)
        ]

    def _wants(self, output: int) -> bool:
        """Tell whether an output's joins are to come last."""
        if output in self.given:
            return False
        return self.split_outputs != "never" if self.integer else not self.float_inside

    def _settle(self, distributor: Distributor, found: Apart) -> None:
        """Make of each joined output its parts, or their join at the very end."""
        graph = self.graph
        for place, output in enumerate(list(graph.outputs)):
            if output not in distributor.parts or not self._wants(output):
                continue
            if graph.outputs.count(output) > 1:
                continue
            parts = distributor.parts[output]
            if self.integer:
                self._split(distributor, (place, output), parts, found)
            elif parts.contiguous:
                found.notes.append(joined_note(graph.name(output)))
                distributor.join(output, parts)
                found.precisions.append("float")

    def _split(
        self, distributor: Distributor, which: tuple[int, int], parts: Parts, found: Apart
    ) -> None:
        """Let the parts of an output, told by place and tensor, be outputs of their own."""
        graph, (place, output) = self.graph, which
        name, tensors = graph.name(output), [part.tensor for part in parts.parts]
        if self.split_outputs == "auto" and not differ(widths_of(graph, tensors, self.feeds)):
            return
        before = len(graph.operators)
        tensors = distributor.own(tensors)
        precision = found.precisions[_maker(graph, output)]
        found.precisions += [precision] * (len(graph.operators) - before)
        names = ", ".join(put_output(graph, output, tensors))
        found.outputs[place] = parts
        found.notes.append(
            f"output {name} joins values of different ranges, which one scale cannot hold: {names} "
            "are outputs of their own (--split-outputs never keeps one)"
        )


def _maker(graph: Graph, index: int) -> int:
    """Return the place of the operator that makes a tensor."""
    return next(
        place for place, operator in enumerate(graph.operators) if index in operator.outputs
    )


def _taken_apart(graph: Graph) -> list[int]:
    """Return what joins make that may be taken apart again, further on."""
    leads: set[int] = set()
    found = []
    for operator in reversed(graph.operators):
        name = graph.op(operator)
        if name in JOINS and leads & set(operator.outputs):
            found.append(operator.outputs[0])
        passed = name in ELEMENTWISE or name in MOVES or name in JOINS
        if name in _CUTS or (passed and leads & set(operator.outputs)):
            leads.update(operator.inputs)
    return found


def _runs_of(
    graph: Graph,
    operator: OperatorT,
    join: Join,
    known: Sequence[Mapping[int, float]],
    *,
    each: bool,
) -> list[list[int]]:
    """Return the inputs of a join, by place, in runs whose ranges one scale can hold.

    Args:
        graph: The graph.
        operator: The join.
        join: What it makes is joined from.
        known: How wide each piece is, where it is joined and in the outputs behind.
        each: Whether each input is a run.
    """
    axis = operator.builtinOptions.axis
    size = 1 if graph.op(operator) == "PACK" else 0
    sizes = [size or graph.shape(index)[axis] for index in operator.inputs]
    labels = np.split(join.labels, np.cumsum(sizes)[:-1].tolist(), axis)
    runs: list[list[int]] = []
    widest: list[list[list[float]]] = []
    for place, one in enumerate(labels):
        pieces = [join.pieces[number] for number in np.unique(one) if number >= 0]
        wide = [[widths_[piece] for piece in pieces if piece in widths_] for widths_ in known]
        if not each and runs and all(map(_fit, widest[-1:][0], wide)):
            runs[-1].append(place)
            widest[-1] = [[*a, *b] for a, b in zip(widest[-1], wide, strict=True)]
        else:
            runs.append([place])
            widest.append(wide)
    return runs


def _fit(first: Sequence[float], second: Sequence[float]) -> bool:
    """Tell whether one scale holds both as well as it holds each."""
    return not differ([*first, *second]) or (differ(first) and differ(second))
