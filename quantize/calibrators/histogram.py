"""A histogram of a tensor's values, in constant memory."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edgeconv.artifacts import Array

_BINS = 4096

_LEAST = 1e-30
"""Values below are as good as zero: the width of their bins has no reciprocal in float32."""


_SAMPLED = 1 << 15
"""Of larger arrays about as many values are counted, evenly spread."""


class Histogram:
    """Counts values in bins over [-half, half], which doubles by merging pairs of bins.

    `low` and `high` are the extremes of all values; NaN where a value was.
    """

    def __init__(self) -> None:
        self._counts: npt.NDArray[np.int64] = np.zeros(_BINS, np.int64)
        self._half = 0.0
        self._waiting: list[Array] = []
        self.low = float("inf")
        self.high = float("-inf")

    def update(self, array: Array) -> None:
        """Count an array's values; see `Calibrator`."""
        flat = array.reshape(-1)
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        # np.minimum lets NaN win and stay.
        self.low = float(np.minimum(self.low, low))
        self.high = float(np.maximum(self.high, high))
        if not np.isfinite(low) or not np.isfinite(high):
            return
        # Copied, because the array must not be kept, and counted together, because small arrays
        # cost little more than the call.
        step = _stride(array)
        self._waiting.append(flat[step // 2 :: step].copy())
        if sum(part.size for part in self._waiting) >= _SAMPLED:
            self._count()

    def _count(self) -> None:
        if not self._waiting:
            return
        flat = np.concatenate(self._waiting)
        self._waiting.clear()
        peak = max(abs(float(flat.min())), abs(float(flat.max())))
        if peak < _LEAST:
            return
        self._reach(peak)
        width = 2 * self._half / _BINS
        bins = (flat * np.float32(1 / width) + np.float32(_BINS / 2)).astype(np.int32)
        np.clip(bins, 0, _BINS - 1, out=bins)
        self._counts += np.bincount(bins, minlength=_BINS)

    @property
    def width(self) -> float:
        """Width of a bin; 0 while only zeros were seen."""
        self._count()
        return 2 * self._half / _BINS

    def bins(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the centres and the counts of the bins that are not empty."""
        self._count()
        kept = np.flatnonzero(self._counts)
        centres = (kept + 0.5) * self.width - self._half
        return np.clip(centres, self.low, self.high), self._counts[kept].astype(np.float64)

    def spread(self) -> bool:
        """Tell whether there are different finite values, zero being one."""
        if self.low > self.high:
            return False
        width = max(self.high, 0.0) - min(self.low, 0.0)
        return bool(np.isfinite(width)) and width > 0 and self.width > 0

    def extremes(self) -> tuple[float, float]:
        """Return the lowest and highest value; (0, 0) if nothing was seen."""
        return (0.0, 0.0) if self.low > self.high else (self.low, self.high)

    def _reach(self, peak: float) -> None:
        """Double the covered interval until it holds a value."""
        if self._half == 0.0:
            self._half = peak
        while self._half < peak:
            pairs = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.zeros(_BINS, np.int64)
            self._counts[_BINS // 4 : _BINS - _BINS // 4] = pairs
            self._half *= 2


class HistogramCalibrator:
    """The part of a `Calibrator` that those which search a histogram share."""

    def __init__(self) -> None:
        self._seen = Histogram()

    def update(self, array: Array) -> None:
        """Count an array's values; see `Calibrator`."""
        self._seen.update(array)


def _stride(array: Array) -> int:
    """Return a step through a flattened array that meets all its channels alike."""
    step = max(1, array.size // _SAMPLED)
    while step > 1 and math.gcd(step, array.shape[-1]) > 1:
        step += 1
    return step
