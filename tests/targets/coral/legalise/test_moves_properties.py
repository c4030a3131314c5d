"""Rewrites that only move values, on shapes and orders of all kinds: exactly equal results."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.core.artifacts import Artifact
from edgeconv.targets.coral.legalise.engine import legalise
from edgeconv.targets.coral.legalise.moves import canonical, rotations
from tests.quantize.conftest import Lab

_FEW = settings(max_examples=40, deadline=None)


def _unchanged(build: Any, *shape: int) -> list[str]:
    """Require equal results of a model of one input; return the rewrites that were applied."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        model = lab.model()
        before = lab.save(model, build(model, model.input(*shape)))
        answer = legalise(before.to_dict(), str(Path(folder) / "legal.tflite"))
        rows = [[np.arange(np.prod(shape), dtype=np.float32).reshape(shape)]]
        after = Artifact.from_dict(answer["artifact"])
        np.testing.assert_array_equal(lab.run(after.path, rows)[0], lab.run(before.path, rows)[0])
    return [entry["name"] for entry in answer["applied"]]


@st.composite
def _transposes(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    shape = draw(st.lists(st.integers(1, 5), min_size=2, max_size=5))
    if len(shape) == 4:
        shape[0] = 1
    return shape, draw(st.permutations(range(len(shape))))


@_FEW
@given(_transposes())
def test_transposes_move_every_value_where_it_went(case: tuple[list[int], list[int]]) -> None:
    shape, order = case
    version = 4 if len(shape) > 4 else 1
    sizes, moved = canonical(shape, order)
    values = np.arange(np.prod(shape)).reshape(shape)
    flat = values.reshape(sizes).transpose(moved) if sizes else values
    np.testing.assert_array_equal(flat.ravel(), values.transpose(order).ravel())
    _unchanged(
        lambda m, x: m.op("TRANSPOSE", x, m.constant(order, "int32"), version=version), *shape
    )


@_FEW
@given(st.permutations(range(5)))
def test_swaps_of_blocks_at_the_front_reach_any_order(order: list[int]) -> None:
    axes = list(range(6))
    swaps = rotations([*order, 5])
    for first, second in swaps:
        axes = [*axes[first : first + second], *axes[:first], *axes[first + second :]]
    assert axes == [*order, 5]
    assert len(swaps) <= 4


@_FEW
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=9),
    st.sampled_from([(7, 3), (1, 7, 2), (1, 2, 7, 3)]),
)
def test_gathers_pick_what_they_picked(chosen: list[int], shape: tuple[int, ...]) -> None:
    axis = shape.index(7)
    _unchanged(lambda m, x: m.op("GATHER", x, m.constant(chosen, "int32"), axis=axis), *shape)


@st.composite
def _slices(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], list[int]]:
    shape = [1, draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 4))]
    begin = [0, *(draw(st.integers(0, size - 1)) for size in shape[1:])]
    end = [1, *(draw(st.integers(b + 1, s)) for b, s in zip(begin[1:], shape[1:], strict=True))]
    return shape, begin, end, [1, draw(st.integers(1, 4)), draw(st.integers(1, 4)), 1]


@_FEW
@given(_slices())
def test_stepped_slices_take_what_they_took(case: tuple[list[int], ...]) -> None:
    shape, *operands = case
    applied = _unchanged(
        lambda m, x: m.op("STRIDED_SLICE", x, *(m.constant(v, "int32") for v in operands)), *shape
    )
    assert ("stepped-slice" in applied) == (operands[2] != [1, 1, 1, 1])


@_FEW
@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 4), st.integers(1, 3), st.booleans())
def test_pixels_are_shuffled_and_repeated_alike(
    height: int, width: int, block: int, channels: int, half_pixel: bool
) -> None:
    shape = (1, height, width, block * block * channels)
    _unchanged(lambda m, x: m.op("DEPTH_TO_SPACE", x, blockSize=block), *shape)
    size = [height * block, width * (block + 1)]
    options = {"halfPixelCenters": half_pixel, "version": 3}
    _unchanged(
        lambda m, x: m.op("RESIZE_NEAREST_NEIGHBOR", x, m.constant(size, "int32"), **options),
        *shape,
    )
