"""What calibration asks of a calibrator."""

from __future__ import annotations

from typing import Protocol

from edgeconv.artifacts import Array


class Calibrator(Protocol):
    """Watches one tensor over all samples and chooses the range to represent."""

    def update(self, array: Array) -> None:
        """Take in the tensor's float32 values for one more sample; the array must not be kept.

        NaN and infinity may be ignored or may enter `range`, which then must not be finite.
        """
        ...

    def range(self) -> tuple[float, float]:
        """Return the lowest and the highest value to represent; (0, 0) if nothing was seen."""
        ...
