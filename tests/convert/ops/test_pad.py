"""Padding equals onnxruntime's in every mode, dtype and stored order."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def pad_model(shape: list[int], pads: list[int], mode: str) -> onnx.ModelProto:
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Pad", ["x", "pads"], ["y"], mode=mode)],
        "g",
        [onnx.helper.make_tensor_value_info("x", kind, shape)],
        [onnx.helper.make_tensor_value_info("y", kind, [None] * len(shape))],
        [onnx.numpy_helper.from_array(np.array(pads, np.int64), "pads")],
    )
    return onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 19)]
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_every_mode(assert_any_layout: Any, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(2, 5), min_size=1, max_size=4))
    mode = data.draw(st.sampled_from(["constant", "reflect", "edge", "wrap"]))
    lowest = -1 if mode == "constant" else 0
    pads = data.draw(
        st.lists(st.integers(lowest, 1), min_size=2 * len(shape), max_size=2 * len(shape))
    )
    assert_any_layout(pad_model(shape, pads, mode))


@pytest.mark.parametrize("mode", ["edge", "wrap", "reflect"])
def test_wider_than_the_axis(assert_any_layout: Any, mode: str) -> None:
    model = pad_model([2, 3], [0, 7, 1, 5], mode)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert_any_layout(model, {"x": x}, reference="onnx")


@pytest.mark.parametrize("dtype", ["float", "int32", "int64", "int8", "uint8", "bool"])
def test_dtypes_in_tflite(assert_parity: Any, dtype: str) -> None:
    assert_parity(
        f"""g ({dtype}[3,4] x) => ({dtype}[4,6] a, {dtype}[5,7] b, {dtype}[7,4] c,
        {dtype}[3,6] d, {dtype}[3,7] e) {{
        pads = Constant <value = int64[4] {{1, 2, 0, 0}}> ()  a = Pad(x, pads)
        pb = Constant <value = int64[4] {{1, 3, 1, 0}}> ()    b = Pad <mode = "reflect"> (x, pb)
        pc = Constant <value = int64[4] {{2, 0, 2, 0}}> ()    c = Pad <mode = "edge"> (x, pc)
        pd = Constant <value = int64[4] {{0, 1, 0, 1}}> ()    d = Pad <mode = "edge"> (x, pd)
        pe = Constant <value = int64[4] {{0, 1, 0, 2}}> ()    e = Pad <mode = "wrap"> (x, pe) }}""",
        reference="onnx",
    )


def test_fill_axes_and_run_time_fill(assert_parity: Any) -> None:
    assert_parity(
        """g (float[3,4] x, float fill) => (float[3,7] a, float[5,4] b) {
        pads = Constant <value = int64[2] {1, 2}> ()  axes = Constant <value = int64[1] {-1}> ()
        seven = Constant <value = float {7.0}> ()     a = Pad(x, pads, seven, axes)
        rows = Constant <value = int64[4] {1, 0, 1, 0}> ()  b = Pad(x, rows, fill) }""",
        {"fill": -2.5},
    )


def test_reflection_between_convolutions_moves_nothing(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[1,2,5,6] x) => (float[1,2,8,8] y)
        <float[2,2,1,1] w = {1, 2, 3, 4}> {
        c = Conv(x, w)
        pads = Constant <value = int64[8] {0, 0, 2, 1, 0, 0, 1, 1}> ()
        p = Pad <mode = "reflect"> (c, pads)  y = Conv(p, w) }""")
    assert parity.operators == ("CONV_2D", "MIRROR_PAD", "CONV_2D")


def test_center_crop_pad(assert_any_layout: Any) -> None:
    assert_any_layout(
        """g (float[7,4,5] x) => (float[4,9,5] a, float[7,7,2] b) {
        sa = Constant <value = int64[3] {4, 9, 5}> ()  a = CenterCropPad(x, sa)
        sb = Constant <value = int64[2] {2, 7}> ()
        b = CenterCropPad <axes = [-1, 1]> (x, sb) }""",
        reference="onnx",
    )
