"""How closely one stage's outputs follow another's: metrics over samples, judged by gates.

Arrays are compared as the source model has them: its axis order, real numbers, one leading sample
axis. Names, order, shapes and dtypes must be equal; no permutation is ever searched for.

Figures of one output, over all elements of all samples, with ``err = candidate - reference``:

==================  ============================================================================
``max_abs``         largest ``|err|``
``mean_abs``        mean ``|err|``
``max_rel``         largest ``|err| / max(|reference|, peak / 1000)``, with the largest
                    ``|reference|`` of the sample as peak, so that elements next to zero do not
                    decide
``peak_error``      ``max_abs`` divided by the largest ``|reference|``; 0 where both are 0
``cosine``          cosine of the angle between both as vectors; 1 where both are all zero
``sqnr_db``         ``10 log10(sum reference^2 / sum err^2)``, limited to ±300: 300 means that no
                    difference can be told
``top1_agreement``  share of rows whose largest element has the same index, for float outputs of
                    shape ``[N, C]``, ``C >= 2``, which look like class scores; else ``None``
``exact``           share of equal elements, for integer and boolean outputs; else ``None``
==================  ============================================================================

Where the reference is NaN or infinite the candidate must be the same; those elements are left out
of the figures. Anything else that cannot be measured makes every figure ``None`` and the output
fails with a reason. JSON has no NaN and no infinity, and none is ever written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeconv.artifacts import Array, Arrays, TensorSpec
from edgeconv.gates import AT_LEAST, AT_MOST

MAX_DB = 300.0
"""Bound of ``sqnr_db``; double precision cannot tell more."""

_NEXT_TO_ZERO = 1e-3

# With a reference of zeros there is no scale to compare with: this much is float32 noise.
_ZERO_NOISE = 1e-6

# Squares of larger values may overflow double precision; only float64 tensors hold such values.
_COMPARABLE = 1e140

_INTEGER_METRICS = ("exact", "max_abs", "mean_abs", "max_rel")


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """The figures of one output, as the module's docstring defines them.

    Attributes:
        reason: Why the output cannot be compared; ``""`` where it can.
    """

    name: str
    max_abs: float | None = None
    mean_abs: float | None = None
    max_rel: float | None = None
    peak_error: float | None = None
    cosine: float | None = None
    sqnr_db: float | None = None
    top1_agreement: float | None = None
    exact: float | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the form that ``parity.json`` has; ``reason`` is left out where empty."""
        data = asdict(self)
        if not self.reason:
            del data["reason"]
        return data


def restore(stored: Mapping[str, Array], specs: Sequence[TensorSpec]) -> Arrays:
    """Turn stored arrays with a leading sample axis into the source model's form."""
    return {
        spec.name: np.stack([spec.restore(sample) for sample in stored[spec.name]])
        for spec in specs
    }


def store(arrays: Mapping[str, Array], specs: Sequence[TensorSpec]) -> Arrays:
    """Turn arrays of the source model with a leading sample axis into their stored form."""
    return {
        spec.name: np.stack([spec.store(sample) for sample in arrays[spec.name]]) for spec in specs
    }


def compare(reference: Arrays, candidate: Arrays) -> tuple[OutputFigures, ...]:
    """Compare every output, in the reference's order.

    Args:
        reference: Arrays by output name, ``[sample, ...]``, in the source model's form.
        candidate: The same of the artifact under test.
    """
    if list(reference) != list(candidate):
        reason = f"outputs are {', '.join(candidate)}, expected {', '.join(reference)}"
        return tuple(OutputFigures(name, reason=reason) for name in reference)
    return tuple(compare_output(name, reference[name], candidate[name]) for name in reference)


def compare_output(name: str, reference: Array, candidate: Array) -> OutputFigures:
    """Compare one output over all samples; both are ``[sample, ...]``."""
    reason = _mismatch(reference, candidate)
    if reason:
        return OutputFigures(name, reason=reason)
    sums = _Sums()
    for expected, actual in zip(reference, candidate, strict=True):
        reason = sums.add(np.asarray(expected), np.asarray(actual))
        if reason:
            return OutputFigures(name, reason=reason)
    return sums.figures(name, reference, candidate)


def _mismatch(reference: Array, candidate: Array) -> str:
    if reference.shape != candidate.shape:
        return f"shape is {list(candidate.shape[1:])}, expected {list(reference.shape[1:])}"
    if _kind(reference) != _kind(candidate):
        return f"dtype is {candidate.dtype}, expected {reference.dtype}"
    return ""


def _kind(array: Array) -> str:
    return {"u": "i"}.get(array.dtype.kind, array.dtype.kind)


def _largest(array: npt.NDArray[np.float64]) -> float:
    return float(np.abs(array).max()) if array.size else 0.0


