"""Resizing equals ONNX's in every mode, on images and on any other axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

MODES = ["nearest", "linear", "cubic"]
COORDINATES = [
    "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"
]  # fmt: skip
FLOOR = """mode = "nearest", nearest_mode = "floor",
    coordinate_transformation_mode = "asymmetric" """
NOTHING = onnx.numpy_helper.from_array(np.zeros(0, np.float32), "none")
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def resize_model(
    shape: list[int], sizes: list[int], opset: int = 19, **attributes: Any
) -> onnx.ModelProto:
    none = "" if opset > 12 else "none"  # which inputs may be left out since opset 13
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Resize", ["x", none, none, "sizes"], ["y"], **attributes)],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * len(shape))],
        [onnx.numpy_helper.from_array(np.array(sizes, np.int64), "sizes"), NOTHING],
    )
    return onnx.helper.make_model(
        graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", opset)]
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_every_mode(assert_any_layout: Any, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=5))
    sizes = [data.draw(st.sampled_from([size, size, 1, 3, 7])) for size in shape]
    mode = data.draw(st.sampled_from(MODES))
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": data.draw(st.sampled_from(COORDINATES)),
        "nearest_mode": data.draw(st.sampled_from(ROUNDINGS)),
        "antialias": data.draw(st.integers(0, 1)) if mode != "nearest" else 0,
        "exclude_outside": data.draw(st.integers(0, 1)) if mode == "cubic" else 0,
    }
    assert_any_layout(
        resize_model(shape, sizes, **attributes), reference="onnx", rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("RESIZE_NEAREST_NEIGHBOR", FLOOR),
        ("RESIZE_BILINEAR", 'mode = "linear", coordinate_transformation_mode = "half_pixel"'),
        ("RESIZE_BILINEAR", 'mode = "linear", coordinate_transformation_mode = "align_corners"'),
    ],
)
@pytest.mark.parametrize("scale", ["2.0", "1.5"])
def test_images_take_one_operator(
    assert_parity: Any, operator: str, attributes: str, scale: str
) -> None:
    parity = assert_parity(f"""g (float[1,2,4,6] x) => (float[1,2,h,w] y)
        <float[2,2,1,1] k = {{1, 2, 3, 4}}, float[4] scales = {{1.0, 1.0, {scale}, {scale}}}> {{
        c = Conv(x, k)  r = Resize <{attributes}> (c, , scales)  y = Conv(r, k) }}""")
    assert parity.operators == ("CONV_2D", operator, "CONV_2D")


@pytest.mark.parametrize(
    "attributes",
    [
        'mode = "cubic"',
        'mode = "linear", antialias = 1',
        'mode = "nearest", nearest_mode = "ceil"',
        'mode = "cubic", coordinate_transformation_mode = "align_corners"',
    ],
)
def test_others_in_tflite(assert_parity: Any, attributes: str) -> None:
    parity = assert_parity(
        f"""g (float[1,2,4,6] x) => (float[1,2,3,9] y)
        <float[2,2,1,1] k = {{1, 2, 3, 4}}, int64[4] sizes = {{1, 2, 3, 9}}> {{
        c = Conv(x, k)  r = Resize <{attributes}> (c, , , sizes)  y = Conv(r, k) }}""",
        reference="onnx",
        rtol=1e-4,
        atol=1e-4,
    )
    assert parity.count("TRANSPOSE") == 0


def test_signals_and_volumes_in_tflite(assert_parity: Any) -> None:
    assert_parity("""g (float[1,2,5] s, float[1,2,3,4,2] v) => (float[1,2,10] a,
        float[1,2,6,8,4] b) <float[3] one = {1.0, 1.0, 2.0},
        float[5] three = {1.0, 1.0, 2.0, 2.0, 2.0}> {
        a = Resize <mode = "linear"> (s, , one)
        b = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
            nearest_mode = "floor"> (v, , three) }""")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
def test_integers_are_picked(assert_parity: Any, dtype: str) -> None:
    assert_parity(f"""g ({dtype}[1,2,3,4] x) => ({dtype}[1,2,6,8] y)
        <float[4] scales = {{1.0, 1.0, 2.0, 2.0}}> {{
        y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
            (x, , scales) }}""")


def test_upsample(assert_any_layout: Any) -> None:
    text = """g (float[1,2,3,4] x) => (float[1,2,6,12] a, float[1,2,6,12] b)
        <float[4] scales = {1.0, 1.0, 2.0, 3.0}> {
        a = Upsample <mode = "nearest"> (x, scales)  b = Upsample <mode = "linear"> (x, scales) }"""
    assert_any_layout(text, opset=9)


def test_crop_and_resize(assert_any_layout: Any) -> None:
    assert_any_layout(
        """g (float[1,2,5,6] x) => (float[1,2,4,3] y) <int64[4] sizes = {1, 2, 4, 3},
        float[8] roi = {0.0, 0.0, 0.2, -0.3, 1.0, 1.0, 1.4, 0.8}> {
        y = Resize <mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize",
            extrapolation_value = 9.0> (x, roi, , sizes) }""",
        reference="onnx",
    )


@st.composite
def _scale_or_size(draw: st.DrawFn) -> tuple[int, float | None, int]:
    """An axis's size, and what it is resized by or to: factors as people write them."""
    size = draw(st.integers(1, 60))
    digits = draw(st.integers(1, 3))
    scale = draw(st.integers(10**digits // 5, 5 * 10**digits)) / 10**digits
    assume(int(np.float32(size) * np.float32(scale)) >= 1)
    return size, draw(st.sampled_from([scale, None])), draw(st.integers(1, 200))


def scaled_model(
    axis: tuple[int, float | None, int], opset: int, attributes: dict[str, Any]
) -> onnx.ModelProto:
    """Resize the last two axes alike, by a factor or to a size."""
    size, scale, out = axis
    if scale is None:
        return resize_model([1, 1, size, size], [1, 1, out, out], opset=opset, **attributes)
    factors = onnx.numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales")
    none = "" if opset > 12 else "none"
    inputs = ["x", "scales"] if opset < 11 else ["x", none, "scales"]
    shape = [1, 1, size, size]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Resize" if opset > 9 else "Upsample", inputs, ["y"], **attributes)],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * 4)],
        [factors, NOTHING],
    )
    imports = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, ir_version=8, opset_imports=imports)


