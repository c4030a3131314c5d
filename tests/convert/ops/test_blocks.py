"""Trading pixels for channels equals onnxruntime's; constants made from shapes fold away."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("dtype", ["float", "int32", "int8", "uint8"])
def test_depth_and_space(assert_parity: Any, mode: str, dtype: str) -> None:
    parity = assert_parity(
        f"""g ({dtype}[1,8,2,3] x) => ({dtype}[1,2,4,6] y) {{
        y = DepthToSpace <blocksize = 2, mode = "{mode}"> (x) }}""",
        reference="onnx",
    )
    assert parity.count("DEPTH_TO_SPACE") == 1


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_space_to_depth(assert_any_layout: Any, assert_parity: Any, mode: str) -> None:
    text = f"""g (float[2,2,4,6] x) => (float[2,8,2,3] y) {{
        y = SpaceToDepth <blocksize = 2, mode = "{mode}"> (x) }}"""
    assert_any_layout(text, opset=28, reference="onnx")
    assert_parity(text, opset=28, reference="onnx")


@pytest.mark.parametrize(
    ("places", "attributes"),
    [
        (20, ""),
        (6, "strides = [2, 2]"),
        (42, "pads = [1, 1, 1, 1]"),
        (12, "dilations = [2, 2]"),
    ],
)
def test_columns_to_image(assert_any_layout: Any, places: int, attributes: str) -> None:
    assert_any_layout(
        f"""g (float[2,12,{places}] x) => (float[2,3,5,6] y)
        <int64[2] image = {{5, 6}}, int64[2] block = {{2, 2}}> {{
        y = Col2Im <{attributes}> (x, image, block) }}""".replace("<>", ""),
        reference="onnx",
    )


def test_columns_to_image_in_tflite(assert_parity: Any) -> None:
    assert_parity("""g (float[2,12,20] x) => (float[2,3,5,6] y)
        <int64[2] image = {5, 6}, int64[2] block = {2, 2}> { y = Col2Im(x, image, block) }""")


def test_constants_made_from_shapes(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[3,4] x) => (float[3,4] y)
        <int64 zero = {0}, int64 one = {1}> {
        e = EyeLike <k = 1> (x)  s = Shape(x)  z = ConstantOfShape <value = float[1] {2.0}> (s)
        n = Size(x)  r = Range(zero, n, one)  f = Cast <to = 1> (r)  m = Reshape(f, s)
        a = Add(x, e)  b = Mul(a, z)  y = Sub(b, m) }""")
    assert set(parity.operators) <= {"ADD", "SUB", "MUL"}


def test_range_of_run_time_bounds(assert_parity: Any) -> None:
    text = "g (int32 a, int32 b, int32 d) => (int32[n] y) { y = Range(a, b, d) }"
    assert_parity(text, {"a": 2, "b": 11, "d": 3})
