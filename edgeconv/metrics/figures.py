"""The figures of one output, or of a part of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from edgeconv.metrics.sums import MAX_DB

FEW, MANY = 8, 64
"""Fewer values than the first are left of a part that is lost, which had more than the second."""


@dataclass(frozen=True, slots=True)
class WorstSample:
    """The sample with the lowest SQNR.

    Attributes:
        index: Its number.
        sqnr_db: The figure.
    """

    index: int
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """The figures of one output, or of one part of it, as `edgeconv.metrics.parity` defines them.

    Attributes:
        name: The output's name; of a part, where it is and what made it.
        reason: Why the output cannot be compared; ``""`` where it can.
        within_db: Of a part without a scale, its SQNR as a share of the whole output.
        slice: Where a part is, `Part.to_dict`.
        parts: The figures of the parts; none where the output is of one piece.
        no_scores: Why the output is no class scores, so that ``top1_agreement`` is not judged;
            ``""`` where it may be.
        rows: Of an output as a set, the share of its rows that are in both.
        chosen_by: Of an output as a set, the operator that chose its rows.
        together: Of an output as a set, the outputs whose rows belong to its own.
        as_set: Where the output is rows whose order noise may change: the figures of the rows that
            are in both, side by side. They are judged in place of the others.
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
    levels: int | None = None
    reference_levels: int | None = None
    lost: bool = False
    worst_sample: WorstSample | None = None
    note: str = ""
    within_db: float | None = None
    slice: Mapping[str, object] | None = None
    parts: tuple[OutputFigures, ...] = ()
    no_scores: str = ""
    rows: float | None = None
    chosen_by: str = ""
    together: tuple[str, ...] = ()
    as_set: OutputFigures | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the form that ``parity.json`` has; what is empty of the later ones is left out."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in _OPTIONAL:
            if data[name] is None or data[name] is False or data[name] in ("", ()):
                del data[name]
        if self.parts:
            data["parts"] = [part.to_dict() for part in self.parts]
        if self.worst_sample is not None:
            data["worst_sample"] = asdict(self.worst_sample)
        if self.together:
            data["together"] = list(self.together)
        if self.as_set is not None:
            data["as_set"] = self.as_set.to_dict()
        return data

    @property
    def worst_part(self) -> OutputFigures:
        """The part with the lowest SQNR that has a scale, or the output as a set, or as it is."""
        if self.as_set is not None:
            return self.as_set.worst_part
        known = [part for part in self.parts if part.sqnr_db is not None and not part.note]
        return min(
            (self, *known), key=lambda item: MAX_DB if item.sqnr_db is None else item.sqnr_db
        )


_OPTIONAL = (
    "reason",
    "levels",
    "reference_levels",
    "lost",
    "worst_sample",
    "note",
    "within_db",
    "slice",
    "parts",
    "no_scores",
    "rows",
    "chosen_by",
    "together",
    "as_set",
)


def counted(figures: OutputFigures) -> str:
    """Return how many distinct values are left, in words; ``""`` where that was not counted."""
    if figures.levels is None or figures.reference_levels is None:
        return ""
    return f"{figures.levels:,} of {figures.reference_levels:,} values"
