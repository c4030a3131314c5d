"""Parts of an output: what the graph joins in it, else channels whose ranges differ.

One figure over an output that holds boxes in pixels and scores in 0..1 sees the boxes only. So an
output is divided, and each part is measured alone:

1. By the graph, where there is an ONNX file: `edgeconv.convert.onnx.parts` finds the `Part` s.
2. Within those, or within the whole output where the graph joins nothing, by range: groups of
   indices along one axis, where the largest magnitudes of two groups differ by more than
   `RANGE_RATIO`. Chance must not make groups. So each index needs `_ENOUGH` values over all
   samples; groups are told by gaps in the sorted ranges, and among few indices, where there are no
   gaps, by steps from the largest on; indices that are in 0..1 are of one unit; and the groups must
   be a few runs or a repeated pattern along the axis, as kinds of values are and channels that
   happen to be quiet are not.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeconv.core.artifacts import Array

RANGE_RATIO = 8.0
"""Ranges that differ by more than this do not fit one 8-bit scale."""

_ENOUGH = 64
_MOST_GROUPS = 4
_MOST_RUNS = 4
_LONGEST_PERIOD = 8
_MOST_INDICES = 4096
_SEVERAL = 16
_FEW = 32
"""Up to so many indices are kinds of values; more may be a spectrum, whose ranges slope by nature.
"""
_TINY = float(np.finfo(np.float32).tiny)

_Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Slice:
    """Indices along one axis: ``start <= i < stop`` of which ``(i - start) % step < block``.

    Attributes:
        axis: Axis of the source model's output, its batch included.
        start: The first index.
        stop: One past the last index.
        block: How many indices of every ``step`` belong to it.
        step: As many as ``block`` where it is a range without gaps.
    """

    axis: int
    start: int
    stop: int
    block: int = 1
    step: int = 1

    @classmethod
    def of(cls, axis: int, indices: Sequence[int]) -> Slice | None:
        """Return the slice of these ascending indices; ``None`` where no slice holds them."""
        start, stop = int(indices[0]), int(indices[-1]) + 1
        gaps = np.flatnonzero(np.diff(np.asarray(indices)) != 1)
        if not gaps.size:
            return cls(axis, start, stop)
        block = int(gaps[0]) + 1
        step = int(indices[block]) - start
        found = cls(axis, start, stop, block, step)
        return found if np.array_equal(found.indices, indices) else None

    @property
    def indices(self) -> _Indices:
        """The indices, ascending."""
        found = np.arange(self.start, self.stop)
        return found[(found - self.start) % self.step < self.block]

    def index(self) -> slice | _Indices:
        """Return what selects it from an array: a slice where that can be."""
        if self.block == self.step:
            return slice(self.start, self.stop)
        if self.block == 1:
            return slice(self.start, self.stop, self.step)
        return self.indices

    def to_dict(self) -> dict[str, int]:
        """Return the form that ``parity.json`` has."""
        data = {"axis": self.axis, "start": self.start, "stop": self.stop}
        return data if self.block == self.step else {**data, "block": self.block, "step": self.step}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an output.

    Attributes:
        slices: Where it is; at most one for each axis, none for the whole output.
        origin: The operator or module that made it; ``""`` where that is not known.
        one_unit: Whether all of it is known to be of one unit, as what a sigmoid makes is.
    """

    slices: tuple[Slice, ...]
    origin: str = ""
    one_unit: bool = False

    def select(self, array: Array) -> Array:
        """Return the part of an array ``[sample, ...]``."""
        for item in self.slices:
            array = array[(slice(None),) * (item.axis + 1) + (item.index(),)]
        return array

    def words(self, rank: int) -> str:
        """Return its name: ``rows 4 to 83 (sigmoid)``.

        Args:
            rank: Number of the output's axes, its batch included.
        """
        place = ", ".join(_words(item, rank) for item in self.slices) or "all"
        return f"{place} ({self.origin})" if self.origin else place

    def to_dict(self) -> dict[str, Any]:
        """Return ``slice`` of ``parity.json``: one axis, and ``within`` for further ones."""
        if not self.slices:
            return {}
        first, *others = (item.to_dict() for item in self.slices)
        return {**first, "within": others} if others else dict(first)


