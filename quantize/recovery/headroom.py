"""Widen all ranges a little, where samples that calibration did not see would saturate.

The extremes of a few samples are exceeded by others: cross-validation, Stone 1974,
"Cross-Validatory Choice and Assessment of Statistical Predictions", tells how much room is worth
its coarser steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from edgeconv.artifacts import Array
from edgeconv.quantize.calibrators import Calibrator
from edgeconv.quantize.recovery.base import Draft

_SHARES = (1.06, 1.12, 1.25, 1.4)


class Headroom:
    """See the module."""

    name = "headroom"
    worth_db = 0.2
    chooses_ranges = True

    def drafts(self, draft: Draft) -> Iterator[Draft]:
        """Yield one draft for each width."""
        for share in _SHARES:
            yield replace(draft, calibrator=_widened(draft.calibrator, share)).calibrated()


def _widened(make: Callable[[], Calibrator], share: float) -> Callable[[], Calibrator]:
    return lambda: _Widened(make(), share)


class _Widened:
    """The range of another calibrator, made wider."""

    def __init__(self, inner: Calibrator, share: float) -> None:
        self._inner = inner
        self._share = share

    def update(self, array: Array) -> None:
        """See `Calibrator`."""
        self._inner.update(array)

    def range(self) -> tuple[float, float]:
        """See `Calibrator`."""
        low, high = self._inner.range()
        return low * self._share, high * self._share
