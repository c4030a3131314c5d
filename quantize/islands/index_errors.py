"""How often an integer model selects another sample than its float form does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.quantize.islands import islands
from edgeconv.quantize.rewrite import check, static
from edgeconv.quantize.rewrite.lower import lower
from edgeconv.quantize.rules.precision import Precision
from edgeconv.quantize.statistics.calibrators import CALIBRATORS
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

INDEX_SLOTS = {"GATHER": (1,), "GATHER_ND": (1,), "SCATTER_ND": (0,), "DYNAMIC_UPDATE_SLICE": (2,)}
"""Where operators take the indices of what they pick or replace."""


def differing(
    graph: Graph, precisions: Sequence[Precision], feeds: Sequence[Sequence[Array]]
) -> float:
    """Return the share of indices that come out different, of the operator that fares worst.

    Args:
        graph: The float graph, before it is lowered; it is left as it is.
        precisions: The precision of each operator.
        feeds: Per sample the graph's inputs, in the stored form.

    Raises:
        UnsupportedModel: An operator has no integer form.
    """
    trial = graph.copy()
    lowered = lower(trial, precisions)
    lowered, _ = islands.formless(trial, lowered)
    check.supported(trial, lowered)
    ranges = static.calibrated_ranges(trial, feeds, CALIBRATORS["minmax"], everything=True)
    built = trial.copy()
    static.build(built, ranges, lowered, "float32")
    before, after = _computed(trial), _computed(built)
    names = sorted(before.keys() & after.keys())
    runners = [Runner(one, [found[name] for name in names])
               for one, found in ((trial, before), (built, after))]  # fmt: skip
    wrong = np.zeros(len(names))
    for feed in feeds:
        expected, found = (runner.run(feed) for runner in runners)
        pairs = [(expected[before[name]], found[after[name]]) for name in names]
        wrong += [float(np.mean(first != second)) for first, second in pairs]
    return float(wrong.max(initial=0.0)) / max(len(feeds), 1)


def _computed(graph: Graph) -> dict[str, int]:
    """Return the tensors that operators take indices from, by name."""
    return {
        graph.name(operator.inputs[slot]): operator.inputs[slot]
        for operator in graph.operators
        for slot in INDEX_SLOTS.get(graph.op(operator), ())
        if not graph.is_constant(operator.inputs[slot])
        and operator.inputs[slot] not in graph.inputs
    }
