"""Clip the ranges of single tensors where the model's outputs say that it pays.

What squared error a tensor's own quantization makes does not tell what it costs: small values may
matter more than large ones, as in a spectrogram whose logarithm is what counts. So each range is
tried shorter, one tensor after the other, and the outputs decide on samples that did not set the
ranges, after Wu et al. 2020, "EasyQuant: Post-training Quantization via Scale Optimization", who
compare layers' outputs. Tensors whose extremes lie farthest out come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeconv.quantize.recovery.base import Candidate, Recovery
from edgeconv.quantize.rules.table import RULES
from edgeconv.quantize.statistics.calibrators import HistogramObserver
from edgeconv.tflite.graph import Graph

_SHARES = (0.7, 0.4)
"""What is kept of a range."""

_MOST = 12
"""At most as many tensors are tried."""

_EFFORT = 5e10
"""A model for which they take more than as many operations is too large for that: seconds."""

_PER_VALUE = 16
"""What a value costs that is computed other than by products, in products."""

_WORTH_DB = 0.3


class Clipping:
    """See the module; `parts` has one method for each tensor."""

    name = "clipping"
    worth_db = _WORTH_DB
    slack_db = 0.0
    chooses_ranges = True

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield what each part proposes by itself."""
        for part in self.parts(candidate):
            yield from part.candidates(candidate)

    def parts(self, candidate: Candidate) -> Sequence[Recovery]:
        """Return the methods to try one after the other, each on what the last one left."""
        candidate = candidate.ready()
        outlying = {
            candidate.graph.name(index): _outlying(seen) for index, seen in candidate.seen.items()
        }
        order = sorted(outlying, key=lambda name: -outlying[name])[:_MOST]
        # A candidate has three quarters of the samples, and each is judged once.
        trials = len(_SHARES) * len(order) * len(candidate.feeds) * 4 // 3
        return [_Clip(name) for name in order] if trials * effort(candidate.graph) < _EFFORT else []


@dataclass(frozen=True, slots=True)
class _Clip:
    """Clips one tensor; what others gain by that has to be seen on most samples."""

    tensor: str
    name: str = Clipping.name
    worth_db: float = _WORTH_DB
    slack_db: float = 0.0
    chooses_ranges: bool = False

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield one candidate for each share that is kept."""
        candidate = candidate.ready()
        for index in candidate.ranges:
            if candidate.graph.name(index) == self.tensor:
                yield from (candidate.clipped(index, share) for share in _SHARES)
                return


def _outlying(seen: HistogramObserver) -> float:
    """Return how many times the root mean square the extremes are apart; 0 where all are zero."""
    if not seen.spread():
        return 0.0
    low, high = seen.reach()
    centres, counts = seen.bins()
    power = float(counts @ np.square(centres) / counts.sum())
    return (high - low) / power**0.5 if power > 0 else 0.0


def effort(graph: Graph) -> int:
    """Return about how many products one run of a float graph takes."""
    total = 0
    for operator in graph.operators:
        rule = RULES.get(graph.op(operator))
        size = sum(int(np.prod(graph.shape(index))) for index in operator.outputs)
        total += _PER_VALUE * size
        if rule is not None and rule.weight is not None:
            shape = graph.shape(operator.inputs[rule.weight])
            total += size * int(np.prod(shape)) // max(1, shape[rule.axis or 0])
    return total