def test_17_over_a_scale_of_1_7_is_10(assert_parity: Any) -> None:
    assert_parity(
        """g (float[1,3,9,11] x) => (float[1,3,15,18] y) <float[4] s = {1.0, 1.0, 1.7, 1.7}> {
        y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
            nearest_mode = "floor"> (x, , s) }""",
        {"x": np.arange(297).reshape(1, 3, 9, 11)},
    )


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_scale_or_size(), st.sampled_from([11, 13, 18]), st.data())
def test_scales_and_sizes_as_onnxruntime(
    assert_any_layout: Any, axis: tuple[int, float | None, int], opset: int, data: st.DataObject
) -> None:
    mode = data.draw(st.sampled_from(MODES))
    modes = COORDINATES[:4] + (["tf_half_pixel_for_nn"] if mode == "nearest" else [])
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": data.draw(st.sampled_from(modes)),
        "nearest_mode": data.draw(st.sampled_from(ROUNDINGS)),
    }
    if opset == 18 and mode != "nearest" and data.draw(st.booleans()):
        attributes |= {"antialias": 1, "exclude_outside": 1}
    size, scale, out = axis
    ends = int(np.float32(size) * np.float32(scale)) if scale else out
    # onnxruntime takes the first element here, and ONNX's reference one before it.
    assume((ends, attributes["coordinate_transformation_mode"]) != (1, "pytorch_half_pixel"))
    x = np.arange(size * size).reshape(1, 1, size, size)
    model = scaled_model(axis, opset, attributes)
    assert_any_layout(model, {"x": x}, rtol=1e-4, atol=1e-3 * size)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example((2, 1.001, 1), 9, "nearest")
@given(_scale_or_size(), st.sampled_from([9, 10]), st.sampled_from(["nearest", "linear"]))
def test_scales_before_opset_11(
    assert_any_layout: Any, axis: tuple[int, float | None, int], opset: int, mode: str
) -> None:
    size, scale, _ = axis
    assume(scale is not None and (scale >= 1 or opset > 9))
    x = np.arange(size * size).reshape(1, 1, size, size)
    model = scaled_model(axis, opset, {"mode": mode})
    assert_any_layout(model, {"x": x}, rtol=1e-4, atol=1e-3 * size)
