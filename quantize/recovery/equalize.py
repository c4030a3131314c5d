"""Put factors on channels, so that one scale serves all channels of a tensor.

After Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
with the balance between activations and weights of Xiao et al. 2023, "SmoothQuant". The factors
reach across all that `channels` lets through, not only from one convolution to the next. Weights
have a scale for each output channel, so only what enters dense layers and full convolutions pays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeconv.quantize.params.factors import Factors, rounded
from edgeconv.quantize.recovery.base import Candidate, replace_constant
from edgeconv.quantize.recovery.channels import WEIGHTED, ChannelEquivalence, Ids
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

_BALANCES = (0.25, 0.5, 0.75, 1.0)
_LARGEST = 64.0
"""Largest factor: channels with next to nothing in them are not blown up to the full range."""

_Vector = npt.NDArray[np.float64]


class Equalize:
    """See the module."""

    name = "equalize"
    worth_db = 0.1
    slack_db = 0.0
    chooses_ranges = False

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield one candidate for each balance between activations and weights."""
        ties = ChannelEquivalence(candidate.graph)
        free = {
            index: roots
            for index in ties.tensors
            if (roots := ties.roots(index)).max(initial=-1) >= 0
        }
        if not free:
            return
        weights = _weight_peaks(candidate.graph, free)
        peaks = _peaks(candidate, list(free))
        for balance in _BALANCES:
            yield _multiplied(candidate, ties, _factors(ties, free, peaks, weights, balance))


def _peaks(candidate: Candidate, tensors: list[int]) -> dict[int, _Vector]:
    """Return the largest absolute value of each channel."""
    runner = Runner(candidate.graph, tensors)
    found: dict[int, _Vector] = {}
    for feed in candidate.feeds:
        for index, value in runner.run(feed).items():
            rows = np.abs(value).reshape(-1, value.shape[-1])
            found[index] = np.maximum(found.get(index, 0.0), rows.max(axis=0).astype(np.float64))
    return found


def _weight_peaks(graph: Graph, free: dict[int, Ids]) -> dict[int, _Vector]:
    """Return by tensor the largest weight, relative to its row's, that reads each channel."""
    found: dict[int, _Vector] = {}
    for operator in graph.operators:
        source = operator.inputs[0] if operator.inputs else -1
        if graph.op(operator) not in WEIGHTED[:2] or source not in free:
            continue
        weight = np.abs(graph.value(operator.inputs[1])).astype(np.float64)
        rows = weight.reshape(weight.shape[0], -1, weight.shape[-1]).max(axis=1)
        rows /= np.maximum(rows.max(axis=1, keepdims=True), 1e-30)
        peak = rows.max(axis=0)
        found[source] = np.maximum(found.get(source, 0.0), peak / max(peak.max(), 1e-30))
    return found


def _factors(
    ties: ChannelEquivalence,
    free: dict[int, Ids],
    peaks: dict[int, _Vector],
    weights: dict[int, _Vector],
    balance: float,
) -> dict[int, float]:
    """Return the factor of each variable: the largest that makes no channel the largest."""
    shares: dict[int, float] = {}
    for index, shared in weights.items():
        for root, share in zip(free[index].tolist(), shared.tolist(), strict=True):
            shares[root] = max(shares.get(root, 1e-3), share)
    found: dict[int, float] = {}
    for index, roots in free.items():
        peak = peaks[index]
        if peak.max() <= 0:
            continue
        room = np.minimum(peak.max() / np.maximum(peak, 1e-30), 1e6)
        room **= 1 / ties.tensors[index].power
        for root, ratio in zip(roots.tolist(), room.tolist(), strict=True):
            factor = ratio
            if root in shares:
                factor = ratio**balance * shares[root] ** (1 - balance)
            if root >= 0:
                found[root] = min(found.get(root, _LARGEST), factor)
    names = list(found)
    values = rounded(np.maximum([found[root] for root in names], 1 / _LARGEST))
    return dict(zip(names, values.tolist(), strict=True))


def _multiplied(
    candidate: Candidate, ties: ChannelEquivalence, factors: dict[int, float]
) -> Candidate:
    """Return the candidate with the factors put on."""
    graph, scales = _apply(candidate.graph, ties, factors)
    return replace(candidate.on(graph), factors=scales)


def _apply(
    source: Graph, ties: ChannelEquivalence, factors: dict[int, float]
) -> tuple[Graph, Factors]:
    """Return a copy of the graph with the factors put on, and what each tensor got."""
    graph = source.copy()
    scales = {
        index: np.array([factors.get(root, 1.0) for root in ties.roots(index).tolist()])
        ** channels.power
        for index, channels in ties.tensors.items()
    }
    for position, operator in enumerate(graph.operators):
        known = [index for index in operator.inputs if index in ties.tensors]
        (output, *_) = operator.outputs
        if output not in ties.tensors or len(known) != 1:
            continue
        before, after = scales[known[0]], scales[output]
        if (before == 1).all() and (after == 1).all():
            continue
        name = graph.op(operator)
        if name in WEIGHTED:
            _rescale_weights(graph, position, before, after)
        elif name in ("MUL", "ADD", "SUB"):
            slot = next(s for s, i in enumerate(operator.inputs) if graph.is_constant(i))
            factor = after / before if name == "MUL" else after
            replace_constant(graph, position, slot, graph.value(operator.inputs[slot]) * factor)
    changed = {index: scale for index, scale in scales.items() if (scale != 1).any()}
    return graph, {graph.name(index): scale for index, scale in changed.items()}


def _rescale_weights(graph: Graph, position: int, before: _Vector, after: _Vector) -> None:
    operator = graph.operators[position]
    weight = graph.value(operator.inputs[1]).astype(np.float64)
    if graph.op(operator) == "DEPTHWISE_CONV_2D":
        weight = weight * (after / np.repeat(before, after.size // before.size))
    else:
        weight = weight / before * after.reshape(-1, *[1] * (weight.ndim - 1))
    replace_constant(graph, position, 1, weight)
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        replace_constant(graph, position, 2, graph.value(operator.inputs[2]) * after)
