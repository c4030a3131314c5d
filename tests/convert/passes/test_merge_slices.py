"""Slices that together make up a value become one split."""

from __future__ import annotations

from typing import Any

import pytest

SLICES = """g (float[6,4] x) => (float[2,4] a, float[1,4] b, float[3,4] c)
    <int64[1] zero = {0}, int64[1] two = {2}, int64[1] three = {3}, int64[1] end = {100},
     int64[1] axis = {-2}, int64[1] step = {1}>"""


def test_slices_become_one_split(assert_parity: Any) -> None:
    parity = assert_parity(
        SLICES
        + """ { r = Relu(x)
        a = Slice(r, zero, two, axis) c = Slice(r, three, end, axis, step)
        b = Slice(r, two, three, axis) }"""
    )
    assert parity.operators == ("RELU", "SPLIT_V")


def test_unbound_parts_of_attention(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[1,5,24] x) => (float[1,2,5,5] y, float[1,2,5,4] z)
        <int64[5] five = {1, 5, 3, 2, 4}, int64 zero = {0}, int64 one = {1}, int64 two = {-1}> {
        r = Reshape(x, five) t = Transpose<perm = [2, 0, 3, 1, 4]>(r)
        q = Gather(t, zero) k = Gather(t, one) v = Gather(t, two)
        u = Transpose<perm = [0, 1, 3, 2]>(k) y = MatMul(q, u) z = Neg(v) }""")
    assert parity.count("SPLIT") == parity.count("TRANSPOSE") == 1
    assert parity.count("STRIDED_SLICE") == 0


@pytest.mark.parametrize(
    "body",
    [
        "b = Slice(r, two, three, axis) c = Slice(r, two, five, axis)",
        "b = Slice(r, zero, one, axis) c = Slice(r, three, end, axis)",
    ],
)
def test_slices_that_overlap_or_leave_gaps_stay(assert_parity: Any, body: str) -> None:
    text = SLICES.replace("int64[1] step", "int64[1] one = {1}, int64[1] five = {5}, int64[1] step")
    assert (
        assert_parity(f"{text} {{ r = Relu(x) a = Slice(r, zero, two, axis) {body} }}").count(
            "STRIDED_SLICE"
        )
        == 3
    )
