"""Elementwise operators equal ONNX's, in every dtype and layout."""

from __future__ import annotations

from typing import Any

import pytest

UNARY = ["Abs", "Neg", "Exp", "Sin", "Cos", "Floor", "Ceil", "Round", "Sign", "Reciprocal"]


@pytest.mark.parametrize("op", UNARY)
def test_float_functions(assert_parity: Any, op: str) -> None:
    assert_parity(f"g (float[2,3,4] x) => (float[2,3,4] y) {{ y = {op}(x) }}")
