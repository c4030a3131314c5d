"""Win back accuracy that quantization loses: try each method of `recovery`, keep what helps.

Methods that choose ranges are measured by cross-validation: every other calibration sample sets the
ranges, the rest measures. The others are measured on samples that set the ranges, where saturation
does not hide what they do. At the end all samples set the ranges of what was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeconv.artifacts import Array
from edgeconv.quantize.graph import Graph
from edgeconv.quantize.needs import softmax_view
from edgeconv.quantize.recovery import RECOVERIES
from edgeconv.quantize.recovery.base import Draft
from edgeconv.quantize.runs import Runner
from edgeconv.tflite import OperatorT

_SAMPLES = 48
"""As many samples are used."""

_FEWEST = 8
"""Fewer are not split: what sets the ranges then measures, too."""

_EXACT_DB = 60.0
"""What is better than that counts as that: the other outputs are to gain."""


@dataclass(frozen=True, slots=True)
class Step:
    """One method that was tried.

    Attributes:
        name: Its name.
        gain_db: What its best draft gained, in dB of SQNR, averaged over the outputs, on
            calibration samples.
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
    """Return the draft with what helps, without ranges, and what was tried.

    Args:
        draft: The draft, with all its samples; without ranges.
        disabled: Names of methods that are left out.
        progress: Called with (methods tried, methods in all).
    """
    few = draft.feeds[:: max(1, len(draft.feeds) // _SAMPLES)][:_SAMPLES]
    halves = (few[::2], few[1::2]) if len(few) >= _FEWEST else (few, few)
    best = replace(draft, feeds=few).calibrated()
    inside, outside = Judge(draft.graph, few[: _SAMPLES // 2]), Judge(draft.graph, halves[1])
    steps: list[Step] = []
    if not inside.outputs:
        return replace(draft, ranges={}), steps
    methods = [method for method in RECOVERIES if method.name not in disabled]
    for count, method in enumerate(methods, 1):
        judge = outside if method.chooses_ranges else inside
        base = replace(best, feeds=halves[0]).calibrated() if method.chooses_ranges else best
        scores = [(judge.score(found), found) for found in method.drafts(base)]
        if scores:
            score, found = max(scores, key=lambda pair: pair[0])
            gain = score - judge.score(base)
            steps.append(Step(method.name, gain, gain >= method.worth_db))
            if steps[-1].kept:
                best = replace(found, feeds=few).calibrated()
        if progress is not None:
            progress(count, len(methods))
    return replace(best, feeds=draft.feeds, ranges={}), steps


class Judge:
    """Measures drafts against the float model.

    The parts of a concatenation count alike, whatever their size. An output of SOFTMAX is measured
    at its input: the output hides errors where it is saturated, and other samples would show them.

    Args:
        graph: The float graph.
        feeds: The samples to measure on.

    Attributes:
        outputs: The names of the tensors that are compared; integer outputs are not.
    """

    def __init__(self, graph: Graph, feeds: Sequence[Sequence[Array]]) -> None:
        self._feeds = feeds
        self.outputs: list[str] = []
        self._views: list[Callable[[Array], Array] | None] = []
        self._splits: list[tuple[list[int], int]] = []
        producers = graph.producers()
        for index in graph.outputs:
            if not graph.is_activation(index):
                continue
            view, seen, judged = None, index, index
            while seen in producers and graph.op(producers[seen]) == "RESHAPE":
                seen = producers[seen].inputs[0]
            if seen in producers and graph.op(producers[seen]) == "SOFTMAX":
                judged = producers[seen].inputs[0]
                view = _logits(softmax_view(producers[seen]))
            self._splits.append(_parts(graph, producers.get(judged)))
            self.outputs.append(graph.name(judged))
            self._views.append(view)
        self._reference = self._values(graph)

    def score(self, draft: Draft) -> float:
        """Return the SQNR in dB, averaged over the outputs."""
        found = self._values(draft.built())
        figures = []
        for one, other, (ends, axis) in zip(self._reference, found, self._splits, strict=True):
            parts = zip(np.split(one, ends, axis), np.split(other, ends, axis), strict=True)
            figures.append(np.mean([_decibels(*pair) for pair in parts]))
        return float(np.mean(figures))

    def _values(self, graph: Graph) -> list[Array]:
        made = [index for operator in graph.operators for index in operator.outputs]
        computed = {graph.name(index): index for index in (*graph.inputs, *made)}
        tensors = [computed.get(name, -1) for name in self.outputs]
        runner = Runner(graph, tensors)
        rows = [runner.run(feed) for feed in self._feeds]
        columns = [graph.real(index, np.stack([row[index] for row in rows])) for index in tensors]
        return [
            column if view is None else view(column)
            for column, view in zip(columns, self._views, strict=True)
        ]


def _parts(graph: Graph, producer: OperatorT | None) -> tuple[list[int], int]:
    """Return where a concatenation's parts end, and along which axis of ``[sample, ...]``."""
    if producer is None or graph.op(producer) != "CONCATENATION":
        return [], 0
    shapes = [graph.shape(index) for index in producer.inputs]
    axis = int(producer.builtinOptions.axis) % len(shapes[0])
    return np.cumsum([shape[axis] for shape in shapes])[:-1].tolist(), axis + 1


def _logits(raise_low: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def view(values: Array) -> Array:
        peak = values.max(axis=-1, keepdims=True)
        return raise_low(values - peak)

    return view


def _decibels(expected: Array, found: Array) -> float:
    signal = expected.astype(np.float64)
    power, noise = float(np.square(signal).sum()), float(np.square(signal - found).sum())
    if noise <= power * 10 ** (-_EXACT_DB / 10):
        return _EXACT_DB
    return -_EXACT_DB if power == 0 else max(10 * float(np.log10(power / noise)), -_EXACT_DB)
