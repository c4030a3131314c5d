"""How a stored tensor presents the shape that ONNX sees.

A `View` splits the tensor into *factors*: sizes whose product, in stored order, is the tensor.
Each stored dimension is a run of consecutive factors; each logical (ONNX) axis is a list of
factors in any order. Transposes, reshapes, squeezes and flattens only regroup factors, so they
cost nothing until an op asks for an order that the stored one does not have.

Example: an NCHW image stored as NHWC, then flattened by ONNX to ``[N, C*H*W]``, is still the
NHWC tensor; its second logical axis lists the factors C, H, W, stored in the order H, W, C. A
fully connected layer folds that order into its weights and no data moves.

Dimensions of size 1 have no factor: they can be anywhere for free. A dimension known at run time
only has the factor `DYNAMIC`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

DYNAMIC = -1
"""Size of a dimension known at run time only; at most one factor of a view has it."""

Shape = tuple[int, ...]

_MOST_ROW_DIMENSIONS = 3  # with the last axis at most the four that every TFLite kernel takes


def product(sizes: Iterable[int]) -> int:
    """Return the number of elements; `DYNAMIC` where one of the sizes is."""
    total = math.prod(sizes)
    return DYNAMIC if total < 0 else total


@dataclass(frozen=True, slots=True)
class View:
    """The relation between a stored tensor and the logical shape that it presents.

    Attributes:
        stored: For each stored dimension, the sizes of its factors, outermost first. Factors
            are numbered in this order over all dimensions.
        axes: For each logical axis, the numbers of its factors, outermost first.
    """

    stored: tuple[Shape, ...]
    axes: tuple[Shape, ...]

    @classmethod
    def of(cls, stored_shape: Shape, permutation: Sequence[int] | None = None) -> View:
        """Return the view of a tensor whose stored axis ``i`` is logical axis ``permutation[i]``.

        Args:
            stored_shape: Shape of the stored tensor.
            permutation: Identity where left out.
        """
        order = range(len(stored_shape)) if permutation is None else permutation
        axes: list[Shape] = [()] * len(stored_shape)
        number = 0
        for size, axis in zip(stored_shape, order, strict=True):
            if size != 1:
                axes[axis] = (number,)
                number += 1
        return cls(tuple(() if size == 1 else (size,) for size in stored_shape), tuple(axes))

    @property
    def sizes(self) -> Shape:
        """Sizes of all factors, by number."""
        return tuple(size for dimension in self.stored for size in dimension)

    @property
    def stored_shape(self) -> Shape:
        """Shape of the stored tensor."""
        return tuple(product(dimension) for dimension in self.stored)

    @property
    def shape(self) -> Shape:
        """The logical shape."""
        sizes = self.sizes
        return tuple(product(sizes[factor] for factor in axis) for axis in self.axes)

    def transpose(self, permutation: Sequence[int]) -> View:
        """Return the view whose logical axis ``i`` is this one's axis ``permutation[i]``."""
        return View(self.stored, tuple(self.axes[axis] for axis in permutation))

    def reshape(self, shape: Shape) -> View | None:
        """Return the view with another logical shape, or None if no regrouping gives it.

        Args:
            shape: The new logical shape, with the same number of elements.
        """
        if 0 in shape or 0 in self.sizes:
            return self if shape == self.shape else None
        return _Regrouping(self).reshape(shape)

    def order(self, permutation: Sequence[int]) -> Shape:
        """Return the factors in the order of the logical axes taken by ``permutation``."""
        return tuple(factor for axis in permutation for factor in self.axes[axis])

    def is_stored_as(self, permutation: Sequence[int]) -> bool:
        """Tell whether a plain reshape puts the logical axes in the order ``permutation``."""
        order = self.order(permutation)
        return order == tuple(range(len(order)))

    def natural_permutation(self, preferred: Sequence[Sequence[int]] = ()) -> Shape | None:
        """Return an axis order that costs no data movement, or None if there is none.

        Args:
            preferred: Orders to take where they cost nothing, best first. Identity comes next.
        """
        rank = len(self.axes)
        for candidate in (*preferred, range(rank)):
            if len(candidate) == rank and self.is_stored_as(candidate):
                return tuple(candidate)
        firsts: list[float] = []
        previous = -1.0
        for axis in self.axes:
            previous = float(axis[0]) if axis else previous + 1e-3
            firsts.append(previous)
        derived = sorted(range(rank), key=lambda axis: firsts[axis])
        return tuple(derived) if self.is_stored_as(derived) else None

    def axis_elements(self, axis: int) -> npt.NDArray[np.intp]:
        """Return, for each stored position along a logical axis, the logical index held there.

        ``arange`` where the axis is stored in its own order.
        """
        factors = self.axes[axis]
        sizes = self.sizes
        grid = np.arange(self.shape[axis]).reshape([sizes[factor] for factor in factors] or [1])
        stored = sorted(range(len(factors)), key=lambda position: factors[position])
        return grid.transpose(stored).ravel() if factors else grid

    def sort_axes(self, loose: Sequence[int]) -> View:
        """Return the view with the factors of some axes listed in stored order.

        That is the view of the same tensor with the elements along those axes renumbered;
        `axis_elements` of this view says how.
        """
        return View(
            self.stored,
            tuple(
                tuple(sorted(axis)) if number in loose else axis
                for number, axis in enumerate(self.axes)
            ),
        )

    def movement(self, permutation: Sequence[int]) -> Movement:
        """Return the cheapest reshape, transpose, reshape that stores ``permutation`` order."""
        shape = tuple(self.shape[axis] for axis in permutation)
        return _compact(self.sizes, self.order(permutation), shape)

    def dimensions(self, axes: Sequence[int]) -> Shape | None:
        """Return the stored dimensions that hold some logical axes and nothing else, or None.

        Axes of size 1 have no dimension of their own, and need none.
        """
        wanted = {factor for axis in axes for factor in self.axes[axis]}
        found = []
        number = 0
        for place, dimension in enumerate(self.stored):
            inside = wanted.intersection(range(number, number + len(dimension)))
            number += len(dimension)
            if inside and len(inside) != len(dimension):
                return None
            if inside:
                found.append(place)
        return tuple(found)

    def reduce(self, axes: Sequence[int], *, keepdims: bool) -> View:
        """Return the view after the stored dimensions of some axes shrank to 1, or went.

        Args:
            axes: Logical axes that `dimensions` finds dimensions for.
            keepdims: The axes stay, and the dimensions with size 1; else both go.
        """
        gone = set(self.dimensions(axes) or ())
        numbers: dict[int, int] = {}
        stored: list[Shape] = []
        number = 0
        for place, dimension in enumerate(self.stored):
            if place not in gone:
                numbers |= {number + n: len(numbers) + n for n in range(len(dimension))}
                stored.append(dimension)
            elif keepdims:
                stored.append(())
            number += len(dimension)
        logical = [
            tuple(numbers[factor] for factor in factors if factor in numbers)
            for axis, factors in enumerate(self.axes)
            if keepdims or axis not in axes
        ]
        return View(tuple(stored), tuple(logical))

    def as_rows(self) -> View | None:
        """Return the view whose last stored dimension is the last axis, in any order of its own.

        The rows before it keep their stored order, in as many dimensions as they had while those
        are no more than three, else in one. None where the last axis is not stored last.
        """
        factors = self.axes[-1]
        sizes = self.sizes
        first = len(sizes) - len(factors)
        if sorted(factors) != list(range(first, len(sizes))):
            return None
        rows: list[Shape] = []
        number = 0
        for dimension in self.stored:
            kept = dimension[: max(first - number, 0)]
            number += len(dimension)
            if kept or number <= first:
                rows.append(kept)
        if len(rows) > _MOST_ROW_DIMENSIONS or not rows:
            rows = [sizes[:first]]
        return View((*rows, sizes[first:]), self.axes)

    def with_last(self, size: int) -> View:
        """Return a view of `as_rows` after its last axis was mapped to another size."""
        first = len(self.sizes) - len(self.axes[-1])
        last = () if size == 1 else (size,)
        axis = () if size == 1 else (first,)
        return View((*self.stored[:-1], last), (*self.axes[:-1], axis))


