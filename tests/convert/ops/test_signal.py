"""Fourier transforms equal ONNX's."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("length", [4, 5, 8])
def test_forward_and_back(assert_any_layout: Any, parts: int, axis: int, length: int) -> None:
    sided = ", onesided = 1" if parts == 1 else ""
    text = f"""g (float[3,5,6,{parts}] x) => (float[a,b,c,2] y, float[d,e,f,2] z)
        <int64 n = {{{length}}}, int64 axis = {{{axis}}}> {{
        y = DFT <inverse = 0{sided}> (x, n, axis)  z = DFT <inverse = 1> (x, n, axis) }}"""
    if parts == 1:
        text = text.replace(", float[d,e,f,2] z", "").replace(
            "z = DFT <inverse = 1> (x, n, axis)", ""
        )
    assert_any_layout(text, opset=20, reference="onnx", rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [6, 7])
def test_real_inverse_of_half_a_spectrum(assert_any_layout: Any, length: int) -> None:
    text = f"""g (float[2,4,2] x) => (float[2,{length},1] y) <int64 n = {{{length}}}> {{
        y = DFT <inverse = 1, onesided = 1> (x, n) }}"""
    assert_any_layout(text, opset=20, reference="onnx", rtol=1e-4, atol=1e-5)


def test_short_time_transform_is_one_convolution(assert_parity: Any) -> None:
    text = """g (float[2,64,1] x) => (float[2,13,9,2] y)
        <int64 step = {4}, float[16] w = {1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1},
         int64 length = {16}> { y = STFT(x, step, w, length) }"""
    parity = assert_parity(text, rtol=1e-4, atol=1e-3)
    assert parity.count("CONV_2D") == 1


def test_transform_in_tflite(assert_parity: Any) -> None:
    text = "g (float[2,6,1] x) => (float[2,4,2] y) { y = DFT <onesided = 1> (x) }"
    parity = assert_parity(text, opset=20, reference="onnx", rtol=1e-4, atol=1e-5)
    assert parity.count("FULLY_CONNECTED") == 1
