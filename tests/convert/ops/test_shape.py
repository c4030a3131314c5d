"""Operators that reshape or repeat equal onnxruntime's, whatever order their input is stored in."""

from __future__ import annotations

from typing import Any

import pytest


def test_reshapes(assert_any_layout: Any) -> None:
    assert_any_layout(
        """g (float[2,3,4,5] x) => (float[2,12,5] a, float[6,20] b, float[2,3,20] c,
        float[2,3,4,5] d, float[120] e, float[2,1,3,4,5,1] f, float[2,60] h, float[120,1] i) {
        sa = Constant <value = int64[3] {0, -1, 5}> ()  a = Reshape(x, sa)
        sb = Constant <value = int64[2] {6, -1}> ()     b = Reshape(x, sb)
        c = Flatten <axis = -1> (x)
        sc = Constant <value = int64[3] {0, 0, -1}> ()  c = Reshape(x, sc)
        axes = Constant <value = int64[2] {1, -1}> ()   f = Unsqueeze(x, axes)
        d = Squeeze(f, axes)
        se = Constant <value = int64[1] {-1}> ()        e = Reshape(x, se)
        h = Flatten(x)  i = Flatten <axis = 4> (x) }""".replace("c = Flatten <axis = -1> (x)", "")
    )


def test_reshape_with_zeros(assert_any_layout: Any) -> None:
    assert_any_layout("""g (float[0,3,4] x) => (float[3,4,0] a, float[0,12] b) {
        sa = Constant <value = int64[3] {3, 4, 0}> ()  a = Reshape <allowzero = 1> (x, sa)
        sb = Constant <value = int64[2] {0, 12}> ()    b = Reshape(x, sb) }""")


def test_squeeze_without_axes_and_old_forms(assert_any_layout: Any) -> None:
    assert_any_layout(
        """g (float[1,3,1,5] x) => (float[3,5] a, float[3,1,5] b, float[1,1,3,1,5] c) {
        a = Squeeze(x)  b = Squeeze <axes = [0]> (x)  c = Unsqueeze <axes = [1]> (x) }""",
        opset=11,
    )


@pytest.mark.parametrize("dtype", ["float", "int32", "int64", "int8", "uint8", "bool"])
def test_expand_and_tile(assert_parity: Any, dtype: str) -> None:
    assert_parity(f"""g ({dtype}[3,1] x) => ({dtype}[2,3,4] a, {dtype}[6,3] b) {{
        shape = Constant <value = int64[3] {{2, 1, 4}}> ()  a = Expand(x, shape)
        times = Constant <value = int64[2] {{2, 3}}> ()     b = Tile(x, times) }}""")


def test_expand_and_tile_in_any_layout(assert_any_layout: Any) -> None:
    assert_any_layout("""g (float[2,1,4,5] x) => (float[2,3,4,5] a, float[4,1,4,10] b,
        float[2,2,3,4,5] c) {
        sa = Constant <value = int64[4] {1, 3, 1, 1}> ()     a = Expand(x, sa)
        tb = Constant <value = int64[4] {2, 1, 1, 2}> ()     b = Tile(x, tb)
        sc = Constant <value = int64[5] {2, 1, 3, 1, 1}> ()  c = Expand(x, sc) }""")


def test_shape_and_size_are_constants(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[2,3,4] x) => (float[12,2] y, int64[2] s, int64 n) {
        s = Shape <start = 1> (x)  n = Size(x)
        last = Constant <value = int64[2] {-1, 2}> ()  y = Reshape(x, last) }""")
    assert set(parity.operators) <= {"RESHAPE"}


def test_dropout_in_inference(assert_any_layout: Any) -> None:
    assert_any_layout(
        """g (float[2,3] x) => (float[2,3] y, bool[2,3] mask) { y, mask = Dropout(x) }""",
        reference="onnx",
    )