@dataclass(frozen=True, slots=True)
class RowSet:
    """Outputs that are rows which one operator chose and ordered.

    Attributes:
        chosen_by: The operator.
        axes: The outputs and the axis of each that counts rows, the batch included.
    """

    chosen_by: str
    axes: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What the graph tells of the outputs.

    Attributes:
        parts: What is joined in each output, by the output's name; more than one.
        sets: The outputs that are rows in an order that noise may change.
        no_scores: Why outputs are no class scores, by name, where that is known.
        scores: Outputs of one row that are class scores, whatever their rank.
        labels: Outputs of which each element answers a question of its own: class scores only to
            who asks for the top class.
    """

    parts: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    sets: tuple[RowSet, ...] = ()
    no_scores: Mapping[str, str] = field(default_factory=dict)
    scores: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()

    def asked(self, gates: Iterable[Container[str]]) -> Anatomy:
        """Return what counts under gates: labels are class scores where one asks for the top class.

        Args:
            gates: The metrics that limits were given for, beside the default ones.
        """
        if any("top1_agreement" in metrics for metrics in gates):
            return replace(self, labels=frozenset())
        return self


def _words(item: Slice, rank: int) -> str:
    noun = _noun(item.axis, rank)
    indices = item.indices
    first, last = int(indices[0]), int(indices[-1])
    if first == last:
        return f"{noun} {first}"
    if item.block == item.step:
        return f"{noun}s {first} to {last}"
    if indices.size == 2:
        return f"{noun}s {first} and {last}"
    return f"{noun}s {first} to {last} ({item.block} of every {item.step})"


def _noun(axis: int, rank: int) -> str:
    if rank == 4 and axis == 1:
        return "channel"
    if rank >= 3 and axis == rank - 1:
        return "column"
    if rank in (3, 4) and axis == rank - 2:
        return "row"
    return "value" if rank <= 2 and axis == rank - 1 else f"axis {axis}, element"


def divide(reference: Array, pieces: Sequence[Part] = ()) -> tuple[Part, ...]:
    """Return the parts of an output; none where it is of one piece.

    Args:
        reference: What the reference computed, ``[sample, ...]``.
        pieces: What the graph joins in it.
    """
    if reference.dtype.kind != "f" or not reference.size:
        return tuple(pieces)
    found: list[Part] = []
    for piece in pieces or (Part(()),):
        groups = () if piece.one_unit else _by_range(piece.select(reference))
        found += [_within(piece, group) for group in groups] or [piece]
    return tuple(found) if len(found) > 1 else ()


def _within(piece: Part, group: Slice) -> Part:
    """Return the group of a piece as a part of the output."""
    slices = {item.axis: item for item in piece.slices}
    outer = slices.get(group.axis)
    if outer is not None:
        found = Slice.of(group.axis, outer.indices[group.indices].tolist())
        if found is None:
            return piece
        group = found
    slices[group.axis] = group
    return replace(piece, slices=tuple(slices[axis] for axis in sorted(slices)))


def _by_range(array: Array) -> tuple[Slice, ...]:
    """Return the groups along the axis that tells them best; none where the ranges are alike."""
    best: tuple[float, tuple[Slice, ...]] = (RANGE_RATIO, ())
    for axis in _axes(array):
        size = array.shape[axis]
        if not 2 <= size <= _MOST_INDICES or array.size // size < _ENOUGH:
            continue
        ratio, labels = _clusters(*_ranges(array, axis))
        runs = _runs(labels) if ratio > best[0] else ()
        if runs:
            best = ratio, tuple(item for run in runs for item in _slices(labels, run, axis - 1))
    return best[1]


def _axes(array: Array) -> range | tuple[int, ...]:
    """Return the axes that may hold kinds of values; of an image those are its first and last."""
    return range(1, array.ndim) if array.ndim <= 4 else (2, array.ndim - 1)


def _ranges(array: Array, axis: int) -> tuple[Array, Array]:
    """Return the smallest and the largest value at each index; what is not finite is left out."""
    others = tuple(item for item in range(array.ndim) if item != axis)
    low, high = array.min(axis=others), array.max(axis=others)
    if np.isfinite(low).all() and np.isfinite(high).all():
        return low, high
    kept = np.where(np.isfinite(array), array, 0)
    return kept.min(axis=others), kept.max(axis=others)


def _clusters(low: Array, high: Array) -> tuple[float, _Indices]:
    """Group indices by the magnitude of their values.

    Returns:
        The largest gap between two groups, as a ratio, 1 where there is one group; and for each
        index the number of its group. An index without any value has that of the one before it.
    """
    peaks = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    known = np.flatnonzero(peaks > _TINY)
    labels = np.zeros(peaks.size, np.int64)
    if known.size < 2:
        return 1.0, labels
    order = known[np.argsort(-peaks[known], kind="stable")]
    gaps = peaks[order[:-1]] / peaks[order[1:]]
    unit = (low >= 0) & (high <= 1)
    gaps[unit[order[:-1]]] = 1.0
    if peaks.size >= _SEVERAL:
        gaps = _without_single(gaps)
    cuts = np.sort(np.argsort(-gaps, kind="stable")[: _MOST_GROUPS - 1])
    cuts = cuts[gaps[cuts] > RANGE_RATIO]
    if not cuts.size:
        cuts = _steps(peaks[order], unit[order]) if peaks.size <= _FEW else cuts
    if not cuts.size:
        return 1.0, labels
    labels[order] = np.searchsorted(cuts, np.arange(order.size), side="left")
    without = np.flatnonzero(peaks <= _TINY)
    for index in without:
        labels[index] = labels[index - 1] if index else labels[known[0]]
    firsts = [0, *(cuts[:-1] + 1).tolist()]
    ratios = peaks[order[firsts]] / peaks[order[cuts + 1]]
    return float(ratios.max()), labels


def _steps(peaks: npt.NDArray[np.float64], unit: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the places, in descending peaks, after which `RANGE_RATIO` is used up."""
    cuts: list[int] = []
    first = 0
    for place in range(1, peaks.size):
        if peaks[first] > RANGE_RATIO * peaks[place] and not unit[first]:
            cuts.append(place - 1)
            first = place
    cuts = cuts[: _MOST_GROUPS - 1]
    single = 1 in np.diff([-1, *cuts, peaks.size - 1])
    return np.array([] if single and peaks.size >= _SEVERAL else cuts, np.int64)


