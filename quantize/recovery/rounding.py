"""Round weights so that their errors make up for one another.

GPTQ of Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers": weights are rounded one input at a time, those of the strongest inputs first, and
what each rounding does to the layer's output on calibration samples is taken up by the weights that
are still to come. The result stays a float graph, whose weights lie on the steps that they would be
rounded to anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeconv.core.artifacts import Array
from edgeconv.quantize.params.qparams import WEIGHT_MAX, weight_scales
from edgeconv.quantize.recovery.base import Candidate, replace_constant
from edgeconv.quantize.recovery.patches import Window
from edgeconv.quantize.rules.precision import BITS
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

_DAMPING = 0.01
"""Share of the mean square of the inputs that is added to each, as in the paper."""

_WIDEST = 1152
"""Layers with more inputs to an output take longer than they are worth."""

_ROWS, _ROWS_PER_INPUT = 64, 8
"""At most that many rows of a sample are looked at, or that many of all for each input."""

_BLOCK = 64
"""As many inputs are rounded before all that come after take up their errors."""

_Matrix = npt.NDArray[np.float64]
_Source = tuple[int, Window]


class Rounding:
    """See the module."""

    name = "rounding"
    worth_db = 0.1
    slack_db = 0.0
    chooses_ranges = False

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield one candidate, with all dense layers and convolutions rounded so."""
        layers = {
            position: source
            for position, source in _layers(candidate.graph).items()
            if candidate.precisions[position] in BITS
        }
        if not layers:
            return
        seconds = _second_moments(candidate, set(layers.values()))
        graph = candidate.graph.copy()
        for position, source in layers.items():
            weight = candidate.graph.value(graph.operators[position].inputs[1])
            flat = weight.reshape(weight.shape[0], -1).astype(np.float64)
            replace_constant(
                graph, position, 1, rounded(flat, seconds[source]).reshape(weight.shape)
            )
        yield replace(candidate, graph=graph)


def _layers(graph: Graph) -> dict[int, _Source]:
    """Return what each layer concerned reads, and how, by position.

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
        shape = graph.shape(weight)
        whole = shape[-1] == graph.shape(source)[-1]
        if len(readers[weight]) == 1 and whole and 1 < int(np.prod(shape[1:])) <= _WIDEST:
            found[position] = source, Window.of(graph, operator)
    return found


def _second_moments(candidate: Candidate, sources: set[_Source]) -> dict[_Source, _Matrix]:
    """Return the mean product of each two inputs of layers, over all samples, shrunk."""
    runner = Runner(candidate.graph, sorted({index for index, _ in sources}))
    found: dict[_Source, Moments] = {source: Moments() for source in sources}
    for feed in candidate.feeds:
        values = runner.run(feed)
        for index, window in sources:
            inputs = window.size[0] * window.size[1] * values[index].shape[-1]
            most = max(_ROWS, _ROWS_PER_INPUT * inputs // len(candidate.feeds))
            found[index, window].add(window.rows(values[index], most))
    return {source: moments.shrunk() for source, moments in found.items()}


@dataclass(slots=True)
class Moments:
    """The mean products of each two inputs of a layer, ``[inputs, inputs]``, over samples.

    Attributes:
        total: The sum of the samples' mean products.
        squares: The sum of the squares of all their elements off the diagonal.
        count: The number of samples.
        waiting: Rows that are not in the total yet: products of many at once take less time.
    """

    total: _Matrix | None = None
    squares: float = 0.0
    count: int = 0
    waiting: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def add(self, rows: npt.NDArray[np.float32]) -> None:
        """Take in one more sample, ``[rows, inputs]``."""
        scaled = rows / np.float32(max(len(rows), 1) ** 0.5)
        # The squares of R'R and of RR' have the same sum, and one of them is smaller.
        few = scaled if scaled.shape[0] < scaled.shape[1] else scaled.T
        diagonal = np.square(scaled).sum(axis=0, dtype=np.float64)
        self.squares += max(_squared(few @ few.T) - float(diagonal @ diagonal), 0.0)
        self.count += 1
        self.waiting.append(scaled)
        if sum(map(len, self.waiting)) >= rows.shape[1]:
            self._sum()

    def _sum(self) -> None:
        if self.waiting:
            stacked = np.concatenate(self.waiting)
            self.waiting.clear()
            products = stacked.T @ stacked
            if self.total is None:
                self.total = np.zeros(products.shape)
            self.total += products

    def shrunk(self) -> _Matrix:
        """Return the mean with what lies off the diagonal as near to zero as chance has it.

        What few samples have in common by chance, others do not have: errors must not make up for
        one another there. The share that is taken away is the one of least expected squared error,
        of Schaefer and Strimmer 2005, "A Shrinkage Approach to Large-Scale Covariance Matrix
        Estimation and Implications for Functional Genomics", target D.
        """
        self._sum()
        assert self.total is not None, "there is at least one sample"
        mean = self.total / self.count
        diagonal = np.diag(mean).copy()
        known = max(_squared(mean) - float(diagonal @ diagonal), 0.0)
        chance = max(self.squares / self.count - known, 0.0) / max(self.count - 1, 1)
        share = min(chance / known, 1.0) if known > 0 and self.count > 1 else 0.0
        mean *= 1 - share
        np.fill_diagonal(mean, diagonal)
        return mean


def _squared(values: npt.NDArray[Any]) -> float:
    """Return the sum of the squares of all elements; the array lies together in memory."""
    flat = values.reshape(-1)
    return float(np.dot(flat, flat))


def rounded(weight: _Matrix, second: _Matrix) -> Array:
    """Return weights on the steps of their rows' scales.

    Args:
        weight: ``[outputs, inputs]``.
        second: The second moments of the inputs, ``[inputs, inputs]``.
    """
    order = np.argsort(-np.diag(second), kind="stable")
    size = len(order)
    damping = _DAMPING * max(float(np.trace(second)) / size, 1e-12)
    inverse = np.linalg.inv(second[np.ix_(order, order)] + damping * np.eye(size))
    upper = np.linalg.cholesky(inverse).T
    scales = weight_scales(weight, 0).astype(np.float64)
    # In units of steps, and by input, so that what is used together lies together in memory.
    left = np.ascontiguousarray((weight[:, order] / scales[:, None]).T, np.float32)
    steps = np.rint(left)
    # The largest weight of a row is what its scale comes from, and keeps its value.
    fixed = np.abs(steps) == WEIGHT_MAX
    shares = (upper / np.diag(upper)[:, None]).astype(np.float32)
    for start in range(0, size, _BLOCK):
        block = slice(start, min(start + _BLOCK, size))
        errors = np.empty_like(left[block])
        for place in range(block.start, block.stop):
            found = np.rint(left[place]).clip(1 - WEIGHT_MAX, WEIGHT_MAX - 1)
            np.copyto(steps[place], found, where=~fixed[place])
            error = errors[place - start] = left[place] - steps[place]
            rest = slice(place + 1, block.stop)
            left[rest] -= shares[place, rest, None] * error
        left[block.stop :] -= shares[block, block.stop :].T @ errors
    weights = np.empty_like(weight)
    weights[:, order] = steps.T * scales[:, None]
    return weights.astype(np.float32)
