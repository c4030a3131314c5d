"""What two arrays differ by, added up over samples in double precision."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edgeconv.core.artifacts import Array

MAX_DB = 300.0
"""Bound of every SQNR; double precision cannot tell more."""

COMPARABLE = 1e140
"""Squares of larger values may overflow double precision; only float64 tensors hold such values."""

_NEXT_TO_ZERO = 1e-3

# Elements that are compared at a time: in double precision they stay in the processor's cache, and
# BLAS does not spread so few over threads.
_BLOCK = 8192

# Distinct values are counted exactly up to so many, and then among so many elements.
_COUNTED = 4096
_SOME = 1 << 20

_Block = npt.NDArray[np.float64]


class Sums:
    """Errors and energies of one array, over the samples that were added."""

    def __init__(self) -> None:
        self.count = 0
        self.max_abs = self.sum_abs = self.max_rel = self.peak = 0.0
        self.error2 = self.reference2 = self.candidate2 = self.dot = 0.0

    def add(self, expected: Array, actual: Array) -> str:
        """Add one sample; return why it cannot be compared, or ``""``."""
        ref, got = expected.reshape(-1), actual.reshape(-1)
        finite = np.isfinite(ref)
        if not finite.all():
            if not np.array_equal(ref[~finite], got[~finite], equal_nan=True):
                strange = int(np.count_nonzero(~np.isfinite(got[finite])))
                return _strange(strange) or "NaN or infinite values of the reference are missing"
            ref, got = ref[finite], got[finite]
        if not ref.size:
            return ""
        peak, other = largest(ref), largest(got)
        if not math.isfinite(other):
            return _strange(int(np.count_nonzero(~np.isfinite(got))))
        if max(peak, other) > COMPARABLE:
            return f"values beyond {COMPARABLE:g} cannot be compared"
        self.count += ref.size
        self.peak = max(self.peak, peak)
        for start in range(0, ref.size, _BLOCK):
            self._add(ref[start : start + _BLOCK], got[start : start + _BLOCK], peak)
        return ""

    def _add(self, expected: Array, actual: Array, peak: float) -> None:
        ref: _Block = expected.astype(np.float64)
        got: _Block = actual.astype(np.float64)
        error = np.abs(got - ref)
        self.error2 += float(error @ error)
        self.reference2 += float(ref @ ref)
        self.candidate2 += float(got @ got)
        self.dot += float(ref @ got)
        worst = float(error.max())
        if worst == 0:
            return
        self.max_abs = max(self.max_abs, worst)
        self.sum_abs += float(error.sum())
        if peak > 0:
            error /= np.maximum(np.abs(ref), peak * _NEXT_TO_ZERO)
            worst = float(error.max())
        else:
            worst = 1.0
        self.max_rel = max(self.max_rel, worst)

    @property
    def mean_abs(self) -> float:
        """Mean error."""
        return self.sum_abs / max(self.count, 1)

    @property
    def peak_error(self) -> float:
        """Largest error, as a share of the largest value of the reference."""
        if self.peak > 0:
            return self.max_abs / self.peak
        return 0.0 if self.max_abs == 0 else 1.0

    @property
    def cosine(self) -> float:
        """Cosine of the angle between both arrays."""
        if self.reference2 == 0 or self.candidate2 == 0:
            return 1.0 if self.reference2 == self.candidate2 else 0.0
        norm = math.sqrt(self.reference2) * math.sqrt(self.candidate2)
        return max(-1.0, min(1.0, self.dot / norm)) if norm > 0 else 1.0

    @property
    def sqnr_db(self) -> float:
        """Energy of the reference over that of the error, in dB."""
        return decibel(self.reference2, self.error2)

    def sqnr_within(self, whole: Sums) -> float:
        """Return the SQNR if the reference had the mean energy of a whole that it is a part of."""
        share = self.count / max(whole.count, 1)
        return decibel(whole.reference2 * share, self.error2)


def _strange(count: int) -> str:
    return f"{count} values are NaN or infinite where the reference has none" if count else ""


def largest(array: Array) -> float:
    """Return the largest magnitude; NaN where there is a NaN, 0 of nothing."""
    if not array.size:
        return 0.0
    return max(abs(float(array.max())), abs(float(array.min())))


def decibel(signal: float, noise: float) -> float:
    """Return signal over noise in dB, within ±`MAX_DB`."""
    if noise == 0:
        return MAX_DB
    if signal == 0:
        return -MAX_DB
    return max(-MAX_DB, min(MAX_DB, 10 * (math.log10(signal) - math.log10(noise))))


def levels(array: Array) -> int:
    """Return how many distinct values an array holds; NaN counts as none.

    Of a large array that has more than `_COUNTED` distinct values among a million of its elements,
    those are the ones counted.
    """
    if array.dtype.kind == "b":
        return int(array.any()) + int(not array.all()) if array.size else 0
    some = _some(array)
    count = _distinct(some)
    return count if count > _COUNTED or some.size == array.size else _distinct(array)


def _some(array: Array) -> Array:
    """Return about a million elements, evenly spread; all where there are no more."""
    flat = array.reshape(-1)
    return flat[:: -(-flat.size // _SOME) or 1]


def _distinct(array: Array) -> int:
    values = array.flatten()
    values.sort()
    if values.dtype.kind == "f":
        values = values[: values.size - int(np.count_nonzero(np.isnan(values[_tail(values)])))]
    return int(np.count_nonzero(values[1:] != values[:-1])) + 1 if values.size else 0


def _tail(values: Array) -> slice:
    """Return where the NaN of sorted values are: nowhere, where the last value is a number."""
    return slice(None) if values.size and np.isnan(values[-1]) else slice(0)


def resolved_levels(array: Array, steps: int = 1024) -> int:
    """Return how many steps of an array's range have values: what a coarse scale could tell apart.

    Of a large array about a million elements are looked at.

    Args:
        array: Any shape; values that are not finite are left out.
        steps: The number of steps.
    """
    low, high = _range(array)
    if not low < high:
        return int(array.size > 0)
    taken = np.zeros(steps + 1, np.bool_)
    for block in _blocks(_some(array)):
        kept = block[np.isfinite(block)]
        taken[np.rint((kept - low) * (steps / (high - low))).astype(np.int64)] = True
    return int(np.count_nonzero(taken))


def _range(array: Array) -> tuple[float, float]:
    if not array.size:
        return 0.0, 0.0
    low, high = float(array.min()), float(array.max())
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    kept = array[np.isfinite(array)]
    return (float(kept.min()), float(kept.max())) if kept.size else (0.0, 0.0)


def _blocks(array: Array) -> Iterator[_Block]:
    flat = array.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK].astype(np.float64)
