"""Activations equal ONNX's and become the TFLite operators meant for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

X = np.array([-60.0, -9.0, -3.1, -1.0, -0.5, -1e-4, 0.0, 1e-4, 0.5, 1.0, 2.9, 25.0], np.float32)


def graph(*nodes: str) -> str:
    outputs = ", ".join(f"float[12] y{n}" for n in range(len(nodes)))
    body = " ".join(f"y{n} = {node}" for n, node in enumerate(nodes))
    return f"g (float[12] x) => ({outputs}) {{ {body} }}"


def test_opset_6_functions(assert_parity: Any) -> None:
    nodes = [
        "Relu(x)", "Sigmoid(x)", "Tanh(x)", "Softplus(x)", "Softsign(x)", "LeakyRelu(x)",
        "LeakyRelu <alpha = 1.5> (x)", "Elu(x)", "Elu <alpha = 2.0> (x)", "Celu(x)",
        "Celu <alpha = 3.0> (x)", "Selu(x)", "Selu <alpha = 2.0, gamma = 0.5> (x)",
        "HardSigmoid(x)", "HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)", "HardSwish(x)",
        "ThresholdedRelu(x)", "ThresholdedRelu <alpha = -0.7> (x)", "Shrink(x)",
        "Shrink <lambd = 0.5, bias = 0.5> (x)", "Mish(x)",
    ]  # fmt: skip
    assert_parity(graph(*nodes), {"x": X}, atol=2e-6)


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu_is_one_operator(assert_parity: Any, form: str) -> None:
    parity = assert_parity(graph(f'Gelu <approximate = "{form}"> (x)'), {"x": X})
    assert parity.operators == ("GELU",)


def test_swish_and_swiglu(assert_parity: Any) -> None:
    nodes = ["Swish(x)", "Swish <alpha = 1.7> (x)", "SwiGLU(x, x)", "SwiGLU <alpha = 0.5> (x, x)"]
    assert_parity(graph(*nodes), {"x": X}, opset=28, reference="onnx", atol=2e-6)


def test_silu_stays_two_operators(assert_parity: Any) -> None:
    parity = assert_parity("g (float[12] x) => (float[12] y) { s = Sigmoid(x) y = Mul(x, s) }")
    assert parity.operators == ("LOGISTIC", "MUL")


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_of_integers(assert_parity: Any, dtype: str) -> None:
    text = f"""g ({dtype}[2,3] x) => ({dtype}[2,3] r, {dtype}[2,3] c, {dtype}[2,3] s)
        <{dtype} low = {{-3}}, {dtype} high = {{4}}> {{
            r = Relu(x) c = Clip(x, low, high) s = Shrink <lambd = 2.0, bias = 1.0> (x) }}"""
    assert_parity(text, reference="onnx")


def test_clip_forms(assert_parity: Any) -> None:
    text = """g (float[12] x, float lo, float hi) =>
        (float[12] a, float[12] b, float[12] c, float[12] d, float[12] e, float[12] f)
        <float zero = {0.0}, float six = {6.0}, float big = {3.4028235e38}> {
            a = Clip(x, lo, hi)  b = Clip(x, lo)  c = Clip(x, , hi)
            d = Clip(x, zero, six)  e = Clip(x, zero, big)  f = Clip(x, lo, six) }"""
    assert_parity(text, {"x": X, "lo": -2.0, "hi": 1.5})


def test_clip_with_crossed_bounds_gives_the_upper_one(assert_parity: Any) -> None:
    text = "g (float[12] x, float lo, float hi) => (float[12] y) { y = Clip(x, lo, hi) }"
    parity = assert_parity(text, {"x": X, "lo": 2.0, "hi": 1.0}, reference="onnx")
    assert set(parity.outputs["y"].tolist()) == {1.0}


@pytest.mark.parametrize("shape", ["[4,1,1]", "[1]", "[5]", "[1,4,1,1]", "[4,5,5]"])
def test_prelu_after_a_convolution(assert_parity: Any, shape: str) -> None:
    from math import prod

    count = prod(int(size) for size in shape[1:-1].split(","))
    values = ",".join(str(0.1 * n - 0.2) for n in range(count))
    text = f"""g (float[1,3,5,5] x) => (float[1,4,5,5] y)
        <float[4,3,1,1] w = {{1,2,3,4,5,6,7,8,9,-1,-2,-3}}, float{shape} s = {{{values}}}> {{
            c = Conv(x, w) y = PRelu(c, s) }}"""
    parity = assert_parity(text, rtol=1e-4, atol=1e-5)
    assert parity.count("TRANSPOSE") == 0
