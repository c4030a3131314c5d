"""Take the mean error of each layer's channels out through its bias.

Empirical bias correction of Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
and Bias Correction", section 4.2: rounding shifts the mean of a channel, and what comes after adds
such shifts up.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from edgeconv.quantize.graph import Graph
from edgeconv.quantize.localise import Alone
from edgeconv.quantize.recovery.base import Draft, replace_constant
from edgeconv.quantize.rules import RULES

_LINEAR = (ActivationFunctionType.NONE, ActivationFunctionType.RELU)


class BiasCorrection:
    """See the module."""

    name = "bias-correction"
    worth_db = 0.05
    slack_db = 0.0
    chooses_ranges = False

    def drafts(self, draft: Draft) -> Iterator[Draft]:
        """Yield one draft, in which each layer makes up for the error that it makes alone."""
        layers = _layers(draft.graph)
        if not layers:
            return
        shifts = _mean_errors(draft, list(layers))
        graph = draft.graph.copy()
        for output, position in layers.items():
            if output in shifts:
                _shift(graph, position, shifts[output])
        yield draft.on(graph)


def _layers(graph: Graph) -> dict[int, int]:
    """Return by output the position of each operator whose bias can be changed."""
    found = {}
    for position, operator in enumerate(graph.operators):
        rule = RULES.get(graph.op(operator))
        if rule is None or rule.bias is None or rule.bias >= len(operator.inputs):
            continue
        activation = operator.builtinOptions.fusedActivationFunction
        if graph.is_constant(operator.inputs[rule.bias]) and activation in _LINEAR:
            found[operator.outputs[0]] = position
    return found


def _mean_errors(
    draft: Draft, outputs: list[int]
) -> dict[int, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return what must be added to each channel."""
    alone = Alone(draft.graph, draft.built())
    limits = alone.limits()
    errors: dict[int, list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = {}
    for feed in draft.feeds:
        for index, (expected, found) in alone.run(feed).items():
            if index in outputs and index in limits:
                # What saturates, and may, is not to be made up for by the rest.
                within = expected.astype(np.float64).clip(limits[index].low, limits[index].high)
                error = (within - found).reshape(-1, expected.shape[-1])
                errors.setdefault(index, []).append(error.mean(axis=0))
    return {index: np.mean(parts, axis=0) for index, parts in errors.items()}


def _shift(
    graph: Graph, position: int, shift: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> None:
    operator = graph.operators[position]
    slot = RULES[graph.op(operator)].bias
    assert slot is not None
    replace_constant(graph, position, slot, graph.value(operator.inputs[slot]) + shift)
