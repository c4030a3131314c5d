"""Outputs that are rows in an order that noise may change, put side by side row for row.

Rows are matched greedily, the closest pairs first. Their distance is the root mean square of the
differences within each output, every column a share of its range in the reference, and of several
outputs the largest. Columns of whole numbers, as classes are, differ wholly or not at all. Rows
further apart than a tolerance are not the same.

Which rows are chosen is decided at a cut-off, where noise may choose another. So a row that has no
partner is excused where its key, the value that the rows are ordered by, lies within the tolerance
of the smallest one of its sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeconv.core.artifacts import Array, Arrays
from edgeconv.metrics.parts import RowSet

MOST_ROWS = 1024
"""More rows than this are not matched: the distances of all pairs would be too many."""

# Whole numbers that come from steps of quantization are equal where they round to the same.
_SAME = 0.5

_Floats = npt.NDArray[np.float64]
_Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Outputs whose rows were matched.

    Attributes:
        reference: The reference's outputs; rows of real numbers without a partner are NaN.
        candidate: Those under test, each row at the place of its partner.
        share: Share of the rows that are in both, those excused left out.
        paired: Whether any row is in both.
    """

    reference: Arrays
    candidate: Arrays
    share: float
    paired: bool


def side_by_side(
    reference: Arrays, candidate: Arrays, chosen: RowSet, tolerance: float
) -> SideBySide | None:
    """Match the rows of each sample; ``None`` where that cannot be done.

    Args:
        reference: Arrays by output name, ``[sample, ...]``.
        candidate: The same of the artifact under test.
        chosen: Which of the outputs are rows of one choice.
        tolerance: Distance up to which rows are the same, as a share of the columns' ranges.
    """
    if not _comparable(reference, candidate, chosen):
        return None
    ours = [_Rows.of(reference[name], axis) for name, axis in chosen.axes]
    theirs = [_Rows.of(candidate[name], axis) for name, axis in chosen.axes]
    if len({rows.table.shape[:2] for rows in ours}) != 1 or ours[0].table.shape[1] > MOST_ROWS:
        return None
    columns = _Columns.of([rows.table for rows in ours])
    pairs, share = _matched(columns, [rows.table for rows in theirs], tolerance)
    names = [name for name, _ in chosen.axes]
    return SideBySide(
        {name: rows.with_pairs(pairs, 0) for name, rows in zip(names, ours, strict=True)},
        {name: rows.with_pairs(pairs, 1) for name, rows in zip(names, theirs, strict=True)},
        share,
        any(len(item) for item in pairs),
    )


def _comparable(reference: Arrays, candidate: Arrays, chosen: RowSet) -> bool:
    """Tell whether all outputs of a set are there, of one shape, and finite."""
    for name, axis in chosen.axes:
        if name not in reference or name not in candidate:
            return False
        pair = reference[name], candidate[name]
        if pair[0].shape != pair[1].shape or axis + 1 >= pair[0].ndim or not pair[0].size:
            return False
        if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in pair):
            return False
    return True


@dataclass(frozen=True, slots=True)
class _Rows:
    """An output as a table of rows.

    Attributes:
        table: ``[list, row, column]``, with a list for each sample of each batch.
        moved: Shape of the output with its rows in front of the columns.
        source: Where its axis of rows was.
    """

    table: Array
    moved: tuple[int, ...]
    source: tuple[int, int]

    @classmethod
    def of(cls, array: Array, axis: int) -> _Rows:
        """Return an output ``[sample, ...]`` whose axis counts rows."""
        front = 1 if axis == 0 else 2
        moved = np.moveaxis(array, axis + 1, front)
        lists = int(np.prod(moved.shape[:front]))
        table = moved.reshape(lists, moved.shape[front], -1)
        return cls(table, moved.shape, (front, axis + 1))

    def with_pairs(self, pairs: Sequence[_Indices], side: int) -> Array:
        """Return the output with the rows of one side where the reference has its partners."""
        real = self.table.dtype.kind == "f"
        table = np.full_like(self.table, np.nan) if real else np.zeros_like(self.table)
        for place, pair in enumerate(pairs):
            table[place, pair[:, 0]] = self.table[place, pair[:, side]]
        return np.moveaxis(table.reshape(self.moved), *self.source)


