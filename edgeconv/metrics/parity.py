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
``top1_agreement``  share of rows whose largest element has the same index, or one whose value ties
                    with it in the reference, for float outputs of shape ``[N, C]``, ``C >= 2``,
                    which look like class scores, their parts that a softmax made, and single
                    rows of another rank that one made; else ``None``
``exact``           share of equal elements, for integer and boolean outputs; else ``None``
==================  ============================================================================

Each part of an output (`edgeconv.metrics.parts`) has the same figures, and a gate holds for the
worst part. Of the whole and of each part also:

====================  ==========================================================================
``levels``            distinct values over all samples
``reference_levels``  distinct values of the reference
``lost``              whether fewer than `FEW` values are left of a part that has more than `MANY`
                      in the reference, where values closer than 1/1024 of its range count as one:
                      that a softmax is sure of itself is no loss
``worst_sample``      index and ``sqnr_db`` of the sample with the lowest
``note``              ``zero``, ``denormal`` or ``constant``, of a part that is so in the reference.
                      It has no scale of its own: its error is judged as a share of the whole
====================  ==========================================================================

Rows that an operator chose and ordered (`edgeconv.convert.onnx.rows`) are also compared as a set
(`edgeconv.metrics.row_matching`). ``as_set`` has the same figures of the rows that are in both,
side by side, and ``rows``, the share that is; the gate holds for it.

Where the reference is NaN or infinite the candidate must be the same; those elements are left out
of the figures. Anything else that cannot be measured makes every figure ``None`` and the output
fails with a reason. JSON has no NaN and no infinity, and none is ever written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeconv.core.artifacts import Array, Arrays, TensorSpec
from edgeconv.metrics.figures import FEW, MANY, OutputFigures, WorstSample
from edgeconv.metrics.judging import ROW_TOLERANCE, failures, reasons
from edgeconv.metrics.parts import Anatomy, Part, RowSet, divide
from edgeconv.metrics.report_parts import Histogram
from edgeconv.metrics.row_matching import SideBySide, side_by_side
from edgeconv.metrics.sums import (
    MAX_DB,
    Sums,
    decibel,
    largest,
    levels,
    resolved_levels,
)

__all__ = [
    "MAX_DB",
    "OutputFigures",
    "Reference",
    "compare",
    "compare_output",
    "failures",
    "histogram",
    "reasons",
    "restore",
    "store",
    "worst_sqnr",
]

_SCORES = "softmax"
_DENORMAL = float(np.finfo(np.float32).tiny)


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


def compare(
    reference: Arrays, candidate: Arrays, anatomy: Anatomy | None = None
) -> tuple[OutputFigures, ...]:
    """Compare every output and its parts, in the reference's order.

    Args:
        reference: Arrays by output name, ``[sample, ...]``, in the source model's form.
        candidate: The same of the artifact under test.
        anatomy: What the graph tells of the outputs.
    """
    return Reference(reference, anatomy).compare(candidate)


