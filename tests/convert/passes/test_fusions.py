"""Activations and normalisations written out in primitives become one operator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

SQRT_2, SLOPE = math.sqrt(2), math.sqrt(2 / math.pi)
X = np.linspace(-6, 6, 24)


def graph(body: str, constants: dict[str, float]) -> str:
    values = ", ".join(f"float {name} = {{{value!r}}}" for name, value in constants.items())
    return f"g (float[24] x) => (float[24] y) <{values}> {{ {body} }}"


GELU_ERF = [
    "d = Div(x, r) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
    "d = Mul(s, x) e = Erf(d) a = Add(one, e) h = Mul(half, x) y = Mul(h, a)",
    "d = Div(x, r) e = Erf(d) a = Add(e, one) h = Mul(a, half) y = Mul(x, h)",
    "d = Div(x, r) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Div(m, two)",
]


@pytest.mark.parametrize("body", GELU_ERF)
def test_gelu_by_erf(assert_parity: Any, body: str) -> None:
    constants = {"r": SQRT_2, "s": 1 / SQRT_2, "one": 1.0, "half": 0.5, "two": 2.0}
    parity = assert_parity(graph(body, constants), {"x": X}, opset=17, atol=2e-6)
    assert parity.operators == ("GELU",)


GELU_TANH = [
    """p = Pow(x, three) c = Mul(p, k) t = Add(x, c) u = Mul(t, s) h = Tanh(u) a = Add(h, one)
    m = Mul(x, a) y = Mul(m, half)""",
    """q = Mul(x, x) p = Mul(q, x) c = Mul(k, p) t = Add(c, x) u = Mul(s, t) h = Tanh(u)
    a = Add(one, h) m = Mul(half, x) y = Mul(m, a)""",
]


@pytest.mark.parametrize("body", GELU_TANH)
def test_gelu_by_tanh(assert_parity: Any, body: str) -> None:
    constants = {"k": 0.044715, "s": SLOPE, "one": 1.0, "half": 0.5, "three": 3.0}
    parity = assert_parity(graph(body, constants), {"x": X}, opset=17, atol=2e-6)
    assert parity.operators == ("GELU",)


def test_gelu_of_a_product(assert_parity: Any) -> None:
    body = "p = Mul(x, k) d = Div(p, r) e = Erf(d) a = Add(e, one) m = Mul(p, a) y = Mul(m, half)"
    constants = {"k": 1.5, "r": SQRT_2, "one": 1.0, "half": 0.5}
    parity = assert_parity(graph(body, constants), {"x": X}, opset=17, atol=2e-6)
    assert parity.operators == ("MUL", "GELU")


@pytest.mark.parametrize("change", [{"r": 1.5}, {"half": 0.4}, {"one": 1.1}])
def test_what_is_nearly_a_gelu_is_left_alone(assert_parity: Any, change: dict[str, float]) -> None:
    constants = {"r": SQRT_2, "one": 1.0, "half": 0.5} | change
    parity = assert_parity(graph(GELU_ERF[0], constants), {"x": X}, opset=17, atol=2e-6)
    assert "GELU" not in parity.operators


@pytest.mark.parametrize(
    "body",
    [
        "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, six) d = Div(c, six) y = Mul(x, d)",
        "a = Add(three, x) c = Clip(a, zero, six) d = Mul(c, sixth) y = Mul(d, x)",
        "h = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) y = Mul(x, h)",
    ],
)
def test_hard_swish(assert_parity: Any, body: str) -> None:
    constants = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6}
    parity = assert_parity(graph(body, constants), {"x": X}, opset=13, atol=2e-6)
    assert parity.operators == ("HARD_SWISH",)


def test_l2_normalize_over_channels(assert_parity: Any) -> None:
    text = """g (float[1,3,4,4] x) => (float[1,2,4,4] y)
        <float[2,3,1,1] w = {1,2,3,4,5,6}, int64[1] axes = {1}, float tiny = {1e-12},
         int64[4] shape = {1,2,4,4}> {
            c = Conv(x, w)  n = ReduceL2(c, axes)  k = Clip(n, tiny)  e = Expand(k, shape)
            y = Div(c, e) }"""
    parity = assert_parity(text, opset=18, rtol=1e-4)
    assert parity.count("L2_NORMALIZATION") == 1
    assert parity.count("TRANSPOSE") == 0


def test_a_norm_with_a_large_bound_is_left_alone(assert_parity: Any) -> None:
    text = """g (float[2,3] x) => (float[2,3] y) <int64[1] axes = {1}, float bound = {0.5}> {
        n = ReduceL2(x, axes)  k = Clip(n, bound)  y = Div(x, k) }"""
    assert assert_parity(text, opset=18).count("L2_NORMALIZATION") == 0
