"""How axes lie within stored dimensions, for operators that need not have one for each axis."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from edgeconv.convert.translate.view import DYNAMIC, View, product


@dataclass(frozen=True, slots=True)
class Cut:
    """How an axis lies in a stored dimension.

    Attributes:
        dimension: The stored dimension.
        inner: How many of its elements belong to each index of the axis.
    """

    dimension: int
    inner: int


def cut_of(view: View, axis: int) -> Cut | None:
    """Return how an axis is cut, or None where it is not the outer part of a stored dimension."""
    factors = view.axes[axis]
    number = 0
    for place, dimension in enumerate(view.stored):
        expected = tuple(range(number, number + len(factors)))
        if factors and factors == expected and len(factors) <= len(dimension):
            inner = product(dimension[len(factors) :])
            return None if DYNAMIC in dimension else Cut(place, inner)
        number += len(dimension)
    return None


def resized(view: View, axis: int, size: int) -> View:
    """Return the view after an axis that `cut_of` knows was cut to another size."""
    factors = view.axes[axis]
    first, count = factors[0], len(factors)
    kept = 0 if size == 1 else 1
    stored = []
    number = 0
    for dimension in view.stored:
        held = number <= first < number + len(dimension)
        stored.append((*(size,) * kept, *dimension[count:]) if held else dimension)
        number += len(dimension)

    def renumbered(factor: int) -> int:
        return factor if factor < first else factor - count + kept

    axes = tuple(
        (first,) * kept if place == axis else tuple(map(renumbered, other))
        for place, other in enumerate(view.axes)
    )
    return View(tuple(stored), axes)


def separated(view: View) -> View:
    """Return the view of the tensor reshaped so that no dimension belongs to two axes.

    Nothing moves; an axis may have several dimensions then.
    """
    follows = {
        after for axis in view.axes for before, after in pairwise(axis) if after == before + 1
    }
    stored: list[list[int]] = []
    for factor, size in enumerate(view.sizes):
        if factor in follows:
            stored[-1].append(size)
        else:
            stored.append([size])
    return View(tuple(map(tuple, stored)), view.axes)