class Reference:
    """What candidates are compared with, and what need be known of it only once.

    Args:
        arrays: Arrays by output name, ``[sample, ...]``, in the source model's form.
        anatomy: What the graph tells of the outputs.
        parts: The parts of each output, where they are known already.
        counts: Whether to count distinct values.
    """

    def __init__(
        self,
        arrays: Arrays,
        anatomy: Anatomy | None = None,
        parts: Mapping[str, tuple[Part, ...]] | None = None,
        *,
        counts: bool = True,
    ) -> None:
        self.arrays = arrays
        self._sets = () if anatomy is None else anatomy.sets
        self._counting = counts
        self._no_scores = {} if anatomy is None else anatomy.no_scores
        self._scores = frozenset() if anatomy is None else anatomy.scores
        self._labels = frozenset() if anatomy is None else anatomy.labels
        pieces = {} if anatomy is None else anatomy.parts
        self.parts = (
            {
                name: divide(array, _fitting(array, pieces.get(name, ())))
                for name, array in arrays.items()
            }
            if parts is None
            else parts
        )
        self._counts: dict[tuple[str, Part], tuple[int, int]] = {}

    def compare(
        self, candidate: Arrays, tolerance: float = ROW_TOLERANCE
    ) -> tuple[OutputFigures, ...]:
        """Compare every output of a candidate and its parts.

        Args:
            candidate: Arrays by output name, ``[sample, ...]``.
            tolerance: How far apart rows may be that are taken for the same, where an operator
                chose them; `edgeconv.metrics.judging.row_tolerance` of a gate.
        """
        if list(self.arrays) != list(candidate):
            reason = f"outputs are {', '.join(candidate)}, expected {', '.join(self.arrays)}"
            return tuple(OutputFigures(name, reason=reason) for name in self.arrays)
        found = {
            name: self._output(name, array, candidate[name]) for name, array in self.arrays.items()
        }
        for chosen in self._sets:
            aligned = side_by_side(self.arrays, candidate, chosen, tolerance)
            if aligned is not None:
                for name, figures in self._as_set(aligned, chosen).items():
                    found[name] = replace(found[name], as_set=figures)
        return tuple(found.values())

    def _as_set(self, aligned: SideBySide, chosen: RowSet) -> dict[str, OutputFigures]:
        """Return the figures of the rows that are in both, by output."""
        names = tuple(aligned.reference)
        found = {}
        for name, reference in aligned.reference.items():
            figures = self._output(name, reference, aligned.candidate[name])
            found[name] = replace(
                figures,
                sqnr_db=figures.sqnr_db if aligned.paired else None,
                top1_agreement=None,
                worst_sample=None,
                rows=aligned.share,
                chosen_by=chosen.chosen_by,
                together=tuple(other for other in names if other != name),
            )
        return found

    def _output(self, name: str, reference: Array, candidate: Array) -> OutputFigures:
        found = compare_output(name, reference, candidate, self.parts.get(name, ()))
        if name in self._scores and not found.reason:
            rows = (array.reshape(len(array), 1, -1) for array in (reference, candidate))
            found = replace(found, top1_agreement=_top1(*rows))
        found = replace(found, no_scores=self._why_no_scores(name, found))
        if found.reason or reference.dtype.kind != "f" or not self._counting:
            return found
        parts = [
            self._counted(name, part, figures, candidate)
            for part, figures in zip(self.parts.get(name, ()), found.parts, strict=True)
        ]
        return replace(self._counted(name, _WHOLE, found, candidate), parts=tuple(parts))

    def _why_no_scores(self, name: str, figures: OutputFigures) -> str:
        """Return why the largest element of an output is of no interest; ``""`` where it may be."""
        if figures.top1_agreement is None:
            return ""
        if any(part.one_unit for part in self.parts.get(name, ())):
            return "it is joined of different things"
        if name in self._labels:
            return "each of its elements is a sigmoid of its own, as of labels that go together"
        return self._no_scores.get(name, "")

    def _counted(
        self, name: str, part: Part, figures: OutputFigures, candidate: Array
    ) -> OutputFigures:
        """Return the figures with the number of distinct values."""
        if (name, part) not in self._counts:
            expected = part.select(self.arrays[name])
            self._counts[name, part] = levels(expected), resolved_levels(expected)
        before, resolved = self._counts[name, part]
        count = before if figures.max_abs == 0 else levels(part.select(candidate))
        lost = count < FEW and resolved > MANY
        return replace(figures, levels=count, reference_levels=before, lost=lost)


_WHOLE = Part(())


