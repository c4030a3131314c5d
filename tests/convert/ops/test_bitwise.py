"""Bit operations equal ONNX's for every pattern of bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest


def patterns(dtype: str, count: int) -> np.ndarray[Any, Any]:
    limits = np.iinfo(dtype)
    drawn = np.random.default_rng(0).integers(limits.min, limits.max, count, dtype, endpoint=True)
    drawn[:4] = limits.min, limits.max, 0, np.array(-1).astype(dtype)
    return drawn


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_logic(assert_parity: Any, dtype: str) -> None:
    text = f"""g ({dtype}[64] x, {dtype}[64] z) =>
        ({dtype}[64] a, {dtype}[64] o, {dtype}[64] e, {dtype}[64] n) {{
            a = BitwiseAnd(x, z) o = BitwiseOr(x, z) e = BitwiseXor(x, z) n = BitwiseNot(x) }}"""
    feeds = {"x": patterns(dtype, 64), "z": patterns(dtype, 64)[::-1]}
    assert_parity(text, feeds, reference="onnx")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_logic_with_a_constant_of_no_axes(assert_parity: Any, dtype: str) -> None:
    """``x & 15``, as PyTorch exports it."""
    text = f"""g ({dtype}[64] x) => ({dtype}[64] a, {dtype}[64] o, {dtype}[64] e) {{
            c = Constant <value_int = 15> ()
            m = Cast <to = {onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}> (c)
            a = BitwiseAnd(x, m) o = BitwiseOr(m, x) e = BitwiseXor(x, m) }}"""
    assert_parity(text, {"x": patterns(dtype, 64)}, reference="onnx")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_shifts(assert_parity: Any, dtype: str) -> None:
    bits = np.iinfo(dtype).bits
    amounts = np.resize(np.array([0, 1, 3, bits - 1, bits, bits + 3]), 64)
    if np.iinfo(dtype).min < 0:
        amounts[::11] = -1
    text = f"""g ({dtype}[64] x, {dtype}[64] n) => ({dtype}[64] l, {dtype}[64] r) {{
        l = BitShift <direction = "LEFT"> (x, n)  r = BitShift <direction = "RIGHT"> (x, n) }}"""
    values = patterns(dtype, 64)
    if dtype == "int64":
        values //= 2  # the lowest int64 has no magnitude
    assert_parity(text, {"x": values, "n": amounts}, opset=28, reference="onnx")
