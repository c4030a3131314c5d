"""Matrix products equal ONNX's in every form."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("a", ["3,4", "4,3"])
@pytest.mark.parametrize("b", ["4,3", "3,4"])
def test_gemm(assert_parity: Any, a: str, b: str) -> None:
    left, right = int(a == "4,3"), int(b == "3,4")
    how = f"alpha = 0.5, beta = 2.0, transA = {left}, transB = {right}"
    biases = {"scalar": "", "row": "3", "column": "3,1", "one_row": "1,3", "full": "3,3"}
    outputs = ", ".join(f"float[3,3] {name}, float[3,3] fixed_{name}" for name in biases)
    values = ",".join(str(0.1 * n) for n in range(12))
    inputs = ", ".join(f"float[{shape}] b_{name}" for name, shape in biases.items())
    inputs = inputs.replace("float[] ", "float ")
    body = " ".join(
        f"{name} = Gemm <{how}> (a, b, b_{name}) fixed_{name} = Gemm <{how}> (a, w, b_{name})"
        for name in biases
    )
    text = f"""g (float[{a}] a, float[{b}] b, {inputs}) => ({outputs})
        <float[{b}] w = {{{values}}}> {{ {body} }}"""
    assert_parity(text)


def test_a_constant_column_is_no_bias_row(assert_parity: Any) -> None:
    text = """g (float[3,2] a) => (float[3,3] y)
        <float[2,3] w = {1,2,3,4,5,6}, float[3,1] c = {10,20,30}> { y = Gemm(a, w, c) }"""
    assert_parity(text)


@pytest.mark.parametrize(
    ("a", "b", "y"),
    [
        ("4", "4", ""),
        ("4", "4,3", "3"),
        ("2,4", "4", "2"),
        ("2,3,4", "4,5", "2,3,5"),
        ("4", "2,4,5", "2,5"),
        ("2,1,3,4", "5,4,2", "2,5,3,2"),
    ],
)
def test_matmul(assert_parity: Any, a: str, b: str, y: str) -> None:
    result = f"float[{y}]" if y else "float"
    assert_parity(f"g (float[{a}] a, float[{b}] b) => ({result} y) {{ y = MatMul(a, b) }}")


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers(assert_parity: Any, dtype: str) -> None:
    text = f"""g ({dtype}[2,3,4] a, {dtype}[4,5] b) => ({dtype}[2,3,5] y) {{ y = MatMul(a, b) }}"""
    assert_parity(text, reference="onnx")


def test_after_a_transpose(assert_parity: Any) -> None:
    text = """g (float[2,3,4] a, float[2,3,5] b) => (float[2,4,5] y) {
        t = Transpose <perm = [0, 2, 1]> (a)  y = MatMul(t, b) }"""
    assert assert_parity(text).count("TRANSPOSE") == 0