@dataclass(frozen=True, slots=True)
class _Columns:
    """The tables of the reference, with the scale of each column.

    Attributes:
        tables: ``[list, row, column]`` of each output.
        scales: Range of each column; 0 of one that holds whole numbers.
        key: Output and column that the rows are ordered by, and 1 or -1 for falling and rising;
            ``None`` where no column tells.
    """

    tables: Sequence[Array]
    scales: Sequence[_Floats]
    key: tuple[int, int, int] | None

    @classmethod
    def of(cls, tables: Sequence[Array]) -> _Columns:
        """Return what is known of these tables."""
        return cls(tables, [_scales(table) for table in tables], _key(tables))

    def keys(self, tables: Sequence[Array]) -> _Floats | None:
        """Return the keys of all rows, larger ones first to be chosen, ``[list, row]``."""
        if self.key is None:
            return None
        place, column, sign = self.key
        found: _Floats = sign * tables[place][:, :, column].astype(np.float64)
        return found


def _matched(
    columns: _Columns, candidate: Sequence[Array], tolerance: float
) -> tuple[list[_Indices], float]:
    """Return the pairs of each list, ``[pair, 2]``, and the share of the rows that are in both."""
    lists, rows = columns.tables[0].shape[:2]
    ours, theirs = columns.keys(columns.tables), columns.keys(candidate)
    spread = 0.0 if ours is None else float(ours.max() - ours.min())
    pairs: list[_Indices] = []
    bad = excused = 0
    for place in range(lists):
        pair = _greedy(_distances(columns, candidate, place), tolerance)
        pairs.append(pair)
        alone = [np.setdiff1d(np.arange(rows), pair[:, side]) for side in (0, 1)]
        lost = len(alone[0])
        if ours is not None and theirs is not None:
            limit = ours[place].min() + tolerance * spread
            alone = [
                alone[0][ours[place, alone[0]] > limit],
                alone[1][theirs[place, alone[1]] > limit],
            ]
        excused += lost - len(alone[0])
        bad += max(map(len, alone))
    count = lists * rows - excused
    return pairs, max(0.0, 1 - bad / count) if count else float(bad == 0)


def _scales(table: Array) -> _Floats:
    """Return the range of each column; 0 of one that holds whole numbers, equal or not."""
    if table.dtype.kind != "f":
        return np.zeros(table.shape[2])
    ranges = (table.max(axis=(0, 1)) - table.min(axis=(0, 1))).astype(np.float64)
    ranges = np.where(ranges > 0, ranges, np.maximum(np.abs(table).max(axis=(0, 1)), 1e-30))
    whole = (table == np.rint(table)).all(axis=(0, 1))
    return np.where(whole, 0.0, ranges)


def _key(tables: Sequence[Array]) -> tuple[int, int, int] | None:
    for place, table in enumerate(tables):
        if table.dtype.kind != "f" or table.shape[1] < 2:
            continue
        steps = np.diff(table, axis=1)
        for sign in (1, -1):
            sorted_ = (sign * steps <= 0).all(axis=(0, 1)) & (steps != 0).any(axis=(0, 1))
            if sorted_.any():
                return place, int(np.flatnonzero(sorted_)[0]), sign
    return None


def _distances(columns: _Columns, candidate: Sequence[Array], place: int) -> _Floats:
    """Return the distance of each row of the reference from each of the candidate in a list."""
    count = columns.tables[0].shape[1]
    found = np.zeros((count, count))
    for table, other, scale in zip(columns.tables, candidate, columns.scales, strict=True):
        whole = scale == 0
        if whole.any():
            a, b = table[place][:, whole], other[place][:, whole]
            apart = np.abs(a[:, None, :].astype(np.float64) - b[None, :, :]) > _SAME
            np.maximum(found, apart.mean(axis=2), out=found)
        if not whole.all():
            a, b = (item[place][:, ~whole] / scale[~whole] for item in (table, other))
            squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * (a @ b.T)
            np.maximum(found, np.sqrt(np.maximum(squares / a.shape[1], 0)), out=found)
    return found


def _greedy(distances: _Floats, tolerance: float) -> _Indices:
    """Return pairs of both sides ``[pair, 2]``, the closest first, each row in one pair."""
    rows, others = np.nonzero(distances <= tolerance)
    order = np.argsort(distances[rows, others], kind="stable")
    free = [[True] * distances.shape[0], [True] * distances.shape[1]]
    pairs = []
    for row, other in zip(rows[order].tolist(), others[order].tolist(), strict=True):
        if free[0][row] and free[1][other]:
            free[0][row] = free[1][other] = False
            pairs.append((row, other))
    return np.asarray(sorted(pairs), np.int64).reshape(-1, 2)
