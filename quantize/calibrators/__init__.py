"""Calibrators: how the range of a tensor is chosen from what calibration saw of it.

To add one, write a function as `base.Calibrator` describes in a module of its own, and list it in
`CALIBRATORS`.
"""

from __future__ import annotations

from edgeconv.quantize.calibrators.base import Calibrator
from edgeconv.quantize.calibrators.entropy import entropy
from edgeconv.quantize.calibrators.minmax import minmax
from edgeconv.quantize.calibrators.moving_average import moving_average
from edgeconv.quantize.calibrators.mse import mse
from edgeconv.quantize.calibrators.percentile import percentile
from edgeconv.quantize.calibrators.seen import Seen

__all__ = ["CALIBRATORS", "Calibrator", "Seen"]

CALIBRATORS: dict[str, Calibrator] = {
    "minmax": minmax,
    "moving-average": moving_average,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}
"""By the name that users give."""
