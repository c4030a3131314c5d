"""Join outputs of different ranges after they have become real numbers, not before.

One scale for boxes of hundreds of pixels and scores below one leaves the scores nothing, as every
YOLO exported to int8 shows. Where a model ends with such a concatenation, and its outputs are
float32, each part gets a scale of its own and the parts are joined behind DEQUANTIZE. Separate
scales for what differs in range: Krishnamoorthi 2018, "Quantizing deep convolutional networks for
efficient inference", section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeconv.quantize.graph import Graph
from edgeconv.quantize.precision import Precision
from edgeconv.quantize.recovery.base import Draft
from edgeconv.quantize.rules import RULES, Scaling
from edgeconv.quantize.runs import Runner

_MIXED = 4.0
"""Ranges that differ by more lose two bits in a common scale."""


class SplitConcat:
    """See the module."""

    name = "split-concat"
    worth_db = 0.5
    slack_db = 0.0
    chooses_ranges = False

    def drafts(self, draft: Draft) -> Iterator[Draft]:
        """Yield one draft, in which all such concatenations at the end compute in float32."""
        graph = draft.graph
        tail = [
            position
            for position, operator in enumerate(graph.operators)
            if graph.op(operator) == "CONCATENATION"
        ]
        after = {position: _until_outputs(graph, position) for position in tail}
        chosen = {
            entry
            for position, entries in after.items()
            if entries and _mixed(draft, position)
            for entry in entries
        }
        if chosen:
            precisions: list[Precision] = [
                "float" if position in chosen else precision
                for position, precision in enumerate(draft.precisions)
            ]
            yield draft.on(graph, precisions)


def _mixed(draft: Draft, position: int) -> bool:
    """Tell whether the values of a concatenation's inputs differ much in size."""
    graph = draft.graph
    inputs = [i for i in graph.operators[position].inputs if graph.is_activation(i)]
    runner, peaks = Runner(graph, inputs), dict.fromkeys(inputs, 0.0)
    for feed in draft.feeds:
        for index, value in runner.run(feed).items():
            peaks[index] = max(peaks[index], float(np.abs(value).max(initial=0)))
    return len(peaks) > 1 and max(peaks.values()) > _MIXED * min(peaks.values())


def _until_outputs(graph: Graph, position: int) -> list[int]:
    """Return an operator and all after it, if these only move values; else nothing."""
    found = [position]
    reached = set(graph.operators[position].outputs)
    for later in range(position + 1, len(graph.operators)):
        operator = graph.operators[later]
        if reached & set(operator.inputs):
            rule = RULES.get(graph.op(operator))
            if rule is None or rule.scaling not in (Scaling.SAME, Scaling.SHARED):
                return []
            found.append(later)
            reached |= set(operator.outputs)
    return found
