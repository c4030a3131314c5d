"""The clip whose quantized distribution is closest to the true one, by Kullback-Leibler divergence.

After Migacz 2017, "8-bit Inference with TensorRT", for asymmetric ranges: each end is searched in
turn.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeconv.quantize.statistics.calibrators.observer import HistogramObserver

_STEPS = 255
_CANDIDATES = 48
_LARGEST_CLIP = 0.9

_Vector = npt.NDArray[np.float64]


def entropy(seen: HistogramObserver) -> tuple[float, float]:
    """Compare the histogram with what is left of it after clipping and rounding.

    Returns:
        The range with the least divergence; see `Calibrator`.
    """
    if not seen.spread():
        return seen.extremes()
    low, high = lowest, highest = seen.reach()
    centres, counts = seen.bins()
    # Exact zeros, of which rectifiers make most of all values, are exact in any scale.
    counts = np.where(np.abs(centres) <= seen.width, 0.0, counts)
    if not counts.any():
        return low, high
    shares = 1 - _LARGEST_CLIP * np.arange(_CANDIDATES) / (_CANDIDATES - 1)
    for _ in range(2):
        high = _best([(low, end) for end in _ends(highest, shares)], centres, counts)[1]
        low = _best([(end, high) for end in _ends(lowest, shares)], centres, counts)[0]
    return low, high


def _ends(extreme: float, shares: _Vector) -> list[float]:
    return [0.0] if extreme == 0 else (extreme * shares).tolist()


def _best(
    ranges: list[tuple[float, float]], centres: _Vector, counts: _Vector
) -> tuple[float, float]:
    divergences = [_divergence(low, high, centres, counts) for low, high in ranges]
    return ranges[int(np.argmin(divergences))]


def _divergence(low: float, high: float, centres: _Vector, counts: _Vector) -> float:
    """Return the divergence of the quantized histogram from the clipped one."""
    if high <= low:
        return float("inf")
    # What lies beyond goes to the outermost bins, whose mass the quantized form does not have.
    inside = (centres >= low) & (centres <= high)
    if not inside.any():
        return float("inf")
    true = np.where(inside, counts, 0.0)
    kept = np.flatnonzero(inside)
    true[kept[0]] += counts[: kept[0]].sum()
    true[kept[-1]] += counts[kept[-1] + 1 :].sum()
    steps = np.rint((centres - low) * (_STEPS / (high - low))).astype(np.int64).clip(0, _STEPS)
    filled = inside & (counts > 0)
    if not filled.any():
        return float("inf")
    mass = np.bincount(steps[filled], counts[filled], minlength=_STEPS + 1)
    shared = np.bincount(steps[filled], minlength=_STEPS + 1)
    spread = np.where(filled, mass[steps] / np.maximum(shared[steps], 1), 0.0)
    true, spread = true / true.sum(), spread / spread.sum()
    both = (true > 0) & (spread > 0)
    missing = float(true[(true > 0) & ~both].sum())
    return float((true[both] * np.log(true[both] / spread[both])).sum()) + 10 * missing