def _fitting(array: Array, pieces: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return the pieces, none where the array is not of the shape that the graph speaks of."""
    fits = all(
        item.axis + 1 < array.ndim and item.stop <= array.shape[item.axis + 1]
        for piece in pieces
        for item in piece.slices
    )
    return pieces if fits else ()


def compare_output(
    name: str, reference: Array, candidate: Array, parts: Sequence[Part] = ()
) -> OutputFigures:
    """Compare one output, and parts of it, over all samples; both are ``[sample, ...]``."""
    reason = _mismatch(reference, candidate)
    if reason:
        return OutputFigures(name, reason=reason)
    sums, figures = _measure(name, reference, candidate)
    if figures.reason:
        return figures
    rank = reference.ndim - 1
    return replace(
        figures,
        top1_agreement=_top1(reference, candidate),
        parts=tuple(
            _part(part.words(rank), part, part.select(reference), part.select(candidate), sums)
            for part in parts
        ),
    )


def _measure(name: str, reference: Array, candidate: Array) -> tuple[Sums, OutputFigures]:
    sums = Sums()
    worst: tuple[float, int] | None = None
    for index, (expected, actual) in enumerate(zip(reference, candidate, strict=True)):
        before = sums.reference2, sums.error2
        reason = sums.add(np.asarray(expected), np.asarray(actual))
        if reason:
            return sums, OutputFigures(name, reason=reason)
        signal, noise = sums.reference2 - before[0], sums.error2 - before[1]
        if signal > 0:
            worst = min(worst or (MAX_DB, index), (decibel(signal, noise), index))
    return sums, OutputFigures(
        name,
        max_abs=sums.max_abs,
        mean_abs=sums.mean_abs,
        max_rel=sums.max_rel,
        peak_error=sums.peak_error,
        cosine=sums.cosine,
        sqnr_db=sums.sqnr_db,
        exact=None if _kind(reference) == "f" else _share(reference == candidate),
        worst_sample=None if worst is None else WorstSample(worst[1], worst[0]),
        note=_note(reference) if _kind(reference) == "f" else "",
    )


def _part(words: str, part: Part, reference: Array, candidate: Array, whole: Sums) -> OutputFigures:
    sums, figures = _measure(words, reference, candidate)
    within = sums.sqnr_within(whole) if figures.note else None
    scores = part.origin == _SCORES and not figures.reason
    top1 = _top1(reference, candidate) if scores else None
    return replace(figures, slice=part.to_dict(), within_db=within, top1_agreement=top1)


def _note(array: Array) -> str:
    """Return why an array has no scale; ``""`` where it has one."""
    if not array.size:
        return ""
    peak = largest(array)
    if peak < _DENORMAL:
        return "zero" if peak == 0 else "denormal"
    return "constant" if array.min() == array.max() else ""


def _mismatch(reference: Array, candidate: Array) -> str:
    if reference.shape != candidate.shape:
        return f"shape is {list(candidate.shape[1:])}, expected {list(reference.shape[1:])}"
    if _kind(reference) != _kind(candidate):
        return f"dtype is {candidate.dtype}, expected {reference.dtype}"
    return ""


def _kind(array: Array) -> str:
    return {"u": "i"}.get(array.dtype.kind, array.dtype.kind)


def _top1(reference: Array, candidate: Array) -> float | None:
    scores = reference.ndim == 3 and reference.shape[2] >= 2 and reference.dtype.kind == "f"
    if not scores or reference.size == 0 or np.isnan(reference).any():
        return None
    chosen = np.take_along_axis(reference, candidate.argmax(axis=2)[..., None], axis=2)
    return _share(chosen[..., 0] == reference.max(axis=2))


def _share(equal: npt.NDArray[np.bool_]) -> float:
    return float(equal.mean()) if equal.size else 1.0


LOWEST_EXPONENT, HIGHEST_EXPONENT = -10, 3
"""Powers of ten that the first and the last bin of a `histogram` begin with."""


def histogram(name: str, reference: Array, candidate: Array) -> Histogram | None:
    """Count the absolute errors of one output by their power of ten.

    Returns:
        The counts; ``None`` where the arrays cannot be subtracted.
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
    exponents = tuple(range(LOWEST_EXPONENT, HIGHEST_EXPONENT + 1))
    return Histogram(name, exponents, tuple(counts.tolist()))


def worst_sqnr(figures: Iterable[OutputFigures]) -> float | None:
    """Return the lowest ``sqnr_db`` of float outputs and their parts; ``None`` without any."""
    values = [item.worst_part.sqnr_db for item in figures if item.exact is None]
    known = [value for value in values if value is not None]
    return min(known) if known else None
