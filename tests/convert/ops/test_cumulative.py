"""Running sums and products, and triangles, equal ONNX's."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["float", "int32", "int64", "int8"])
def test_running(assert_parity: Any, axis: int, dtype: str) -> None:
    forms = [(0, 0), (1, 0), (0, 1), (1, 1)]
    outputs = ", ".join(f"{dtype}[2,5,3] s{n}, {dtype}[2,5,3] p{n}" for n in range(4))
    body = " ".join(
        f"s{n} = CumSum <exclusive = {e}, reverse = {r}> (x, axis) "
        f"p{n} = CumProd <exclusive = {e}, reverse = {r}> (x, axis)"
        for n, (e, r) in enumerate(forms)
    )
    text = f"g ({dtype}[2,5,3] x) => ({outputs}) <int64 axis = {{{axis}}}> {{ {body} }}"
    assert_parity(text, opset=26, reference="onnx", rtol=1e-4)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("dtype", ["float", "int64", "bool"])
def test_triangles(assert_parity: Any, upper: int, dtype: str) -> None:
    text = f"""g ({dtype}[2,3,4] x) => ({dtype}[2,3,4] a, {dtype}[2,3,4] b, {dtype}[2,3,4] c)
        <int64 up = {{1}}, int64 down = {{-1}}> {{
            a = Trilu <upper = {upper}> (x)  b = Trilu <upper = {upper}> (x, up)
            c = Trilu <upper = {upper}> (x, down) }}"""
    assert_parity(text, reference="onnx")