@dataclass(frozen=True, slots=True)
class Movement:
    """Reshape to ``split``, transpose by ``permutation``, reshape to ``shape``."""

    split: Shape
    permutation: Shape
    shape: Shape

    @property
    def moves(self) -> bool:
        """Tell whether the transpose does anything."""
        return self.permutation != tuple(range(len(self.permutation)))

    def steps(self, rank: int = 6) -> list[Movement]:
        """Return movements of at most ``rank`` axes that together do the same.

        Args:
            rank: Most axes of one transpose; TFLite's TRANSPOSE takes six.
        """
        if not self.moves or len(self.permutation) <= rank:
            return [self]
        order = min(
            _chunk_swaps(len(self.permutation)),
            key=lambda swapped: len(_runs(_relative(self.permutation, swapped))),
        )
        middle = tuple(self.split[axis] for axis in order)
        first = _compact(self.split, order, middle)
        rest = _compact(middle, _relative(self.permutation, order), self.shape)
        return [first, *rest.steps(rank)]


def _chunk_swaps(count: int) -> Iterable[Shape]:
    """Yield the orders of ``count`` axes that swap two neighbouring runs."""
    for start in range(count):
        for middle in range(start + 1, count):
            for stop in range(middle + 1, count + 1):
                head, tail = range(start), range(stop, count)
                yield (*head, *range(middle, stop), *range(start, middle), *tail)


