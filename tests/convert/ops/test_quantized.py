"""Quantized operators equal ONNX's to the last integer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

X = np.array([[-300, -2.5, -1.5, -0.5], [0.5, 1.5, 2.5, 300]], np.float32)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_quantize_and_dequantize(assert_parity: Any, dtype: str) -> None:
    text = f"""g (float[2,4] x, {dtype}[2,4] q) =>
        ({dtype}[2,4] a, {dtype}[2,4] b, uint8[2,4] c, float[2,4] d, float[2,4] e)
        <float one = {{1.0}}, {dtype} zero = {{3}}, float[4] scales = {{0.5,1,2,0.1}},
         {dtype}[4] zeros = {{0,1,2,3}}> {{
            a = QuantizeLinear(x, one, zero)  b = QuantizeLinear <axis = 1> (x, scales, zeros)
            c = QuantizeLinear(x, one)
            d = DequantizeLinear(q, one, zero)  e = DequantizeLinear <axis = 1> (q, scales, zeros)
        }}"""
    assert_parity(text, {"x": X}, reference="onnx")


def test_per_channel_between_convolutions(assert_parity: Any) -> None:
    text = """g (float[1,2,3,3] x) => (float[1,2,3,3] y)
        <float[2,2,1,1] w = {1,2,3,-4}, float[2] s = {0.1,0.05}, int8[2] z = {3,-7}> {
            a = Conv(x, w)  q = QuantizeLinear <axis = 1> (a, s, z)
            d = DequantizeLinear <axis = 1> (q, s, z)  y = Conv(d, w) }"""
    assert assert_parity(text, rtol=1e-4, atol=1e-4).count("TRANSPOSE") == 0


def test_blocks(assert_parity: Any) -> None:
    text = """g (float[2,4] x, int8[2,4] q) => (int8[2,4] a, float[2,4] b)
        <float[2,2] s = {0.5,1,2,4}, int8[2,2] z = {0,1,2,3}> {
            a = QuantizeLinear <axis = 1, block_size = 2> (x, s, z)
            b = DequantizeLinear <axis = 1, block_size = 2> (q, s, z) }"""
    assert_parity(text, {"x": X / 10}, reference="onnx")


@pytest.mark.parametrize("low", [-3.0, 0.5])
def test_dynamic_quantize(assert_parity: Any, low: float) -> None:
    text = """g (float[3,5] x) => (uint8[3,5] y, float s, uint8 z) {
        y, s, z = DynamicQuantizeLinear(x) }"""
    assert_parity(text, {"x": np.linspace(low, 4.01, 15).reshape(3, 5)})


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integer_products(assert_parity: Any, dtype: str) -> None:
    text = f"""g (uint8[2,3,4] a, {dtype}[4,5] b, {dtype}[1,2,5,5] x) =>
        (int32[2,3,5] m, int32[2,3,5] c, int32[1,3,5,5] v)
        <uint8 za = {{5}}, {dtype} zb = {{3}}, {dtype}[4,5] w = {{{",".join(["1", "2"] * 10)}}},
         {dtype}[3,2,3,3] k = {{{",".join(["1", "2", "7"] * 18)}}}> {{
            m = MatMulInteger(a, b, za, zb)  c = MatMulInteger(a, w, za, zb)
            v = ConvInteger <pads = [1, 1, 1, 1]> (x, k, zb, zb) }}"""
    assert_parity(text, reference="onnx")


def test_quantized_products(assert_parity: Any) -> None:
    kernel = ",".join(["100", "-20", "7"] * 18)
    text = f"""g (int8[2,4] a, int8[4,5] b, int8[1,2,5,5] x) => (int8[2,5] m, int8[1,3,5,5] v)
        <float sa = {{0.1}}, int8 za = {{5}}, float sb = {{0.2}}, int8 zb = {{-3}},
         float sy = {{0.5}}, int8 zy = {{1}}, int8[3,2,3,3] k = {{{kernel}}},
         float[3] sk = {{0.1,0.02,0.3}}, int8[3] zk = {{0,0,0}}, int32[3] bias = {{50,-50,0}}> {{
            m = QLinearMatMul(a, sa, za, b, sb, zb, sy, zy)
            v = QLinearConv <pads = [1, 1, 1, 1]> (x, sa, za, k, sk, zk, sy, zy, bias) }}"""
    assert_parity(text, atol=1.0)  # the runtimes round the product of the scales differently
