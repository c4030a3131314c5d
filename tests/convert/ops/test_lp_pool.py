"""Lp pools equal ONNX's."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("p", [1, 2, 3])
def test_between_convolutions(assert_parity: Any, p: int) -> None:
    text = f"""g (float[1,2,6,6] x) => (float[1,2,3,3] y, float[1,2,1,1] z)
        <float[2,2,1,1] w = {{1,2,3,-4}}> {{
            a = Conv(x, w)
            b = LpPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 0, 0], p = {p}> (a)
            y = Conv(b, w)  z = GlobalLpPool <p = {p}> (a) }}"""
    assert assert_parity(text, rtol=1e-4, atol=1e-5).count("TRANSPOSE") == 0


def test_partial_windows_sum_what_there_is(assert_parity: Any) -> None:
    text = """g (float[1,1,5,5] x) => (float[1,1,2,2] y) {
        y = LpPool <kernel_shape = [4, 4], strides = [2, 2], ceil_mode = 1, p = 1> (x) }"""
    assert_parity(text, opset=18)
