"""Bring padding constants that lie far outside a tensor's values closer to these.

A constant that stands for "nothing here", such as -1e3 in front of a max-pool, would take most of
the steps of an 8-bit scale. Inside the range of the values it pads it takes none: Krishnamoorthi
2018, "Quantizing deep convolutional networks for efficient inference", section 2, on what zero and
padding ask of a range.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeconv.quantize.recovery.base import Candidate, replace_constant
from edgeconv.tflite.run import Runner


class Padding:
    """See the module."""

    name = "padding"
    worth_db = 0.1
    slack_db = 0.0
    chooses_ranges = False

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield one candidate, with all such constants moved to the end of the range."""
        graph = candidate.graph
        pads = {
            position: operator.inputs[0]
            for position, operator in enumerate(graph.operators)
            if graph.op(operator) == "PADV2"
            and graph.is_activation(operator.inputs[0])
            and graph.is_constant(operator.inputs[2])
        }
        if not pads:
            return
        runner = Runner(graph, sorted({*pads.values()}))
        low = dict.fromkeys(pads.values(), 0.0)
        high = dict.fromkeys(pads.values(), 0.0)
        for feed in candidate.feeds:
            for index, value in runner.run(feed).items():
                low[index] = min(low[index], float(value.min(initial=0)))
                high[index] = max(high[index], float(value.max(initial=0)))
        changed = graph.copy()
        moved = False
        for position, index in pads.items():
            value = graph.value(graph.operators[position].inputs[2])
            near = np.clip(value, low[index], high[index])
            if not np.array_equal(near, value):
                replace_constant(changed, position, 2, near)
                moved = True
        if moved:
            yield candidate.on(changed)
