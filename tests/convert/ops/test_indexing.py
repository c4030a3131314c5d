"""Picking by index equals onnxruntime's for negative, constant and run-time indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.core.errors import UnsupportedModel

DTYPES = ["float", "int32", "int64", "int8", "uint8", "bool"]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_along_every_axis(assert_any_layout: Any, axis: int) -> None:
    size = (4, 5, 6)[axis]
    a, b = {0: ("2,2,5,6", "5,6"), 1: ("4,2,2,6", "4,6"), -1: ("4,5,2,2", "4,5")}[axis]
    text = f"""g (float[4,5,6] x, int64[2,2] i, int64 j) => (float[{a}] a, float[{b}] b,
        float[{b}] c, float[{a}] d, float[p,q,r] e, float[s,t,u] f)
        <int64[2,2] k = {{0, -1, 2, 0}}, int64 one = {{-2}}, int64[2] even = {{1, 3}},
         int64[3] back = {{-1, -2, -3}}> {{
        a = Gather <axis = {axis}> (x, i)  b = Gather <axis = {axis}> (x, j)
        c = Gather <axis = {axis}> (x, one)  d = Gather <axis = {axis}> (x, k)
        e = Gather <axis = {axis}> (x, even)  f = Gather <axis = {axis}> (x, back) }}"""
    assert_any_layout(text, {"i": [[0, -size], [size - 1, 2]], "j": -1})


def test_evenly_spaced_gather_is_a_slice(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[1,4,3,3] x) => (float[1,4,3,3] y, float[1,3,3] z)
        <int64[2] i = {0, 2}, int64 one = {-1}, float[4,4,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2,
         3, 4, 5, 6, 7}, float[4,2,1,1] v = {1, 2, 3, 4, 5, 6, 7, 8}> {
        c = Conv(x, w)  s = Gather <axis = 1> (c, i)  y = Conv(s, v)
        z = Gather <axis = 1> (c, one) }""")
    assert parity.count("GATHER") == parity.count("TRANSPOSE") == 0


def test_gather_elements(assert_any_layout: Any) -> None:
    assert_any_layout(
        """g (float[3,4,2] x, int64[3,2,2] i) => (float[3,2,2] a, float[2,3,1] b)
        <int64[2,3,1] k = {0, -1, 1, 1, 0, -2}> {
        a = GatherElements <axis = 1> (x, i)  b = GatherElements <axis = -1> (x, k) }""",
        {"i": [[[0, 1], [-1, 2]], [[3, 3], [-4, 0]], [[1, 2], [2, 1]]]},
    )


def test_gather_nd(assert_any_layout: Any) -> None:
    assert_any_layout(
        """g (float[2,3,4] x, int64[2,2] i, int64[2,1] j) =>
        (float[2,4] a, float[2,4] b, float[2] c)
        <int64[2,3] k = {0, -1, 1, 1, 0, -2}> {
        a = GatherND(x, i)  b = GatherND <batch_dims = 1> (x, j)  c = GatherND(x, k) }""",
        {"i": [[0, -1], [-2, 2]], "j": [[1], [-1]]},
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_gathers_in_tflite(assert_parity: Any, dtype: str) -> None:
    assert_parity(
        f"""g ({dtype}[3,4] x, int64[2] i, int64[3,2] j, int64[2,2] k) =>
        ({dtype}[2,4] a, {dtype}[3,2] b, {dtype}[2] c) {{
        a = Gather(x, i)  b = GatherElements <axis = 1> (x, j)  c = GatherND(x, k) }}""",
        {"i": [-1, 0], "j": [[0, -1], [1, 1], [3, -4]], "k": [[0, -1], [2, 1]]},
    )


@pytest.mark.parametrize("dtype", ["float", "int32", "int64", "int8", "uint8"])
def test_top_k(assert_parity: Any, dtype: str) -> None:
    assert_parity(
        f"""g ({dtype}[5,3] x) => ({dtype}[2,3] a, int64[2,3] i, {dtype}[5,2] b, int64[5,2] j)
        <int64[1] k = {{2}}> {{
        a, i = TopK <axis = 0> (x, k)  b, j = TopK <largest = 0> (x, k) }}""",
        {"x": [[1, 2, 2], [5, 2, 9], [0, 7, 7], [5, 1, 0], [3, 3, 3]]},
        reference="onnx",
    )


def test_smallest_of_extreme_integers(assert_any_layout: Any) -> None:
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    text = "g (int64[4] x) => (int64[2] v, int64[2] i) <int64[1] k = {2}>"
    text += "{ v, i = TopK <largest = 0> (x, k) }"
    assert_any_layout(text, {"x": [0, low, high, low + 1]})


def test_arg_max(assert_any_layout: Any) -> None:
    assert_any_layout(
        """g (float[3,4] x) => (int64[1,4] a, int64[3] b, int64[3,1] c, int64[4] d) {
        a = ArgMax(x)  b = ArgMax <axis = 1, keepdims = 0> (x)
        c = ArgMin <axis = -1, select_last_index = 1> (x)
        d = ArgMax <axis = 0, keepdims = 0, select_last_index = 1> (x) }""",
        {"x": [[1, 2, 2, 1], [1, 0, 0, 1], [0, 0, 2, 1]]},
    )


@pytest.mark.parametrize("dtype", ["float", "int32", "int64", "uint8"])
def test_one_hot(assert_parity: Any, dtype: str) -> None:
    assert_parity(
        f"""g (int64[2,3] i, {dtype}[2] v) => ({dtype}[2,3,4] a, {dtype}[2,4,3] b)
        <int64 depth = {{4}}, {dtype}[2] fixed = {{0, 1}}> {{
        a = OneHot(i, depth, v)  b = OneHot <axis = 1> (i, depth, fixed) }}""",
        {"i": [[0, 3, -1], [-4, 4, -5]], "v": [2, 7]},
        reference="onnx",
    )


def test_compress_and_non_zero_have_run_time_lengths(assert_parity: Any) -> None:
    assert_parity(
        """g (float[3,2] x, bool[3] keep, int8[2,2] z) => (float[m,2] a, float[n] b, int64[2,k] c) {
        a = Compress <axis = 0> (x, keep)  b = Compress(x, keep)  c = NonZero(z) }""",
        {"keep": [True, False, True], "z": [[0, 3], [-1, 0]]},
        reference="onnx",
    )


def test_unique_is_refused(assert_parity: Any) -> None:
    with pytest.raises(UnsupportedModel, match="known at run time only"):
        assert_parity("g (float[4] x) => (float[n] y) { y = Unique(x) }")
