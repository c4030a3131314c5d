"""What recovery asks of a method, and what it gives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from edgeconv.core.artifacts import Array
from edgeconv.quantize.params.factors import Factors
from edgeconv.quantize.params.input_scales import Held, limit
from edgeconv.quantize.params.qparams import Range
from edgeconv.quantize.rewrite import static
from edgeconv.quantize.rules.precision import Precision
from edgeconv.quantize.statistics.calibrate import ranges_of
from edgeconv.quantize.statistics.calibrators import Calibrator, HistogramObserver
from edgeconv.tflite.graph import Graph


@dataclass(frozen=True, slots=True)
class Candidate:
    """A float graph and all that decides what it becomes as integers.

    Attributes:
        graph: The lowered float graph; methods leave it as it is and work on copies.
        feeds: Per sample the graph's inputs, in the stored form.
        calibrator: Chooses ranges.
        precisions: The precision of each operator.
        seen: What calibration saw of all activations that decide.
        ranges: The ranges of all activations that decide; found by calibration.
        factors: What the channels of tensors were multiplied with.
        shares: What is kept of the ranges that the calibrator finds, by tensor.
        held: What the graph's inputs can hold, in order; no method changes these.
    """

    graph: Graph
    feeds: Sequence[Sequence[Array]]
    calibrator: Calibrator
    precisions: Sequence[Precision]
    seen: Mapping[int, HistogramObserver] = field(default_factory=dict)
    ranges: Mapping[int, Range] = field(default_factory=dict)
    factors: Factors = field(default_factory=dict)
    shares: Mapping[int, float] = field(default_factory=dict)
    held: Held = ()

    @property
    def loops(self) -> bool:
        """Whether states go round: what one step makes, the next one takes."""
        return bool(self.graph.states)

    def calibrated(self) -> Candidate:
        """Return the candidate with the ranges that its calibrator finds in what was seen."""
        return self.ranged(ranges_of(self.seen, self.calibrator))

    def ranged(self, ranges: Mapping[int, Range]) -> Candidate:
        """Return the candidate with what is kept of ranges that a calibrator found."""
        kept = {index: found.scaled(self.shares.get(index, 1.0)) for index, found in ranges.items()}
        return replace(self, ranges=limit(self.graph, self.held, kept))

    def clipped(self, index: int, share: float) -> Candidate:
        """Return the candidate, which has ranges, with a share of one tensor's range."""
        shares = {**self.shares, index: self.shares.get(index, 1.0) * share}
        ranges = {**self.ranges, index: self.ranges[index].scaled(share)}
        return replace(self, ranges=ranges, shares=shares)

    def observed(self) -> Candidate:
        """Return the candidate, calibrated on its samples."""
        return replace(self, seen=self.shown()).calibrated()

    def shown(self) -> dict[int, HistogramObserver]:
        """Return what activations hold over its samples."""
        everything = not static.uniform(self.precisions)
        return static.collect_statistics(
            self.graph, self.feeds, everything=everything, held=self.held
        )

    def ready(self) -> Candidate:
        """Return the candidate with its ranges; what it has seen before is not run again."""
        if self.ranges:
            return self
        return self.calibrated() if self.seen else self.observed()

    def on(self, graph: Graph, precisions: Sequence[Precision] | None = None) -> Candidate:
        """Return the candidate of another float graph, nothing clipped, to be calibrated anew."""
        chosen = self.precisions if precisions is None else precisions
        return replace(self, graph=graph, precisions=chosen, shares={}, seen={}, ranges={})

    def built(self) -> Graph:
        """Return the quantized graph, with float32 inputs and outputs."""
        graph = self.graph.copy()
        static.build(graph, dict(self.ranges), self.precisions, "float32", held=self.held)
        return graph


class Recovery(Protocol):
    """Wins back accuracy: proposes candidates, of which the best is kept if it is worth it.

    Attributes:
        name: What users call it.
        worth_db: The gain that a candidate must bring, in dB of SQNR, on samples that it has not
            seen.
        slack_db: Among candidates that are as good up to this, the last one is taken: the safest.
        chooses_ranges: Whether it only chooses ranges, which other samples have to judge.
    """

    @property
    def chooses_ranges(self) -> bool:
        """Whether it only chooses ranges."""
        ...

    @property
    def name(self) -> str:
        """What users call it."""
        ...

    @property
    def worth_db(self) -> float:
        """The gain that a candidate must bring, in dB of SQNR, on samples that it has not seen."""
        ...

    @property
    def slack_db(self) -> float:
        """Among candidates that are as good up to this, the last one is taken."""
        ...

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Propose candidates that compute the same in float, or close to it; none where it is idle.

        What is kept is made again from all samples, by its place among the candidates. What needs
        ranges asks for `Candidate.ready`.
        """
        ...


def replace_constant(graph: Graph, position: int, slot: int, value: Array) -> None:
    """Give one operator another constant; others that share the old one keep it."""
    operator = graph.operators[position]
    inputs = list(operator.inputs)
    name = graph.name(inputs[slot]) if inputs[slot] >= 0 else f"{graph.label(operator)}/bias"
    inputs[slot] = graph.add_constant(name, value.astype("float32"))
    operator.inputs = inputs
