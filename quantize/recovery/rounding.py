"""Round weights so that their errors make up for one another.

GPTQ of Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers": weights are rounded one input at a time, and what each rounding does to the layer's
output on calibration samples is taken up by the weights that are still to come. The result stays a
float graph, whose weights lie on the steps that they would be rounded to anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeconv.artifacts import Array
from edgeconv.quantize.graph import Graph
from edgeconv.quantize.qparams import WEIGHT_MAX, weight_scales
from edgeconv.quantize.recovery.base import Draft, replace_constant
from edgeconv.quantize.runs import Runner

_DAMPING = 0.01
"""Share of the mean square of the inputs that is added to each, as in the paper."""

_WIDEST = 512
"""Layers with more inputs to an output take longer than they are worth."""

_ROWS = 256
"""At most as many rows of a sample are looked at."""

_Matrix = npt.NDArray[np.float64]


class Rounding:
    """See the module."""

    name = "rounding"
    worth_db = 0.1
    slack_db = 0.0
    chooses_ranges = False

    def drafts(self, draft: Draft) -> Iterator[Draft]:
        """Yield one draft, with all dense layers and convolutions of one pixel rounded so."""
        layers = _layers(draft.graph)
        if not layers:
            return
        seconds = _second_moments(draft, {source for source, _ in layers.values()})
        graph = draft.graph.copy()
        for position, (source, weight) in layers.items():
            rows = draft.graph.value(weight)
            found = rounded(rows.reshape(rows.shape[0], -1).astype(np.float64), seconds[source])
            replace_constant(graph, position, 1, found.reshape(rows.shape))
        yield replace(draft, graph=graph)


def _layers(graph: Graph) -> dict[int, tuple[int, int]]:
    """Return the input and the weight of each layer concerned, by position.

    Weights that several layers share stay as they are, or the file would hold them twice.
    """
    found = {}
    readers = graph.consumers()
    for position, operator in enumerate(graph.operators):
        if graph.op(operator) not in ("FULLY_CONNECTED", "CONV_2D"):
            continue
        source, weight = operator.inputs[:2]
        if not graph.is_activation(source) or not graph.is_constant(weight):
            continue
        if len(readers[weight]) > 1:
            continue
        shape = graph.shape(weight)
        dense = all(size == 1 for size in shape[1:-1]) and shape[-1] == graph.shape(source)[-1]
        if dense and 1 < shape[-1] <= _WIDEST:
            found[position] = source, weight
    return found


def _second_moments(draft: Draft, sources: set[int]) -> dict[int, _Matrix]:
    """Return the sum of the products of each two channels of tensors, over all samples."""
    runner = Runner(draft.graph, sorted(sources))
    found: dict[int, _Matrix] = {}
    for feed in draft.feeds:
        for index, value in runner.run(feed).items():
            rows = value.reshape(-1, value.shape[-1])
            rows = rows[:: max(1, len(rows) // _ROWS)].astype(np.float64)
            found[index] = found.get(index, 0.0) + rows.T @ rows
    return found


def rounded(weight: _Matrix, second: _Matrix) -> Array:
    """Return weights on the steps of their rows' scales.

    Args:
        weight: ``[outputs, inputs]``.
        second: The second moments of the inputs, ``[inputs, inputs]``.
    """
    scales = weight_scales(weight, 0).astype(np.float64)
    size = len(second)
    damping = _DAMPING * max(float(np.trace(second)) / size, 1e-12)
    inverse = np.linalg.inv(second + damping * np.eye(size))
    upper = np.linalg.cholesky(inverse).T
    left = weight.copy()
    steps = np.rint(weight / scales[:, None])
    # The largest weight of a row is what its scale comes from, and keeps its value.
    fixed = np.abs(steps) == WEIGHT_MAX
    for place in range(size):
        found = np.rint(left[:, place] / scales).clip(1 - WEIGHT_MAX, WEIGHT_MAX - 1)
        steps[:, place] = np.where(fixed[:, place], steps[:, place], found)
        error = (left[:, place] - steps[:, place] * scales) / upper[place, place]
        left[:, place + 1 :] -= np.outer(error, upper[place, place + 1 :])
    found_weights: Array = (steps * scales[:, None]).astype(np.float32)
    return found_weights
