"""Calibrators: how the range of a tensor is chosen from what calibration saw of it.

To add one, write a class with the methods of `base.Calibrator` in a module of its own, and list it
in `CALIBRATORS`.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeconv.quantize.calibrators.base import Calibrator
from edgeconv.quantize.calibrators.entropy import Entropy
from edgeconv.quantize.calibrators.minmax import MinMax
from edgeconv.quantize.calibrators.moving_average import MovingAverage
from edgeconv.quantize.calibrators.mse import MeanSquaredError
from edgeconv.quantize.calibrators.percentile import Percentile

__all__ = ["CALIBRATORS", "Calibrator"]

CALIBRATORS: dict[str, Callable[[], Calibrator]] = {
    "minmax": MinMax,
    "moving-average": MovingAverage,
    "percentile": Percentile,
    "mse": MeanSquaredError,
    "entropy": Entropy,
}
"""What makes a calibrator, by the name that users give."""
