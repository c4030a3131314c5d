"""What of a gate outputs and their parts miss, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from edgeconv.core.gates import AT_LEAST, AT_MOST
from edgeconv.metrics.figures import OutputFigures, counted

# With a reference of zeros there is no scale to compare with: this much is float32 noise.
_ZERO_NOISE = 1e-6

ROW_TOLERANCE, _MOST_TOLERANCE = 1e-3, 0.05
"""A row that lies further off than a twentieth of the range is another one, whatever noise a gate
allows: boxes moved by so much still overlap by half, with most of their objects."""
"""Rows that float arithmetic moves, and those that 8 bits move, are not further apart than this."""

_RELAXED = "; --gate top1=... sets another limit, 0 where this is no class scores"

_INTEGER_METRICS = ("exact", "max_abs", "mean_abs", "max_rel")
_OF_SCALE = ("sqnr_db", "cosine", "peak_error")


def row_tolerance(gate: Mapping[str, float]) -> float:
    """Return how far apart rows of a set may be: the error that the gate's SQNR stands for."""
    error: float = 10 ** (-gate.get("sqnr_db", 0.0) / 20)
    return max(ROW_TOLERANCE, min(_MOST_TOLERANCE, error))


def reasons(figures: Iterable[OutputFigures], gate: Mapping[str, float]) -> tuple[str, ...]:
    """Return what of the gate the outputs and their parts miss, each as a sentence.

    Of parts that miss the same limit the worst is named:
    ``output y, rows 4 to 83 (sigmoid): sqnr_db 0 is below 12, 1 of 3,214 values``.
    """
    found: list[str] = []
    for item in figures:
        if item.reason:
            found.append(f"output {item.name}: {item.reason}")
        else:
            found += _sentences(item.as_set or item, gate, _place(item))
    return tuple(found)


def _place(figures: OutputFigures) -> str:
    """Return what is judged, in words: an output, or the set of rows that it belongs to."""
    rows = figures.as_set
    if rows is None:
        return figures.name
    others = f"with {', '.join(rows.together)}, " if rows.together else ""
    return f"{figures.name}, {others}rows of {rows.chosen_by} as a set"


def _sentences(figures: OutputFigures, gate: Mapping[str, float], place: str) -> Iterator[str]:
    whole = _missed(figures, gate)
    parts = [(part, _missed(part, gate)) for part in figures.parts]
    for metric in dict.fromkeys((*whole, *(name for _, missed in parts for name in missed))):
        bad = [part for part, missed in parts if metric in missed]
        worst = min(bad, key=lambda part: _rank(part, metric)) if bad else figures
        at = f"{place}, {worst.name}" if bad else place
        others = len(bad) - 1
        more = f" (and {others} other part{'s' * (others > 1)})" if others > 0 else ""
        yield f"output {at}: {_missed(worst, gate)[metric]}{more}"


def failures(figures: OutputFigures, gate: Mapping[str, float]) -> tuple[str, ...]:
    """Return what of the gate the output or part misses, in words; nothing where it passes.

    ``sqnr_db``, ``cosine`` and ``peak_error`` do not judge integer and boolean outputs, whose
    values are indices or classes more often than quantities; ``exact`` does. An output whose
    reference is all zero has no scale, and passes those three when it is zero up to float noise.
    """
    if figures.reason:
        return (figures.reason,)
    return tuple(_missed(figures.as_set or figures, gate).values())


def _missed(figures: OutputFigures, gate: Mapping[str, float]) -> dict[str, str]:
    """Return what is missed by metric; what is lost misses ``sqnr_db``, whatever that is."""
    missed = {}
    for metric, limit in gate.items():
        value: float | None = getattr(figures, metric)
        if figures.within_db is not None and metric in _OF_SCALE:
            value = figures.within_db if metric == "sqnr_db" else None
        if value is None or _holds(metric, value, limit) or _beside_the_point(metric, figures):
            continue
        relation = "below" if metric in AT_LEAST else "above"
        words = f"{metric} {told_from(value, limit)} is {relation} {limit:g}"
        missed[metric] = words + (_RELAXED if metric == "top1_agreement" else "")
    if figures.lost and gate:
        first = missed.pop("sqnr_db", "")
        missed = {"sqnr_db": f"{first}, lost: {counted(figures)}".lstrip(", "), **missed}
    elif "sqnr_db" in missed and counted(figures):
        missed["sqnr_db"] += f", {counted(figures)}"
    return missed


def told_from(value: float, limit: float) -> str:
    """Return a figure with as many digits as tell it from a limit: at least four."""
    texts = (f"{value:.{digits}g}" for digits in range(4, 18))
    return next((text for text in texts if float(text) != float(f"{limit:g}")), repr(value))


def _rank(figures: OutputFigures, metric: str) -> float:
    value: float | None = getattr(figures, metric)
    if value is None:
        return 0.0
    return -value if metric in AT_MOST else value


def _holds(metric: str, value: float, limit: float) -> bool:
    assert metric in AT_LEAST or metric in AT_MOST
    return value >= limit if metric in AT_LEAST else value <= limit


def _beside_the_point(metric: str, figures: OutputFigures) -> bool:
    if metric in ("rows", "top1_agreement"):
        return bool(figures.no_scores) and metric == "top1_agreement"
    if figures.exact is not None:
        return metric not in _INTEGER_METRICS
    return (
        metric in _OF_SCALE
        and figures.note in ("zero", "denormal")
        and figures.max_abs is not None
        and figures.max_abs <= _ZERO_NOISE
    )