def _without_single(gaps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the gaps without those that would make a group of one index."""
    kept = gaps.copy()
    wide = np.flatnonzero(gaps > RANGE_RATIO)
    edges = [-1, *wide.tolist(), gaps.size]
    for before, after in pairwise(edges):
        if after - before == 1:
            sides = [edge for edge in (before, after) if 0 <= edge < gaps.size]
            kept[min(sides, key=lambda edge: gaps[edge])] = 1.0
    return kept


def _runs(labels: _Indices) -> tuple[tuple[int, int, int], ...]:
    """Divide labels into runs of one label or of a repeated pattern.

    Returns:
        Start, stop and period of each run; none where more than a few would be needed.
    """
    runs: list[tuple[int, int, int]] = []
    start = 0
    while start < labels.size:
        if len(runs) == _MOST_RUNS:
            return ()
        stop, period = max(
            ((_reach(labels, start, period), period) for period in range(1, _LONGEST_PERIOD + 1)),
            key=lambda found: (found[0], -found[1]),
        )
        runs.append((start, stop, period))
        start = stop
    return tuple(runs)


def _reach(labels: _Indices, start: int, period: int) -> int:
    """Return how far a pattern repeats: at least twice where it is one of several labels."""
    rest = labels[start:]
    differing = np.flatnonzero(rest[period:] != rest[:-period])
    length = period + int(differing[0]) if differing.size else rest.size
    if period == 1:
        return start + length
    length -= length % period
    return start + length if length >= 3 * period else start


def _slices(labels: _Indices, run: tuple[int, int, int], axis: int) -> Iterator[Slice]:
    """Yield the groups of one run."""
    start, stop, period = run
    if period == 1:
        yield Slice(axis, start, stop)
        return
    pattern = labels[start : start + period]
    edges = [0, *(np.flatnonzero(np.diff(pattern)) + 1).tolist(), period]
    for first, after in pairwise(edges):
        last = stop - period + after
        yield Slice(axis, start + first, last, after - first, period)
