"""Win back accuracy that quantization loses: try each method of `recovery`, keep what helps.

Every other calibration sample sets the ranges and whatever else a method learns; the rest, which
the drafts have not seen, judges them. At the end all samples set the ranges of what was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeconv.artifacts import Array
from edgeconv.quantize.graph import Graph
from edgeconv.quantize.needs import softmax_view
from edgeconv.quantize.recovery import RECOVERIES
from edgeconv.quantize.recovery.base import Draft
from edgeconv.quantize.runs import Runner
from edgeconv.tflite import OperatorT

_SAMPLES = 64
"""At most as many samples are used, half of them to judge."""

_VALUES = 1 << 26
"""Of models with large activations fewer, so that all of them together hold about as many values.
"""

_LEAST = 16
"""But not fewer than this for that reason."""

_FEWEST = 4
"""Fewer are not split. What sets the ranges then judges, too, but not the choice of ranges."""

_SHARE = 0.5
"""What the error of all samples together counts beside that of each."""

_EXACT_DB = 60.0
"""What is better than that counts as that: the other outputs are to gain."""


@dataclass(frozen=True, slots=True)
class Step:
    """One method that was tried.

    Attributes:
        name: Its name.
        gain_db: What its best draft gained on calibration samples that it had not seen, in dB of
            SQNR: the average of that of the worst output and that of all.
        kept: Whether that was worth it.
    """

    name: str
    gain_db: float
    kept: bool


def recover(
    draft: Draft,
    disabled: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Draft, list[Step]]:
    """Return the draft with what helps, and what was tried.

    The samples that it is left with are those that `Draft.seen` and the ranges are not from.

    Args:
        draft: The draft, with all its samples; without ranges.
        disabled: Names of methods that are left out.
        progress: Called with (methods tried, methods in all).
    """
    few = _few(draft)
    split = len(few) >= _FEWEST
    best = replace(draft, feeds=few[::2] if split else few).watched()
    judge = Judge(draft.graph, few[1::2] if split else few)
    steps: list[Step] = []
    if not judge.outputs:
        return draft, steps
    methods = [
        method
        for method in RECOVERIES
        if method.name not in disabled and (split or not method.chooses_ranges)
    ]
    reached = judge.score(best)
    for count, method in enumerate(methods, 1):
        scores = list(_scored(judge, method.drafts(best)))
        if scores:
            most = max(score for score, _ in scores)
            least = max(most - method.slack_db, min(most, reached + method.worth_db))
            score, found = [pair for pair in scores if pair[0] >= least][-1]
            steps.append(Step(method.name, score - reached, score - reached >= method.worth_db))
            if steps[-1].kept:
                best, reached = found, score
        if progress is not None:
            progress(count, len(methods))
    used = {id(feed) for feed in best.feeds}
    return replace(best, feeds=[feed for feed in draft.feeds if id(feed) not in used]), steps


def _scored(judge: Judge, drafts: Iterable[Draft]) -> Iterator[tuple[float, Draft]]:
    for found in drafts:
        try:
            score = judge.score(found)
        except RuntimeError:  # LiteRT refuses scales that lie too far apart for its arithmetic
            continue
        yield score, found


def _few(draft: Draft) -> Sequence[Sequence[Array]]:
    """Return the samples that are used, evenly spread."""
    graph = draft.graph
    size = sum(int(np.prod(graph.shape(index))) for index in graph.activations())
    count = min(_SAMPLES, max(_LEAST, _VALUES // max(size, 1)))
    step = max(1.0, len(draft.feeds) / count)
    places = np.arange(0, len(draft.feeds), step).astype(int)
    return [draft.feeds[place] for place in places.tolist()]


class Judge:
    """Measures drafts against the float model.

    The parts of a concatenation count alike, whatever their size. An output of SOFTMAX is measured
    at its input, down to what any sample needs: the output hides errors where it is saturated, so
    that a few samples near a decision would decide alone.

    Args:
        graph: The float graph.
        feeds: The samples to measure on.

    Attributes:
        outputs: The names of the tensors that are compared; integer outputs are not.
    """

    def __init__(self, graph: Graph, feeds: Sequence[Sequence[Array]]) -> None:
        self._feeds = feeds
        self.outputs: list[str] = []
        self._splits: list[tuple[list[int], int]] = []
        producers = graph.producers()
        softmaxes: dict[int, OperatorT] = {}
        for index in filter(graph.is_activation, graph.outputs):
            seen = index
            while seen in producers and graph.op(producers[seen]) == "RESHAPE":
                seen = producers[seen].inputs[0]
            if seen in producers and graph.op(producers[seen]) == "SOFTMAX":
                softmaxes[len(self.outputs)] = producers[seen]
                index = producers[seen].inputs[0]  # noqa: PLW2901 - measured instead
            self._splits.append(_parts(graph, producers.get(index)))
            self.outputs.append(graph.name(index))
        self._floors = [-np.inf] * len(self.outputs)
        self._reference = self._values(graph)
        for place, softmax in softmaxes.items():
            raised = softmax_view(softmax)(self._reference[place])
            self._floors[place] = float(raised.min(initial=np.inf))
            self._reference[place] = self._reference[place].clip(self._floors[place])

    def score(self, draft: Draft) -> float:
        """Return the SQNR in dB: the worst output's, averaged with the mean of all."""
        found = self._values(draft.built())
        figures = []
        for one, other, (ends, axis) in zip(self._reference, found, self._splits, strict=True):
            parts = zip(np.split(one, ends, axis), np.split(other, ends, axis), strict=True)
            figures.append(np.mean([_decibels(*pair) for pair in parts]))
        return (float(np.min(figures)) + float(np.mean(figures))) / 2

    def _values(self, graph: Graph) -> list[Array]:
        made = [index for operator in graph.operators for index in operator.outputs]
        computed = {graph.name(index): index for index in (*graph.inputs, *made)}
        tensors = [computed.get(name, -1) for name in self.outputs]
        runner = Runner(graph, tensors)
        rows = [runner.run(feed) for feed in self._feeds]
        columns = [graph.real(index, np.stack([row[index] for row in rows])) for index in tensors]
        return [column.clip(floor) for column, floor in zip(columns, self._floors, strict=True)]


def _parts(graph: Graph, producer: OperatorT | None) -> tuple[list[int], int]:
    """Return where a concatenation's parts end, and along which axis of ``[sample, ...]``."""
    if producer is None or graph.op(producer) != "CONCATENATION":
        return [], 0
    shapes = [graph.shape(index) for index in producer.inputs]
    axis = int(producer.builtinOptions.axis) % len(shapes[0])
    return np.cumsum([shape[axis] for shape in shapes])[:-1].tolist(), axis + 1


def _decibels(expected: Array, found: Array) -> float:
    """Return the SQNR in dB of all samples, averaged with the mean of each sample's.

    The former is what counts, but a few samples make it; the latter tells drafts apart where their
    difference is chance.
    """
    count = len(expected)
    signal = expected.astype(np.float64).reshape(count, -1)
    noise = np.square(signal - found.reshape(count, -1)).sum(axis=1)
    power = np.square(signal).sum(axis=1)
    each = [_ratio(*pair) for pair in zip(power.tolist(), noise.tolist(), strict=True)]
    total = _ratio(float(power.sum()), float(noise.sum()))
    return _SHARE * total + (1 - _SHARE) * float(np.mean(each))


def _ratio(power: float, noise: float) -> float:
    if noise <= power * 10 ** (-_EXACT_DB / 10):
        return _EXACT_DB
    return -_EXACT_DB if power == 0 else max(10 * float(np.log10(power / noise)), -_EXACT_DB)
