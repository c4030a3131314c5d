"""What calibration remembers of a tensor, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgeconv.core.artifacts import Array

_BINS = 4096

_LEAST = 1e-30
"""Values below are as good as zero: the width of their bins has no reciprocal in float32."""

_SAMPLED = 1 << 15
"""Of larger arrays about as many values are counted, evenly spread."""

_BLOCK = 1 << 16
"""Extremes are found in blocks that stay in the cache, so that memory is read once for both."""


class HistogramObserver:
    """The extremes of each sample, and a histogram of all.

    Values are counted in bins over [-half, half], which doubles by merging pairs of bins.

    Attributes:
        lows: The lowest value of each sample; NaN where a value was.
        highs: The highest value of each sample.
        tail: Whether the few values that lie far out are those that matter.
    """

    def __init__(self) -> None:
        self.lows: list[float] = []
        self.highs: list[float] = []
        self.tail = False
        self._counts: npt.NDArray[np.int64] = np.zeros(_BINS, np.int64)
        self._half = 0.0
        self._waiting: list[Array] = []
        self._held = 0
        self._ranges: dict[
            Callable[[HistogramObserver], tuple[float, float]], tuple[float, float]
        ] = {}

    @classmethod
    def joined(cls, parts: Sequence[HistogramObserver]) -> HistogramObserver:
        """Return what was seen of a tensor over the samples of all parts, in the parts' order.

        Bins are merged until those of all parts are as wide, so that counts may lie one bin off
        from where one look at all samples would put them.
        """
        found = cls()
        for part in parts:
            part._count()
            found.lows += part.lows
            found.highs += part.highs
            if part._half > 0.0:
                found._add(part)
        found.tail = any(part.tail for part in parts)
        return found

    def _add(self, part: HistogramObserver) -> None:
        """Add the counts of a part, by where the centres of its bins lie."""
        kept = np.flatnonzero(part._counts)
        centres = (kept + 0.5) * part.width - part._half
        self._reach(part._half)
        places = ((centres + self._half) / self.width).astype(np.intp).clip(0, _BINS - 1)
        np.add.at(self._counts, places, part._counts[kept])

    def range(
        self, calibrator: Callable[[HistogramObserver], tuple[float, float]]
    ) -> tuple[float, float]:
        """Return what a calibrator makes of this; it is asked once, until more is seen."""
        if calibrator not in self._ranges:
            self._ranges[calibrator] = calibrator(self)
        return self._ranges[calibrator]

    def mark(self, *, tail: bool) -> None:
        """Say whether the few values that lie far out are those that matter."""
        if tail != self.tail:
            self.tail = tail
            self._ranges.clear()

    def update(self, array: Array) -> None:
        """Take in the tensor's float32 values for one more sample; the array is not kept."""
        flat = array.reshape(-1)
        if flat.size == 0:
            return
        self._ranges.clear()
        low, high = _extremes(flat)
        self.lows.append(low)
        self.highs.append(high)
        if not np.isfinite(low) or not np.isfinite(high):
            return
        # Copied, because the array must not be kept, and counted together, because small arrays
        # cost little more than the call.
        step = _stride(array)
        self._waiting.append(flat[step // 2 :: step].copy())
        self._held += self._waiting[-1].size
        if self._held >= _SAMPLED:
            self._count()

    def _count(self) -> None:
        if not self._waiting:
            return
        flat = np.concatenate(self._waiting)
        self._waiting.clear()
        self._held = 0
        peak = max(abs(float(flat.min())), abs(float(flat.max())))
        if peak < _LEAST:
            return
        self._reach(peak)
        width = 2 * self._half / _BINS
        bins = (flat * np.float32(1 / width) + np.float32(_BINS / 2)).astype(np.intp)
        counts = np.bincount(bins, minlength=_BINS + 1)
        self._counts += counts[:_BINS]
        self._counts[-1] += counts[_BINS]  # the highest value itself

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
        return np.clip(centres, *self.extremes()), self._counts[kept].astype(np.float64)

    def spread(self) -> bool:
        """Tell whether there are different finite values, zero being one."""
        low, high = self.reach()
        return bool(np.isfinite(high - low)) and high > low and self.width > 0

    def extremes(self) -> tuple[float, float]:
        """Return the lowest and highest value, NaN if one was; (0, 0) if nothing was seen."""
        # Other than Python's functions, numpy's let NaN win.
        return (float(np.min(self.lows)), float(np.max(self.highs))) if self.lows else (0.0, 0.0)

    def reach(self) -> tuple[float, float]:
        """Return the smallest interval that holds all values and zero."""
        low, high = self.extremes()
        return min(low, 0.0), max(high, 0.0)

    def _reach(self, peak: float) -> None:
        """Double the covered interval until it holds a value."""
        if self._half == 0.0:
            self._half = peak
        while self._half < peak:
            pairs = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.zeros(_BINS, np.int64)
            self._counts[_BINS // 4 : _BINS - _BINS // 4] = pairs
            self._half *= 2


def _extremes(flat: Array) -> tuple[float, float]:
    if flat.size <= _BLOCK:
        return float(flat.min()), float(flat.max())
    starts = range(0, flat.size, _BLOCK)
    lows = [flat[start : start + _BLOCK].min() for start in starts]
    highs = [flat[start : start + _BLOCK].max() for start in starts]
    return float(np.min(lows)), float(np.max(highs))


def _stride(array: Array) -> int:
    """Return a step through a flattened array that meets all its channels alike."""
    step = max(1, array.size // _SAMPLED)
    while step > 1 and math.gcd(step, array.shape[-1]) > 1:
        step += 1
    return step
