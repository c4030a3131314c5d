"""Comparisons and logic equal ONNX's in every dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

NAMES = ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"]


@pytest.mark.parametrize("dtype", ["float", "int8", "uint8", "int32", "int64"])
def test_comparisons(assert_parity: Any, dtype: str) -> None:
    outputs = ", ".join(f"bool[2,6] y{n}" for n in range(len(NAMES)))
    body = " ".join(f"y{n} = {name}(a, b)" for n, name in enumerate(NAMES))
    text = f"g ({dtype}[2,6] a, {dtype}[6] b) => ({outputs}) {{ {body} }}"
    feeds = {"a": [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]], "b": [0, 1, 2, 2, 2, 2]}
    assert_parity(text, feeds, reference="onnx")


def test_logic(assert_parity: Any) -> None:
    text = """g (bool[4] a, bool[4] b) => (bool[4] p, bool[4] q, bool[4] r, bool[4] s, bool[4] t)
        { p = And(a, b) q = Or(a, b) r = Xor(a, b) s = Not(a) t = Equal(a, b) }"""
    feeds = {"a": [False, False, True, True], "b": [False, True, False, True]}
    assert_parity(text, feeds)


def test_infinities_and_nan(assert_parity: Any) -> None:
    text = """g (float[6] x) =>
        (bool[6] n, bool[6] both, bool[6] above, bool[6] below, bool[6] no) {
        n = IsNaN(x)  both = IsInf(x)
        above = IsInf <detect_negative = 0> (x)  below = IsInf <detect_positive = 0> (x)
        no = IsInf <detect_negative = 0, detect_positive = 0> (x) }"""
    assert_parity(text, {"x": [0, np.inf, -np.inf, np.nan, 3e38, -3e38]}, reference="onnx")
