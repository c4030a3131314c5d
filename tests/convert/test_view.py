"""The view of a tensor is checked against numpy doing the same moves for real."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.convert.translate.view import DYNAMIC, View


def materialise(array: np.ndarray[Any, Any], view: View) -> np.ndarray[Any, Any]:
    """Build the logical array that the view promises, by brute force."""
    factors = array.reshape(view.sizes)
    return factors.transpose(view.order(range(len(view.axes)))).reshape(view.shape)


def move(array: np.ndarray[Any, Any], view: View, permutation: tuple[int, ...]) -> Any:
    movement = view.movement(permutation)
    return array.reshape(movement.split).transpose(movement.permutation).reshape(movement.shape)


@st.composite
def programs(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[str, tuple[int, ...]]]]:
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)))
    steps: list[tuple[str, tuple[int, ...]]] = []
    current = list(shape)
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            order = tuple(draw(st.permutations(range(len(current)))))
            steps.append(("transpose", order))
            current = [current[axis] for axis in order]
        else:
            left = math.prod(current)
            new: list[int] = []
            while left > 1 and len(new) < 4:
                size = draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
                new.append(size)
                left //= size
            new.append(left)
            steps.append(("reshape", tuple(new)))
            current = new
    return shape, steps


@settings(deadline=None, max_examples=300)
@given(programs(), st.data())
def test_moves_are_exact(
    program: tuple[tuple[int, ...], list[tuple[str, tuple[int, ...]]]], data: st.DataObject
) -> None:
    shape, steps = program
    stored = np.arange(math.prod(shape)).reshape(shape)
    logical = stored
    view = View.of(shape)
    for kind, argument in steps:
        if kind == "transpose":
            logical, view = logical.transpose(argument), view.transpose(argument)
        else:
            logical = logical.reshape(argument)
            regrouped = view.reshape(argument)
            if regrouped is None:
                stored = materialise(stored, view).reshape(argument)
                regrouped = View.of(argument)
            view = regrouped
        assert view.shape == logical.shape
        assert view.stored_shape == stored.shape
        np.testing.assert_array_equal(materialise(stored, view), logical)
    order = tuple(data.draw(st.permutations(range(logical.ndim))))
    np.testing.assert_array_equal(move(stored, view, order), logical.transpose(order))
    moved = stored
    for step in view.movement(order).steps(rank=4):
        assert len(step.permutation) <= 4
        moved = moved.reshape(step.split).transpose(step.permutation)
    np.testing.assert_array_equal(moved.reshape([logical.shape[a] for a in order]),
                                  logical.transpose(order))  # fmt: skip
    natural = view.natural_permutation()
    if natural is not None:
        assert not view.movement(natural).moves
    for axis in range(logical.ndim):
        loose = view.sort_axes([axis])
        expected = np.take(logical, view.axis_elements(axis), axis)
        np.testing.assert_array_equal(materialise(stored, loose), expected)


def test_flatten_of_channels_last_moves_nothing_and_tells_the_order() -> None:
    view = View.of((1, 2, 3, 4), (0, 2, 3, 1)).reshape((1, 24))
    assert view is not None
    logical = np.arange(24).reshape(1, 4, 2, 3)
    expected = logical.transpose(0, 2, 3, 1).ravel()
    np.testing.assert_array_equal(view.axis_elements(1), expected)
    assert not view.sort_axes([1]).movement((0, 1)).moves


def test_merging_spatial_axes_keeps_channels_last() -> None:
    view = View.of((1, 5, 7, 3), (0, 2, 3, 1)).reshape((1, 3, 35))
    assert view is not None
    assert view.natural_permutation() == (0, 2, 1)


def test_reshape_back_restores_the_view() -> None:
    view = View.of((1, 4, 6), None)
    there = view.reshape((2, 2, 6))
    assert there is not None
    assert there.reshape((1, 4, 6)) == view


def test_a_reshape_across_factors_is_refused() -> None:
    assert View.of((4, 6), (1, 0)).reshape((8, 3)) is None


def test_a_dynamic_axis_passes_through() -> None:
    view = View.of((DYNAMIC, 8, 8, 3), (0, 2, 3, 1)).reshape((DYNAMIC, 192))
    assert view is not None
    assert view.shape == (DYNAMIC, 192)
    assert View.of((DYNAMIC, 6)).reshape((6, DYNAMIC)) is None


@settings(deadline=None, max_examples=200)
@given(programs(), st.data())
def test_reductions_and_rows_are_exact(
    program: tuple[tuple[int, ...], list[tuple[str, tuple[int, ...]]]], data: st.DataObject
) -> None:
    shape, steps = program
    stored, view = np.arange(math.prod(shape)).reshape(shape), View.of(shape)
    for kind, argument in steps:
        after = view.transpose(argument) if kind == "transpose" else view.reshape(argument)
        if after is None:
            break
        view = after
    logical = materialise(stored, view)
    axes = sorted(data.draw(st.sets(st.integers(0, logical.ndim - 1))))
    keepdims = data.draw(st.booleans())
    dimensions = view.dimensions(axes)
    if dimensions is not None:
        found = stored.sum(axis=dimensions, keepdims=keepdims)
        left = view.reduce(axes, keepdims=keepdims)
        expected = logical.sum(axis=tuple(axes), keepdims=keepdims)
        assert left.stored_shape == found.shape
        np.testing.assert_array_equal(materialise(found, left), expected)
    rows = view.as_rows()
    if rows is not None:
        weights = np.arange(logical.shape[-1] * 5).reshape(-1, 5)
        order = view.axis_elements(logical.ndim - 1)
        found = stored.reshape(rows.stored_shape) @ weights[order]
        left = rows.with_last(5)
        assert left.stored_shape == found.shape
        np.testing.assert_array_equal(materialise(found, left), logical @ weights)
