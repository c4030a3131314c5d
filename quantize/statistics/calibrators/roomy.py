"""Ranges for 16 bits, in which room costs next to nothing and saturation as much as ever.

Clipping buys finer steps. Of 65,536 steps there are enough: what errs is weights of 8 bits, and
values beyond the range that calibration saw. Where all activations have 16 bits, the range is
therefore twice what was seen, at the cost of one bit: Gholami et al. 2021, "A Survey of
Quantization Methods for Efficient Neural Network Inference", section III.C, on what clipping
trades.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeconv.quantize.statistics.calibrators.base import Calibrator
from edgeconv.quantize.statistics.calibrators.mse import mse
from edgeconv.quantize.statistics.calibrators.observer import HistogramObserver

_ROOM = 2.0


@dataclass(frozen=True, slots=True)
class Roomy:
    """The range of another calibrator, doubled; see `Calibrator`.

    Attributes:
        inner: The calibrator. What `mse` minimises is the error of 8 bits: in its place the
            extremes count.
    """

    inner: Calibrator

    def __call__(self, seen: HistogramObserver) -> tuple[float, float]:
        """Return the range."""
        low, high = seen.extremes() if self.inner is mse else seen.range(self.inner)
        return _ROOM * low, _ROOM * high
