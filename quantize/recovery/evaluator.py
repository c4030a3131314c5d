"""Measure how well candidates of a quantized model follow the float model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeconv.core.artifacts import Array
from edgeconv.metrics.parts import Part, Slice, divide
from edgeconv.quantize.joins import joins
from edgeconv.quantize.params.needs import unary_need
from edgeconv.quantize.recovery.base import Candidate
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

_EXACT_DB = 60.0
"""What is better than that counts as that: the other outputs are to gain."""

_LEAST_CHANCE = -math.log(512)
"""Below half of a step of 1/256, a chance is zero in 8 bits."""

_View = Callable[[Array], Array]

_FLAT = ("SOFTMAX", "LOGISTIC")


@dataclass(frozen=True, slots=True)
class Sqnr:
    """Signal and noise of each part of the outputs, for each sample.

    Attributes:
        power: Squared sums of the float model's values, ``[part, sample]``.
        noise: The same of the differences from them.
        shares: What each part counts, ``[output, part]``; nothing where it only must not lose.
        inner: Places of the outputs that are measured before they are flattened.
    """

    power: npt.NDArray[np.float64]
    noise: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    inner: frozenset[int] = frozenset()

    def join(self, other: Sqnr) -> Sqnr:
        """Return the figures of the samples of both."""
        power, noise = (
            np.concatenate(pair, axis=1)
            for pair in ((self.power, other.power), (self.noise, other.noise))
        )
        return Sqnr(power, noise, self.shares, self.inner)

    @property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Which parts are those of outputs as users see them."""
        hidden = np.any(self.shares[sorted(self.inner)], axis=0)
        found: npt.NDArray[np.bool_] = np.logical_not(hidden)
        return found

    @property
    def parts(self) -> npt.NDArray[np.float64]:
        """SQNR of each part in dB, over all samples."""
        return _decibels(self.power.sum(axis=1), self.noise.sum(axis=1))

    def without_each(self) -> npt.NDArray[np.float64]:
        """Return the SQNR of each part in dB over all samples but one, ``[part, sample]``."""
        power, noise = (
            values.sum(axis=1, keepdims=True) - values for values in (self.power, self.noise)
        )
        return _decibels(power.clip(0), noise.clip(0))

    def scores(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return what the SQNR of the parts, ``[part, ...]``, make together.

        It is the worst part's, averaged with the mean of all outputs, of which each is the mean of
        its parts.
        """
        outputs = self.shares @ parts
        worst = parts[self.shares.any(axis=0)].min(axis=0)
        found: npt.NDArray[np.float64] = (worst + outputs.mean(axis=0)) / 2
        return found

    @property
    def score(self) -> float:
        """SQNR over all samples in dB: the worst part's, averaged with the mean of all outputs."""
        return float(self.scores(self.parts))

    @property
    def each(self) -> npt.NDArray[np.float64]:
        """SQNR of each sample in dB, the mean of all outputs'."""
        found: npt.NDArray[np.float64] = (self.shares @ _decibels(self.power, self.noise)).mean(0)
        return found


def _decibels(
    power: npt.NDArray[np.float64], noise: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return SQNR in dB within bounds; without a signal any noise is the worst."""
    limit = 10 ** (_EXACT_DB / 10)
    ratio = np.where(noise > 0, power / np.where(noise > 0, noise, 1.0), limit)
    found: npt.NDArray[np.float64] = 10 * np.log10(ratio.clip(1 / limit, limit))
    return found


class Evaluator:
    """Measures candidates against the float model.

    The parts of an output count alike, whatever their size: the pieces that the graph joins, and in
    these the groups of channels whose ranges differ (`edgeconv.metrics.parts`). An output of
    SOFTMAX or LOGISTIC is measured by what decides it, logarithms of chances, as far as 8 bits of
    the output show them: the output hides errors near its ends, so that a few samples near a
    decision would decide alone, and its input shows errors that do not matter. What users see is
    the output all the same: it counts nothing, and must not lose.

    Args:
        graph: The float graph.
        feeds: The samples to measure on.

    Attributes:
        outputs: The names of the tensors that are compared; integer outputs are not.
        parts: The parts of each of them.
    """

    def __init__(self, graph: Graph, feeds: Sequence[Sequence[Array]]) -> None:
        self._feeds = feeds
        self.outputs: list[str] = []
        pieces: list[tuple[Part, ...]] = []
        producers = graph.producers()
        flattened: dict[int, OperatorT] = {}
        self._guarded: list[str] = []
        for index in filter(graph.is_activation, graph.outputs):
            seen = index
            while seen in producers and graph.op(producers[seen]) == "RESHAPE":
                seen = producers[seen].inputs[0]
            if seen in producers and graph.op(producers[seen]) in _FLAT:
                flattened[len(self.outputs)] = producers[seen]
                self._guarded.append(graph.name(index))
                index = producers[seen].inputs[0]  # noqa: PLW2901 - measured instead
            pieces.append(pieces_of(graph, index, producers))
            self.outputs.append(graph.name(index))
        self._views = {place: _view(graph, operator) for place, operator in flattened.items()}
        self._reference = self._values(graph)
        self.parts: Sequence[Sequence[Part]] = [
            divide(values, joined) or (Part(()),)
            for values, joined in zip(self._reference, pieces, strict=False)
        ]

    def on(self, places: slice) -> Evaluator:
        """Return the judge of some of the samples, by their place; its parts are the same."""
        found = copy.copy(self)
        found._feeds = self._feeds[places]
        found._reference = [values[places] for values in self._reference]
        return found

    def measure(self, candidate: Candidate) -> Sqnr:
        """Return the figures of a candidate."""
        found = self._values(candidate.built())
        power, noise, shares = [], [], []
        whole = (Part(()),)
        for place, (one, other) in enumerate(zip(self._reference, found, strict=True)):
            guarded = place >= len(self.outputs)
            for part in whole if guarded else self.parts[place]:
                signal, seen = (
                    part.select(values).astype(np.float64).reshape(len(values), -1)
                    for values in (one, other)
                )
                power.append(np.square(signal).sum(axis=1))
                noise.append(np.square(signal - seen).sum(axis=1))
                shares.append((0, 0.0) if guarded else (place, 1 / len(self.parts[place])))
        weights = np.zeros((len(self.outputs), len(shares)))
        for column, (place, share) in enumerate(shares):
            weights[place, column] = share
        return Sqnr(np.stack(power), np.stack(noise), weights, frozenset(self._views))

    def _values(self, graph: Graph) -> list[Array]:
        made = [index for operator in graph.operators for index in operator.outputs]
        computed = {graph.name(index): index for index in (*graph.inputs, *made)}
        tensors = [computed.get(name, -1) for name in (*self.outputs, *self._guarded)]
        runner = Runner(graph, tensors)
        rows = [runner.run(feed) for feed in self._feeds]
        columns = [graph.real(index, np.stack([row[index] for row in rows])) for index in tensors]
        for place, view in self._views.items():
            columns[place] = view(columns[place])
        return columns


def _view(graph: Graph, operator: OperatorT) -> _View:
    """Return what shows of the inputs of an operator that flattens them what decides its output."""
    if graph.op(operator) == "SOFTMAX":
        return log_chances(operator.builtinOptions.beta)
    needed = unary_need(graph.op(operator))

    def within(values: Array) -> Array:
        return values.clip(needed.low, needed.high)

    return within


def log_chances(beta: float) -> _View:
    """Return the logarithm of SOFTMAX, row by row, down to where 8 bits take it for zero."""

    def seen(values: Array) -> Array:
        scaled = beta * values.astype(np.float64)
        scaled -= scaled.max(axis=-1, keepdims=True)
        scaled -= np.log(np.exp(scaled).sum(axis=-1, keepdims=True))
        found: Array = scaled.clip(_LEAST_CHANCE)
        return found

    return seen


def pieces_of(graph: Graph, index: int, producers: dict[int, OperatorT]) -> tuple[Part, ...]:
    """Return what a tensor is joined from, where its pieces lie side by side along one axis."""
    join = joins.find(graph, [index]).get(index)
    along = None if join is None else join.along()
    if join is None or along is None:
        return ()
    found = []
    for piece, positions in zip(join.pieces, along.positions, strict=True):
        place = Slice.of(along.axis, positions.tolist())
        if place is None:
            return ()
        maker = producers.get(piece)
        flat = maker is not None and graph.op(maker) in _FLAT
        found.append(Part((place,), one_unit=flat))
    return tuple(found)
