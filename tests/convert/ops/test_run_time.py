"""What decides a shape may be computed at run time, where the file states the shape."""

from __future__ import annotations

from typing import Any

import pytest

from edgeconv.core.errors import UnsupportedModel

REDUCTIONS = [
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare",
    "ReduceL1", "ReduceL2", "ReduceLogSumExp",
]  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_axes_of_reductions(assert_parity: Any, reduction: str, keepdims: int) -> None:
    shape = "2,1,4,1" if keepdims else "2,4"
    assert_parity(
        f"""g (float[2,3,4,5] x, int64[2] axes) => (float[{shape}] y) {{
        y = {reduction} <keepdims = {keepdims}> (x, axes) }}""",
        {"axes": [-1, 1]},
    )


def test_the_shape_of_what_is_computed_from_it_counts(assert_parity: Any) -> None:
    assert_parity(
        """g (float[2,3,4] x, int64[1] axes) => (float[2,4] y) {
        s = ReduceSumSquare <keepdims = 0> (x, axes)  y = Sqrt(s) }""",
        {"axes": [1]},
    )


SLICES = [
    ([1, 0], [3, 2], [0, 2], [1, 1], "2,4,2"),
    ([-3, 5], [9223372036854775807, -9223372036854775807], [0, -1], [2, -2], "2,4,3"),
    ([0, 1], [2, 1000], [1, 0], [1, 1], "2,2,6"),
]


@pytest.mark.parametrize(("starts", "ends", "axes", "steps", "shape"), SLICES)
def test_bounds_of_slices(
    assert_parity: Any, starts: Any, ends: Any, axes: Any, steps: Any, shape: str
) -> None:
    assert_parity(
        f"""g (float[3,4,6] x, int64[2] starts, int64[2] ends, int64[2] axes, int64[2] steps) =>
        (float[{shape}] y) {{ y = Slice(x, starts, ends, axes, steps) }}""",
        {"starts": starts, "ends": ends, "axes": axes, "steps": steps},
    )


CASES = [
    ("int64[2] a) => (float[4,6] y) { y = Reshape(x, a) }", [4, 6]),
    ("int64[1] a) => (float[2,1,3,4] y) { y = Unsqueeze(x, a) }", [1]),
    ("int64[3] a) => (float[4,3,8] y) { y = Tile(x, a) }", [2, 1, 2]),
    ("int64[4] a) => (float[5,2,3,4] y) { y = Expand(x, a) }", [5, 2, 3, 4]),
    ("int64[6] a) => (float[3,5,4] y) { y = Pad(x, a) }", [1, 0, 0, 0, 2, 0]),
    ("int64[6] a) => (float[3,5,4] y) { y = Pad <mode = \"reflect\"> (x, a) }", [1, 0, 0, 0, 2, 0]),
    ("int64[2] a) => (float[2,3,1] y, float[2,3,3] z) { y, z = Split <axis = 2> (x, a) }", [1, 3]),
    ("int64[1] a) => (float[2,3,2] y, int64[2,3,2] z) { y, z = TopK(x, a) }", [2]),
    ("int64 a) => (float[2,3,4] y) { y = Trilu <upper = 0> (x, a) }", -1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), CASES)
def test_others(assert_parity: Any, text: str, value: Any) -> None:
    assert_parity(f"g (float[2,3,4] x, {text}", {"a": value})


def test_the_source_layout_is_kept(assert_parity: Any) -> None:
    assert_parity(
        """g (float[1,3,4,5] x, int64[1] axes, int64[4] starts, int64[4] ends) =>
        (float[1,2,4,1] y, float[1,1,2,3] z) <float[2,3,1,1] k = {1, 2, 3, 4, 5, 6}> {
        c = Conv(x, k)  y = ReduceMax(c, axes)  z = Slice(c, starts, ends) }""",
        {"axes": [3], "starts": [0, 1, 1, 2], "ends": [1, 2, 3, 5]},
    )


def test_an_open_result_is_refused(assert_parity: Any) -> None:
    with pytest.raises(UnsupportedModel, match="axes is computed at run time"):
        assert_parity(
            """g (float[2,3] x, int64[1] axes) => (float[a,b] y) { y = ReduceSum(x, axes) }""",
            {"axes": [1]},
        )
