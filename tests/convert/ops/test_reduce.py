"""Reductions equal ONNX's over any axes and dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

NAMES = ["Mean", "Sum", "Max", "Min", "Prod", "SumSquare", "L1", "L2", "LogSumExp"]


@pytest.mark.parametrize("axes", ["1", "2,3", "0,2", "1,-1"])
def test_floats_stored_channels_last(assert_parity: Any, axes: str) -> None:
    count = axes.count(",") + 1
    kept = [3, 4, 5, 2]
    for axis in axes.split(","):
        kept[int(axis)] = 0
    left = ",".join(str(size) for size in kept if size)
    outputs = ", ".join(f"float[{left}] y{n}" for n in range(len(NAMES)))
    body = " ".join(f"y{n} = Reduce{name} <keepdims = 0> (a, axes)" for n, name in enumerate(NAMES))
    text = f"""g (float[3,2,5,2] x) => ({outputs})
        <float[4,2,1,1] w = {{1,2,-3,4,0.5,6,-7,0.8}}, int64[{count}] axes = {{{axes}}}> {{
            c = Conv(x, w)  a = Sigmoid(c)  {body} }}"""
    assert_parity(text, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integers(assert_parity: Any, dtype: str) -> None:
    names = ["Sum", "Max", "Min", "Prod", "SumSquare", "L1"]
    outputs = ", ".join(f"{dtype}[2,1] y{n}" for n in range(len(names)))
    body = " ".join(f"y{n} = Reduce{name}(x, axes)" for n, name in enumerate(names))
    text = f"g ({dtype}[2,3] x) => ({outputs}) <int64[1] axes = {{1}}> {{ {body} }}"
    assert_parity(text, {"x": [[1, 2, 3], [3, 0, 2]]}, reference="onnx")


def test_booleans(assert_parity: Any) -> None:
    text = """g (bool[2,2] x) => (bool[2,1] a, bool[2,1] b) <int64[1] axes = {1}> {
        a = ReduceMax(x, axes)  b = ReduceMin(x, axes) }"""
    assert_parity(text, reference="onnx")


def test_log_sum_exp_of_masked_rows(assert_parity: Any) -> None:
    text = """g (float[2,2] x) => (float[2,1] y) <int64[1] axes = {1}> {
        y = ReduceLogSumExp(x, axes) }"""
    parity = assert_parity(text, {"x": [[-np.inf, -np.inf], [-np.inf, 2.0]]})
    assert parity.outputs["y"].ravel().tolist() == [-np.inf, 2.0]


def test_no_axes_is_all_or_none(assert_parity: Any) -> None:
    text = """g (float[2,3] x) => (float[1,1] a, float[2,3] b, float[2,3] c) {
        a = ReduceSum(x)  b = ReduceSum <noop_with_empty_axes = 1> (x)
        c = ReduceSumSquare <noop_with_empty_axes = 1> (x) }"""
    assert_parity(text)


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_searches(assert_parity: Any, axis: int) -> None:
    text = f"""g (float[2,3,4,5] x) => (int64[2,3,4,5] a, int64[2,3,4,5] b, int64[2,3,4,5] c) {{
        r = Round(x)  a = ArgMax <axis = {axis}> (r)  b = ArgMin <axis = {axis}> (r)
        c = ArgMax <axis = {axis}, select_last_index = 1> (r) }}"""
    sizes = ",".join("1" if n == axis else str(size) for n, size in enumerate([2, 3, 4, 5]))
    assert_parity(text.replace("int64[2,3,4,5]", f"int64[{sizes}]"))