class _Sums:
    """What is added up over samples, in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self.max_abs = self.sum_abs = self.max_rel = self.peak = 0.0
        self.error2 = self.reference2 = self.candidate2 = self.dot = 0.0

    def add(self, expected: Array, actual: Array) -> str:
        """Add one sample; return why it cannot be compared, or ``""``."""
        ref = np.ravel(expected).astype(np.float64)
        got = np.ravel(actual).astype(np.float64)
        finite = np.isfinite(ref)
        strange = int(np.count_nonzero(~np.isfinite(got[finite])))
        if strange:
            return f"{strange} values are NaN or infinite where the reference has none"
        if not np.array_equal(ref[~finite], got[~finite], equal_nan=True):
            return "NaN or infinite values of the reference are missing"
        if max(_largest(ref[finite]), _largest(got[finite])) > _COMPARABLE:
            return f"values beyond {_COMPARABLE:g} cannot be compared"
        self._add_finite(ref[finite], got[finite])
        return ""

    def _add_finite(self, ref: npt.NDArray[np.float64], got: npt.NDArray[np.float64]) -> None:
        if not ref.size:
            return
        error = np.abs(got - ref)
        size = np.abs(ref)
        peak = float(size.max())
        self.count += ref.size
        self.peak = max(self.peak, peak)
        self.max_abs = max(self.max_abs, float(error.max()))
        self.sum_abs += float(error.sum())
        if peak > 0:
            relative = error / np.maximum(size, peak * _NEXT_TO_ZERO)
            self.max_rel = max(self.max_rel, float(relative.max()))
        elif error.any():
            self.max_rel = max(self.max_rel, 1.0)
        self.error2 += _dot(error, error)
        self.reference2 += _dot(ref, ref)
        self.candidate2 += _dot(got, got)
        self.dot += _dot(ref, got)

    def figures(self, name: str, reference: Array, candidate: Array) -> OutputFigures:
        """Return the figures of everything added."""
        return OutputFigures(
            name,
            max_abs=self.max_abs,
            mean_abs=self.sum_abs / max(self.count, 1),
            max_rel=self.max_rel,
            peak_error=self._peak_error(),
            cosine=self._cosine(),
            sqnr_db=_decibel(self.reference2, self.error2),
            top1_agreement=_top1(reference, candidate),
            exact=None if _kind(reference) == "f" else _share(reference == candidate),
        )

    def _peak_error(self) -> float:
        if self.peak > 0:
            return self.max_abs / self.peak
        return 0.0 if self.max_abs == 0 else 1.0

    def _cosine(self) -> float:
        if self.reference2 == 0 or self.candidate2 == 0:
            return 1.0 if self.reference2 == self.candidate2 else 0.0
        norm = math.sqrt(self.reference2) * math.sqrt(self.candidate2)
        return max(-1.0, min(1.0, self.dot / norm)) if norm > 0 else 1.0


def _dot(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Return the sum of products, by this thread alone: BLAS would take every core for it."""
    return float(np.einsum("i,i->", first, second))


def _decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return MAX_DB
    if signal == 0:
        return -MAX_DB
    return max(-MAX_DB, min(MAX_DB, 10 * (math.log10(signal) - math.log10(noise))))


def _top1(reference: Array, candidate: Array) -> float | None:
    scores = reference.ndim == 3 and reference.shape[2] >= 2 and reference.dtype.kind == "f"
    if not scores or reference.size == 0 or np.isnan(reference).any():
        return None
    return _share(reference.argmax(axis=2) == candidate.argmax(axis=2))


def _share(equal: npt.NDArray[np.bool_]) -> float:
    return float(equal.mean()) if equal.size else 1.0


def failures(figures: OutputFigures, gate: Mapping[str, float]) -> tuple[str, ...]:
    """Return what of the gate the output misses, in words; nothing where it passes.

    ``sqnr_db``, ``cosine`` and ``peak_error`` do not judge integer and boolean outputs, whose
    values are indices or classes more often than quantities; ``exact`` does. An output whose
    reference is all zero has no scale, and passes those three when it is zero up to float noise.
    """
    if figures.reason:
        return (figures.reason,)
    missed = []
    for metric, limit in gate.items():
        value: float | None = getattr(figures, metric)
        if value is None or _holds(metric, value, limit) or _beside_the_point(metric, figures):
            continue
        relation = "below" if metric in AT_LEAST else "above"
        missed.append(f"{metric} {value:.4g} is {relation} {limit:g}")
    return tuple(missed)


def _holds(metric: str, value: float, limit: float) -> bool:
    assert metric in AT_LEAST or metric in AT_MOST
    return value >= limit if metric in AT_LEAST else value <= limit


def _beside_the_point(metric: str, figures: OutputFigures) -> bool:
    if figures.exact is not None:
        return metric not in _INTEGER_METRICS
    return (
        metric in ("sqnr_db", "cosine", "peak_error")
        and figures.sqnr_db == -MAX_DB
        and figures.max_abs is not None
        and figures.max_abs <= _ZERO_NOISE
    )


LOWEST_EXPONENT, HIGHEST_EXPONENT = -10, 3
"""Powers of ten that the first and the last bin of a `histogram` begin with."""


def histogram(name: str, reference: Array, candidate: Array) -> dict[str, Any] | None:
    """Count the absolute errors of one output by their power of ten.

    Returns:
        ``exponents`` of the bins and their ``counts``; smaller errors, and none, are in the first
        bin, larger ones in the last. ``None`` where the arrays cannot be subtracted.
    """
    if reference.shape != candidate.shape or reference.dtype.kind != "f":
        return None
    counts = np.zeros(HIGHEST_EXPONENT - LOWEST_EXPONENT + 1, np.int64)
    for expected, actual in zip(reference, candidate, strict=True):
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.abs(np.ravel(actual).astype(np.float64) - np.ravel(expected))
        error = np.clip(error[np.isfinite(error)], 10.0**LOWEST_EXPONENT, 10.0**HIGHEST_EXPONENT)
        places = np.floor(np.log10(error)).astype(np.int64) - LOWEST_EXPONENT
        counts += np.bincount(np.clip(places, 0, len(counts) - 1), minlength=len(counts))
    exponents = list(range(LOWEST_EXPONENT, HIGHEST_EXPONENT + 1))
    return {"name": name, "exponents": exponents, "counts": counts.tolist()}


def worst_sqnr(figures: Iterable[OutputFigures]) -> float | None:
    """Return the lowest ``sqnr_db`` of float outputs; ``None`` where there is none."""
    values = [item.sqnr_db for item in figures if item.exact is None]
    known = [value for value in values if value is not None]
    return min(known) if known else None
