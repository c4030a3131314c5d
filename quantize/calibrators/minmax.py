"""The true minimum and maximum over all samples."""

from __future__ import annotations

import numpy as np

from edgeconv.artifacts import Array

_BLOCK = 1 << 15


class MinMax:
    """Keeps the lowest and the highest value seen."""

    def __init__(self) -> None:
        self._low = float("inf")
        self._high = float("-inf")

    def update(self, array: Array) -> None:
        """Widen the range to an array's values; see `Calibrator`."""
        flat = array.reshape(-1)
        # In blocks that stay in the cache, so that memory is read once for both reductions.
        for start in range(0, flat.size, _BLOCK):
            block = flat[start : start + _BLOCK]
            # np.minimum lets NaN win and stay.
            self._low = float(np.minimum(self._low, block.min()))
            self._high = float(np.maximum(self._high, block.max()))

    def range(self) -> tuple[float, float]:
        """Return the range seen; see `Calibrator`."""
        return (0.0, 0.0) if self._low > self._high else (self._low, self._high)
