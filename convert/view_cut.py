"""Cut a value along an axis that is the outer part of a stored dimension, without reshaping it."""

from __future__ import annotations

from dataclasses import dataclass

from edgeconv.convert.view import DYNAMIC, View, product


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
