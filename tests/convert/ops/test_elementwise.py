"""Elementwise arithmetic equals ONNX's, in every dtype and layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

INTEGERS = ["int8", "uint8", "int32", "int64"]


def one_node_each(nodes: list[str], dtype: str, result: str = "", shape: str = "2,3,4") -> str:
    """Return a graph that applies each node text, ``Add(a, b)``, to inputs a and b."""
    outputs = ", ".join(f"{result or dtype}[{shape}] y{n}" for n in range(len(nodes)))
    body = " ".join(f"y{n} = {node}" for n, node in enumerate(nodes))
    return f"g ({dtype}[{shape}] a, {dtype}[{shape}] b) => ({outputs}) {{ {body} }}"


def test_float_functions(assert_parity: Any) -> None:
    names = ["Abs", "Neg", "Exp", "Floor", "Ceil", "Sign", "Reciprocal"]
    nodes = [f"{name}(a)" for name in names]
    nodes += [f"{name}(a, b)" for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")]
    assert_parity(one_node_each(nodes, "float"))


def test_round_takes_halves_to_even(assert_parity: Any) -> None:
    values = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, 3.6]
    assert_parity("g (float[8] x) => (float[8] y) { y = Round(x) }", {"x": values})


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_arithmetic_wraps_and_truncates(assert_parity: Any, dtype: str) -> None:
    nodes = [f"{name}(a, b)" for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mod")]
    nodes += ["Mod <fmod = 1> (a, b)", "Abs(a)", "Sign(a)"]
    limits = np.iinfo(dtype)
    random = np.random.default_rng(1)
    a = random.integers(limits.min // 2, limits.max // 2, (2, 3, 4), dtype)
    b = random.integers(1, 50, (2, 3, 4)).astype(dtype)
    if limits.min < 0:
        b[0] *= -1
    assert_parity(one_node_each(nodes, dtype), {"a": a, "b": b}, reference="onnx", opset=20)


def test_division_of_large_int64_is_exact(assert_parity: Any) -> None:
    a = np.array([2**62 + 12345, -(2**61) - 7, 999999999999999999, -1, 0, 2**53 + 1])
    b = np.array([3, 7, -1000003, 2**40, 5, 2**53])
    parity = assert_parity(
        "g (int64[6] a, int64[6] b) => (int64[6] y) { y = Div(a, b) }", {"a": a, "b": b}
    )
    quotients = [int(abs(x) // abs(y)) for x, y in zip(a, b, strict=True)]
    assert np.abs(parity.outputs["y"]).tolist() == quotients


@given(
    st.lists(
        st.tuples(st.integers(-(2**62), 2**62), st.integers(1, 2**62), st.booleans()),
        min_size=4,
        max_size=4,
    )
)
@settings(deadline=None, max_examples=60)
def test_long_division(pairs: list[tuple[int, int, bool]]) -> None:
    import tensorflow as tf

    from edgeconv.convert.ops.integer import divide_int64

    divisors = [-b if negative else b for _, b, negative in pairs]
    dividends = [a for a, _, _ in pairs]
    found = divide_int64(tf.constant(dividends, tf.int64), tf.constant(divisors, tf.int64))
    expected = [
        abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1)
        for a, b in zip(dividends, divisors, strict=True)
    ]
    assert found.numpy().tolist() == expected


def test_fmod_of_floats(assert_parity: Any) -> None:
    a = [5.3, -5.3, 5.3, -5.3, 1e6, 0.0]
    b = [2.1, 2.1, -2.1, -2.1, 0.7, 3.0]
    text = "g (float[6] a, float[6] b) => (float[6] y) { y = Mod <fmod = 1> (a, b) }"
    assert_parity(text, {"a": a, "b": b})


def test_powers(assert_parity: Any) -> None:
    text = """g (float[2,3] x, int64[2,3] n, int32[2,3] i) =>
        (float[2,3] a, float[2,3] b, float[2,3] c, int64[2,3] d, int32[2,3] e, float[2,3] f) {
            two = Constant <value = float {2.0}> ()
            half = Constant <value = float {0.5}> ()
            three = Constant <value = int64 {3}> ()
            a = Pow(x, two)  b = Pow(x, half)  c = Pow(x, n)
            d = Pow(n, n)  e = Pow(i, three)  f = Pow(x, three) }"""
    feeds = {
        "x": np.linspace(0.5, 3, 6).reshape(2, 3),
        "n": [[1, 2, 3], [0, 5, 15]],
        "i": [[-1, 2, -3], [0, 5, 15]],
    }
    assert_parity(text, feeds)


@pytest.mark.parametrize("dtype", ["float", "uint8", "int8", "int32", "int64", "bool"])
def test_where(assert_parity: Any, dtype: str) -> None:
    text = f"""g (bool[3,1] c, {dtype}[2,3,4] x, {dtype}[4] y) => ({dtype}[2,3,4] z)
        {{ z = Where(c, x, y) }}"""
    assert_parity(text, reference="onnx")


def test_operands_stored_channels_last_are_not_moved(assert_parity: Any) -> None:
    text = """g (float[1,3,5,5] x) => (float[1,4,5,5] y)
        <float[4,3,1,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[4,1,1] s = {1,-2,3,-4},
         float[5] r = {0.1,0.2,0.3,0.4,0.5}> {
            a = Conv(x, w)  b = Mul(a, s)  c = Max(b, r)  d = Mod <fmod = 1> (c, s)
            m = Greater(a, b)  y = Where(m, c, d) }"""
    parity = assert_parity(text, rtol=1e-4, atol=1e-4)
    assert parity.count("TRANSPOSE") == 0


@given(st.data())
@settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_broadcasting_of_transposed_operands(assert_parity: Any, data: st.DataObject) -> None:
    full = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    cut = data.draw(st.integers(0, len(full) - 1))
    small = [data.draw(st.sampled_from([1, size])) for size in full[cut:]]
    perm = data.draw(st.permutations(range(len(full))))
    source = [full[perm.index(axis)] for axis in range(len(full))]
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=perm),
            helper.make_node("Sub", ["t", "s"], ["d"]),
            helper.make_node("Mul", ["s", "d"], ["y"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, source),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, small),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert_parity(model, tflite=False)
