"""An exponential moving average of each sample's minimum and maximum.

As in Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 3.1, which collects ranges so during training.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeconv.quantize.statistics.calibrators.observer import HistogramObserver

_KEPT = 0.95


def moving_average(seen: HistogramObserver) -> tuple[float, float]:
    """Keep 0.95 of the extremes so far and take 0.05 of each further sample's."""
    return _average(seen.lows), _average(seen.highs)


def _average(values: Sequence[float]) -> float:
    if not values:
        return 0.0
    found, *rest = values
    for value in rest:
        found = _KEPT * found + (1 - _KEPT) * value
    return found
