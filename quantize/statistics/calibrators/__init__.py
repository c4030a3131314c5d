"""Calibrators: how the range of a tensor is chosen from what calibration saw of it.

To add one, write a function as `base.Calibrator` describes in a module of its own, and list it in
`CALIBRATORS`.
"""

from __future__ import annotations

from edgeconv.quantize.statistics.calibrators.base import Calibrator
from edgeconv.quantize.statistics.calibrators.entropy import entropy
from edgeconv.quantize.statistics.calibrators.minmax import minmax
from edgeconv.quantize.statistics.calibrators.moving_average import moving_average
from edgeconv.quantize.statistics.calibrators.mse import mse
from edgeconv.quantize.statistics.calibrators.observer import HistogramObserver
from edgeconv.quantize.statistics.calibrators.percentile import percentile

__all__ = ["CALIBRATORS", "Calibrator", "HistogramObserver"]

CALIBRATORS: dict[str, Calibrator] = {
    "minmax": minmax,
    "moving-average": moving_average,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}
"""By the name that users give."""
