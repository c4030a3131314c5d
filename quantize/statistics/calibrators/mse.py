"""The range that minimises the squared error of 8 bit quantization over all samples.

The objective of Sung et al. 2015, "Resiliency of Deep Neural Networks under Quantization", searched
on a histogram.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.quantize.statistics.calibrators.observer import HistogramObserver

_STEPS = 255
_CANDIDATES = 9
_LARGEST_CLIP = 0.75
"""The tightest candidate keeps a quarter of the distance from zero to the extreme value."""


def mse(seen: HistogramObserver) -> tuple[float, float]:
    """Pick the clip with the least expected error; see `Calibrator`.

    The error of a clip is that of the bins' centres, weighted by their counts. The two ends of the
    range are searched in turn, starting from the true extremes, first coarsely, then finely. Where
    the values far out are what matters, nothing is clipped.
    """
    if seen.tail or not seen.spread():
        return seen.extremes()
    low, high = lowest, highest = seen.reach()
    centres, counts = seen.bins()
    for _ in range(2):
        before = low
        high = _search(highest, partial(_error, low, centres=centres, counts=counts))
        low = _search(lowest, partial(_error, high=high, centres=centres, counts=counts))
        if low == before:
            break
    return low, high


def _search(extreme: float, error: Callable[[float], float]) -> float:
    """Return the end of a range, at most an extreme value, with the least error."""
    if extreme == 0:
        return 0.0
    share, span = 1.0, _LARGEST_CLIP
    least, most = 1 - _LARGEST_CLIP, 1.0
    for _ in range(2):
        shares = np.linspace(most, least, _CANDIDATES)
        share = float(shares[int(np.argmin([error(extreme * float(one)) for one in shares]))])
        span /= _CANDIDATES - 1
        least, most = max(share - span, 1 - _LARGEST_CLIP), min(share + span, 1.0)
    return extreme * share


def _error(low: float, high: float, centres: Array, counts: Array) -> float:
    """Return the summed squared error of quantizing values to 255 steps over [low, high]."""
    scale = (high - low) / _STEPS
    if scale <= 0:
        return float("inf")
    zero = round(low / scale)
    steps = np.rint(centres / scale)
    np.minimum(np.maximum(steps, zero, out=steps), zero + _STEPS, out=steps)
    steps *= scale
    steps -= centres
    np.square(steps, out=steps)
    return float(counts @ steps)
