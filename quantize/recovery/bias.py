"""Take the mean error of each layer's channels out through its bias.

Empirical bias correction of Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
and Bias Correction", section 4.2: rounding shifts the mean of a channel, and what comes after adds
such shifts up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from edgeconv.core.artifacts import Array
from edgeconv.quantize.recovery.base import Candidate, replace_constant
from edgeconv.quantize.recovery.localise import PerLayerRunner
from edgeconv.quantize.rules.table import RULES
from edgeconv.tflite.graph import Graph

_Vector = npt.NDArray[np.float64]

_LINEAR = (ActivationFunctionType.NONE, ActivationFunctionType.RELU)


class BiasCorrection:
    """See the module."""

    name = "bias-correction"
    worth_db = 0.05
    slack_db = 0.0
    chooses_ranges = False

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield one candidate, in which each layer makes up for the error that it makes alone."""
        layers = _layers(candidate.graph)
        if not layers:
            return
        candidate = candidate.ready()
        shifts = _mean_errors(candidate, layers)
        graph = candidate.graph.copy()
        for output, position in layers.items():
            if output in shifts:
                _shift(graph, position, shifts[output])
        # The ranges are those of what the quantized model is to compute.
        yield replace(candidate, graph=graph)


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


def _mean_errors(candidate: Candidate, outputs: Collection[int]) -> dict[int, _Vector]:
    """Return what must be added to each channel."""
    quantized = candidate.built()
    alone = PerLayerRunner(candidate.graph, quantized, outputs)
    limits = alone.limits()
    errors: dict[int, list[_Vector]] = {}
    for feed in candidate.feeds:
        for index, (expected, stored) in alone.run_stored(feed).items():
            source = alone.pairs[index]
            if source in limits:
                # What saturates, and may, is not to be made up for by the rest.
                within = expected.clip(limits[source].low, limits[source].high)
                found = alone.real(index, _channel_means(stored))
                errors.setdefault(source, []).append(_channel_means(within) - found)
    return {index: np.mean(parts, axis=0) for index, parts in errors.items()}


def _channel_means(values: Array) -> _Vector:
    means: _Vector = values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)
    return means


def _shift(graph: Graph, position: int, shift: _Vector) -> None:
    operator = graph.operators[position]
    slot = RULES[graph.op(operator)].bias
    assert slot is not None
    replace_constant(graph, position, slot, graph.value(operator.inputs[slot]) + shift)
