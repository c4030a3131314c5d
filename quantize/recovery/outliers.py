"""Shrink the ranges of tensors in which few values lie far out.

Saturating them costs less than coarser steps for all others: the clip of least squared error, after
Sung et al. 2015, "Resiliency of Deep Neural Networks under Quantization", or a percentile, as in Wu
et al. 2020, "Integer Quantization for Deep Learning Inference".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgeconv.quantize.recovery.base import Candidate
from edgeconv.quantize.recovery.headroom import Growing
from edgeconv.quantize.statistics.calibrators import CALIBRATORS

_TRIED = ("minmax", "mse", "percentile")


class Outliers:
    """See the module."""

    name = "outliers"
    worth_db = 0.8
    slack_db = 0.0
    chooses_ranges = True

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield one candidate for each calibrator that clips."""
        candidate = candidate.ready()
        given = candidate.calibrator
        margin = given.margin if isinstance(given, Growing) else None
        inner = given.inner if isinstance(given, Growing) else given
        for name in _TRIED:
            other = CALIBRATORS[name]
            if other is not inner:
                made = other if margin is None else Growing(other, margin)
                yield replace(candidate, calibrator=made).calibrated()
