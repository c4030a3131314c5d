"""Softmax and its relatives equal ONNX's on every axis and in every opset."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_every_axis(assert_parity: Any, axis: int, opset: int) -> None:
    text = f"""g (float[2,3,4,5] x) =>
        (float[2,3,4,5] s, float[2,3,4,5] l, float[2,3,4,5] h) {{
            s = Softmax <axis = {axis}> (x)  l = LogSoftmax <axis = {axis}> (x)
            h = Hardmax <axis = {axis}> (x) }}"""
    assert_parity(text, opset=opset)


def test_over_channels_between_convolutions_needs_no_transpose(assert_parity: Any) -> None:
    text = """g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[3,2,1,1] w = {1,2,3,4,5,6}, float[2,3,1,1] v = {1,2,3,4,5,6}> {
            a = Conv(x, w)  b = Softmax <axis = 1> (a)  y = Conv(b, v) }"""
    assert assert_parity(text, rtol=1e-4).count("TRANSPOSE") == 0


def test_hardmax_takes_the_first_of_equals(assert_parity: Any) -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { y = Hardmax(x) }"
    parity = assert_parity(text, {"x": [[1, 3, 3, 2]]})
    assert parity.outputs["y"].tolist() == [[0, 1, 0, 0]]


def test_of_many_axes(assert_parity: Any) -> None:
    text = """g (float[2,1,3,2,4] x) => (float[2,1,3,2,4] s, float[2,1,3,2,4] l) {
        s = Softmax(x)  l = LogSoftmax <axis = 2> (x) }"""
    assert_parity(text)
