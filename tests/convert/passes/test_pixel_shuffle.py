"""Pixel shuffles in any form become one operator, and their channel order goes into the weights."""

from __future__ import annotations

from typing import Any

import pytest

SHUFFLE = """g (float[2,8,3,5] x) => (float[2,2,6,10] y)
    <int64[6] split = {{{split}}}, int64[4] merged = {{{merged}}}> {{
    a = Reshape(x, split)  b = Transpose <perm = [{perm}]> (a)  y = Reshape(b, merged) }}"""
UNSHUFFLE = SHUFFLE.replace("x) => (float[2,2,6,10] y)", "x) => (float[2,8,3,5] y)").replace(
    "float[2,8,3,5] x", "float[2,2,6,10] x"
)


@pytest.mark.parametrize(
    ("text", "split", "perm", "merged", "operator"),
    [
        (SHUFFLE, "2, 2, 2, 2, 3, 5", "0, 1, 4, 2, 5, 3", "2, 2, 6, 10", "DEPTH_TO_SPACE"),
        (SHUFFLE, "-1, 2, 2, 2, 3, 5", "0, 3, 4, 1, 5, 2", "-1, 2, 6, 10", "DEPTH_TO_SPACE"),
        (UNSHUFFLE, "0, 2, 3, 2, 5, 2", "0, 1, 3, 5, 2, 4", "0, 8, 3, 5", "SPACE_TO_DEPTH"),
        (UNSHUFFLE, "2, 2, 3, 2, 5, 2", "0, 3, 5, 1, 2, 4", "2, -1, 3, 5", "SPACE_TO_DEPTH"),
    ],
)
def test_written_out(
    assert_parity: Any, text: str, split: str, perm: str, merged: str, operator: str
) -> None:
    parity = assert_parity(text.format(split=split, perm=perm, merged=merged))
    assert parity.count(operator) == 1


def test_others_are_left_alone(assert_parity: Any) -> None:
    other = SHUFFLE.format(split="2, 2, 2, 2, 3, 5", perm="0, 1, 4, 3, 5, 2", merged="2, 2, 6, 10")
    assert assert_parity(other).count("DEPTH_TO_SPACE") == 0


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "LeakyRelu"])
def test_channel_order_goes_into_the_filters(assert_parity: Any, activation: str) -> None:
    weights = ", ".join(str(n % 7 - 3) for n in range(16))
    parity = assert_parity(f"""g (float[1,2,3,4] x) => (float[1,2,6,8] y)
        <float[8,2,1,1] w = {{{weights}}}, float[8] b = {{1, 2, 3, 4, 5, 6, 7, 8}}> {{
        c = Conv(x, w, b)  r = {activation} (c)
        y = DepthToSpace <blocksize = 2, mode = "CRD"> (r) }}""")
    assert parity.count("TRANSPOSE") == parity.count("GATHER") == 0


def test_shared_channels_keep_their_order(assert_parity: Any) -> None:
    weights = ", ".join(str(n % 7 - 3) for n in range(16))
    assert_parity(f"""g (float[1,2,3,4] x) => (float[1,2,6,8] y, float[1,8,3,4] c)
        <float[8,2,1,1] w = {{{weights}}}> {{
        c = Conv(x, w)  y = DepthToSpace <blocksize = 2, mode = "CRD"> (c) }}""")