def _relative(permutation: Sequence[int], order: Sequence[int]) -> Shape:
    """Return the permutation that leads from axes in ``order`` to ``permutation``."""
    return tuple(list(order).index(axis) for axis in permutation)


def _runs(order: Sequence[int]) -> list[Shape]:
    """Cut an order into its longest runs of consecutive numbers."""
    starts = [
        place for place, axis in enumerate(order) if place == 0 or axis != order[place - 1] + 1
    ]
    return [tuple(order[start:stop]) for start, stop in pairwise([*starts, len(order)])]


def _compact(sizes: Sequence[int], order: Sequence[int], shape: Shape) -> Movement:
    """Return the movement to an order of axes, axes that stay together being one."""
    runs = _runs(order)
    stored_runs = sorted(runs)
    return Movement(
        split=tuple(product(sizes[axis] for axis in run) for run in stored_runs),
        permutation=tuple(stored_runs.index(run) for run in runs),
        shape=shape,
    )


class _Regrouping:
    """Mutable state of one reshape: factors get split where a new axis ends inside one."""

    def __init__(self, view: View) -> None:
        self._sizes: dict[int, int] = dict(enumerate(view.sizes))
        numbers = iter(range(len(self._sizes)))
        self._stored = [[next(numbers) for _ in dimension] for dimension in view.stored]
        self._queue = list(view.order(range(len(view.axes))))

    def reshape(self, shape: Shape) -> View | None:
        axes: list[list[int]] = []
        for size in shape:
            axis = self._take(size)
            if axis is None:
                return None
            axes.append(axis)
        return None if self._queue else self._view(axes)

    def _take(self, size: int) -> list[int] | None:
        taken: list[int] = []
        if size == DYNAMIC:
            return self._take_dynamic()
        while size != 1:
            if not self._queue:
                return None
            factor = self._queue[0]
            available = self._sizes[factor]
            if available == DYNAMIC:
                return None
            if size % available and available % size == 0:
                self._split(factor, size)
                available = size
            if size % available:
                return None
            taken.append(self._queue.pop(0))
            size //= available
        return taken

    def _take_dynamic(self) -> list[int] | None:
        if self._queue and self._sizes[self._queue[0]] == DYNAMIC:
            return [self._queue.pop(0)]
        return None

    def _split(self, factor: int, outer: int) -> None:
        inner = len(self._sizes)
        self._sizes[inner] = self._sizes[factor] // outer
        self._sizes[factor] = outer
        for numbers in (*self._stored, self._queue):
            if factor in numbers:
                numbers.insert(numbers.index(factor) + 1, inner)

    def _view(self, axes: list[list[int]]) -> View:
        """Renumber the factors, merging those that are neighbours both ways."""
        follows = {
            after
            for axis in axes
            for before, after in pairwise(axis)
            if any(
                dimension[place : place + 2] == [before, after]
                for dimension in self._stored
                for place in range(len(dimension) - 1)
            )
        }
        stored: list[list[int]] = []
        numbers: dict[int, int] = {}
        for dimension in self._stored:
            sizes: list[int] = []
            for factor in dimension:
                if factor in follows:
                    sizes[-1] *= self._sizes[factor]
                else:
                    numbers[factor] = len(numbers)
                    sizes.append(self._sizes[factor])
            stored.append(sizes)
        return View(
            tuple(tuple(sizes) for sizes in stored),
            tuple(tuple(numbers[factor] for factor in axis if factor in numbers) for axis in axes),
        )
