"""Whether what one candidate gains over another is more than chance.

Figures rest on few samples, and often a few of these decide. How far they would differ with other
samples is told by leaving each out in turn: the jackknife of Tukey 1958, "Bias and Confidence in
Not-Quite Large Samples". Both candidates are compared on the same samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from edgeconv.quantize.recovery.evaluator import Sqnr

_Vector = npt.NDArray[np.float64]

_LIKELY = 1.5
"""Standard errors that a step must gain: about one in fifteen that gain nothing do."""

_CHANCE = 0.05
"""The chance that anything at all is kept where nothing helps."""

_STEP_DB, _LOST_DB = 0.25, 0.5
"""What a part of an output may lose in a step, and altogether."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What a candidate gains, in dB.

    Attributes:
        total: Gain of the score over all samples.
        error: Its standard error.
        typical: Mean gain of single samples, the mean of all parts'. Other than the total it does
            not hang on the one sample that saturates.
        typical_error: Its standard error.
        parts: Gain of each part over all samples.
        errors: Their standard errors.
        count: Number of samples.
        shown: Which parts are those of outputs as users see them.
    """

    total: float
    error: float
    typical: float
    typical_error: float
    parts: _Vector
    errors: _Vector
    count: int
    shown: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, figures: Sqnr, before: Sqnr) -> Gain:
        """Return what figures gain over others of the same samples."""
        left, other = figures.without_each(), before.without_each()
        each = figures.each - before.each
        return cls(
            total=figures.score - before.score,
            error=float(_error(figures.scores(left) - before.scores(other))),
            typical=float(each.mean()),
            typical_error=float(_error((each.sum() - each) / max(1, each.size - 1))),
            parts=figures.parts - before.parts,
            errors=_error(left - other),
            count=left.shape[1],
            shown=figures.shown,
        )

    @property
    def likely(self) -> bool:
        """Whether it is more than chance, and costs nothing elsewhere."""
        return self.harmless and self._above(_LIKELY)

    @property
    def harmless(self) -> bool:
        """Whether neither a typical sample nor a part of an output is likely to lose."""
        return self.typical >= -_STEP_DB and self.spares

    @property
    def spares(self) -> bool:
        """Whether no part of an output is likely to lose."""
        return bool((self.parts + self.errors >= -_STEP_DB).all())

    @property
    def spared(self) -> bool:
        """Whether no part has lost more than it may, where samples tell, or anything elsewhere."""
        return bool((self.parts - np.minimum(self.errors, _LOST_DB) >= -_LOST_DB).all())

    @property
    def safe(self) -> bool:
        """Whether no output has lost more than it may, however much it differs between samples."""
        lowest = (self.parts - self.errors)[self.shown]
        return self.spared and bool((lowest >= -_LOST_DB).all())

    def proven(self, tries: int) -> bool:
        """Tell whether chance hardly explains it, and no part loses.

        Args:
            tries: How many methods were tried, each of which could have gained by chance
                (Bonferroni's correction).
        """
        bound = student(1 - _CHANCE / max(1, tries), self.count - 1)
        gains = self.count > 1 and self.total > 0 and self.typical >= -_STEP_DB
        return bool(gains and self.spared and self._above(bound))

    def _above(self, bound: float) -> bool:
        """Tell whether the gain of all samples or that of a typical one is so many errors."""
        return self.total >= bound * self.error or self.typical >= bound * self.typical_error


def _error(left: _Vector) -> _Vector:
    """Return the standard error from values with each sample left out, ``[..., sample]``."""
    count = left.shape[-1]
    if count < 2:
        return np.full(left.shape[:-1], np.inf)
    spread = np.square(left - left.mean(axis=-1, keepdims=True)).sum(axis=-1)
    found: _Vector = np.sqrt(spread * (count - 1) / count)
    return found


def student(share: float, freedom: int) -> float:
    """Return a quantile of Student's t distribution, up to a few percent from 3 degrees on.

    The expansion in the normal quantile of Abramowitz and Stegun 1964, "Handbook of Mathematical
    Functions", 26.7.5; the fewer the degrees of freedom, the more it is too small.
    """
    z, v = NormalDist().inv_cdf(share), max(freedom, 1)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / v**power for power, term in enumerate(terms, 1)))
