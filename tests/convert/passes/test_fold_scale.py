"""Factors are joined, and go where they cost least."""

from __future__ import annotations

from typing import Any

import pytest


def test_factors_in_a_row_become_one(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[1,3,4] x) => (float[1,3,4] y)
        <float a = {2.0}, float[1] b = {0.25}> { r = Relu(x) s = Mul(r, a) y = Div(s, b) }""")
    assert parity.operators == ("RELU", "MUL")


def test_attention_scales_its_queries_only(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[1,2,5,4] q, float[1,2,6,4] k) => (float[1,2,5,6] y)
        <float s = {0.7}> {
        a = Mul(q, s) t = Transpose<perm = [0, 1, 3, 2]>(k) b = Mul(t, s) y = MatMul(a, b) }""")
    assert parity.operators == ("MUL", "BATCH_MATMUL")


LINEAR = """g (float[1,5,4] x) => (float[1,2,5,2] y)
    <float[4,4] w = {1., 2., 0., 1., 3., 1., 2., 0., 1., 1., 1., 2., 0., 2., 1., 4.},
     float[4] b = {1., 2., 3., 4.}, int64[4] heads = {1, 5, 2, 2}, float s = {0.5}>"""


@pytest.mark.parametrize(
    "layer",
    ["m = MatMul(x, w) a = Add(m, b)", "m = MatMul(x, w) a = Add(b, m)", "a = MatMul(x, w)"],
)
def test_a_factor_goes_into_the_weights(assert_parity: Any, layer: str) -> None:
    parity = assert_parity(f"""{LINEAR} {{ {layer} r = Reshape(a, heads)
        t = Transpose<perm = [0, 2, 1, 3]>(r) y = Mul(t, s) }}""")
    assert parity.count("FULLY_CONNECTED") == 1
    assert parity.count("MUL") == 0


@pytest.mark.parametrize(
    "body",
    [
        "m = MatMul(x, w) r = Reshape(m, heads) y = Mul(r, s) z = Neg(m)",
        "m = MatMul(x, w) r = Reshape(m, heads) y = Mul(r, s) v = MatMul(x, w) z = Neg(v)",
        """m = MatMul(x, w) a, c = Split<axis = -1, num_outputs = 2>(m) t = Mul(a, s)
        v = Concat<axis = -1>(t, c) y = Reshape(v, heads) z = Neg(v)""",
    ],
)
def test_where_others_read_the_layer_or_its_weights_nothing_changes(
    assert_parity: Any, body: str
) -> None:
    text = LINEAR.replace("(float[1,2,5,2] y)", "(float[1,5,2,2] y, float[1,5,4] z)")
    parity = assert_parity(f"{text} {{ {body} }}")
    assert parity.count("MUL") >= 1 or parity.count("FULLY_CONNECTED") == 2


def test_a_convolution_takes_a_factor(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[1,2,4,4] x) => (float[1,1,4,4] y)
        <float[1,2,1,1] w = {1.5, 2.0}, float[1] b = {1.0}, float s = {0.5}> {
        c = Conv(x, w, b) y = Mul(s, c) }""")
    assert parity.operators == ("CONV_2D",)


def test_the_smaller_operand_is_scaled(assert_parity: Any) -> None:
    """Branches of networks without normalisation: gated by channel, then scaled twice."""
    parity = assert_parity("""g (float[1,3,8,8] x, float[1,3,1,1] e) => (float[1,3,8,8] y)
        <float a = {2.0}, float b = {0.2}> {
        p = Mul(x, e) s = Mul(p, a) t = Mul(s, b) y = Add(t, x) }""")
    assert parity.count("MUL") == 2
