"""An exponential moving average of each sample's minimum and maximum.

As in Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 3.1, which collects ranges so during training.
"""

from __future__ import annotations

from edgeconv.artifacts import Array

_KEPT = 0.95


class MovingAverage:
    """Keeps 0.95 of the extremes so far and takes 0.05 of each further sample's."""

    def __init__(self) -> None:
        self._ends: tuple[float, float] | None = None

    def update(self, array: Array) -> None:
        """Move the range towards an array's; see `Calibrator`."""
        if array.size == 0:
            return
        found = float(array.min()), float(array.max())
        if self._ends is None:
            self._ends = found
            return
        low, high = (
            _KEPT * end + (1 - _KEPT) * new for end, new in zip(self._ends, found, strict=True)
        )
        self._ends = low, high

    def range(self) -> tuple[float, float]:
        """Return the average; see `Calibrator`."""
        return self._ends or (0.0, 0.0)
