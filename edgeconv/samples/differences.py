"""Tell when calibration and verification data cannot be the same kind of data.

Pixels in 0..255 beside pixels in 0..1, normalised samples beside raw ones: the ranges of a model
calibrated on the one kind say nothing of the other, and its parity is that of another job.
"""

from __future__ import annotations

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.samples.load import Samples

_FOLD = 4.0
"""Ranges that differ by that factor do not come from the same kind of data."""

_LEAST = 16
"""Fewer values of an input have the range that they happen to have."""

HEADLINE = "calibration and verification data differ"


def differences(calibration: Samples, verification: Samples) -> list[str]:
    """Return a sentence for each input whose two ranges differ much.

    Args:
        calibration: What ranges are taken from.
        verification: What parity is measured on.
    """
    found = []
    for name, first in calibration.arrays.items():
        second = verification.arrays[name]
        if min(first.size, second.size) >= _LEAST and _counts(first) and _apart(first, second):
            ends = " and ".join(
                f"{array.min():.4g} to {array.max():.4g}" for array in (first, second)
            )
            found.append(f"{HEADLINE}: input {name} ranges over {ends}")
    return found


def _counts(array: Array) -> bool:
    """Tell whether an input stands for quantities; indices of a few samples range anywhere."""
    return array.dtype.kind == "f" or array.dtype in (np.uint8, np.int8)


def _ends(array: Array) -> str:
    return f"{array.min():.4g} to {array.max():.4g}"


def _apart(first: Array, second: Array) -> bool:
    """Tell whether the peaks of two arrays, or the widths of their ranges, differ much."""
    peaks = [float(np.abs(array.astype(np.float64)).max()) for array in (first, second)]
    widths = [float(array.max()) - float(array.min()) for array in (first, second)]
    wide = min(widths) > 0 and max(widths) >= _FOLD * min(widths)
    return wide or (max(peaks) > 0 and max(peaks) >= _FOLD * min(peaks))
