"""Pools equal onnxruntime's over 1, 2 and 3 axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def pool_model(kind: str, shape: list[int], outputs: int = 1, **attributes: Any) -> Any:
    names = ["y", "indices"][:outputs]
    kinds = [onnx.TensorProto.FLOAT, onnx.TensorProto.INT64]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, ["x"], names, **attributes)],
        "g",
        [onnx.helper.make_tensor_value_info("x", kinds[0], shape)],
        [
            onnx.helper.make_tensor_value_info(name, dtype, [None] * len(shape))
            for name, dtype in zip(names, kinds, strict=False)
        ],
    )
    return onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)]
    )


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[int], dict[str, Any]]:
    rank = draw(st.integers(1, 3))

    def each(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(rank)]

    kernel, dilations = each(1, 3), each(1, 2)
    ends = [draw(st.integers(0, k - 1)) for _ in range(2) for k in kernel]
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    spatial = [draw(st.integers(extent, extent + 4)) for extent in extents]
    return [2, 3, *spatial], {
        "kernel_shape": kernel,
        "dilations": dilations,
        "strides": each(1, 3),
        "pads": ends,
        "ceil_mode": draw(st.integers(0, 1)),
    }


SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SETTINGS
@given(pools())
def test_maximum(assert_any_layout: Any, case: tuple[list[int], dict[str, Any]]) -> None:
    shape, attributes = case
    assert_any_layout(pool_model("MaxPool", shape, **attributes))


@SETTINGS
@given(pools(), st.integers(0, 1))
def test_average(
    assert_any_layout: Any, case: tuple[list[int], dict[str, Any]], counts: int
) -> None:
    shape, attributes = case
    attributes = {**attributes, "ceil_mode": 0, "count_include_pad": counts}
    assert_any_layout(pool_model("AveragePool", shape, **attributes))


@SETTINGS
@given(pools(), st.integers(0, 1))
def test_maximum_with_indices(
    assert_any_layout: Any, case: tuple[list[int], dict[str, Any]], order: int
) -> None:
    shape, attributes = case
    order = order if len(shape) == 4 else 0
    assert_any_layout(pool_model("MaxPool", shape, outputs=2, storage_order=order, **attributes))


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_in_tflite(assert_parity: Any, kind: str, rank: int) -> None:
    attributes: dict[str, Any] = {
        "kernel_shape": [3] * rank,
        "strides": [2] * rank,
        "pads": [1, 0] * rank,
    }
    assert_parity(pool_model(kind, [1, 2, 7, 6, 5][: rank + 2], **attributes))


def test_indices_and_back_in_tflite(assert_parity: Any) -> None:
    assert_parity("""g (float[1,2,6,4] x) => (float[1,2,3,2] y, int64[1,2,3,2] i, float[1,2,6,4] z)
        { y, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
          z = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (y, i) }""")


def test_unpool_of_overlapping_windows(assert_any_layout: Any) -> None:
    text = """g (float[1,1,4,4] x) => (float[1,1,4,4] z) {
        y, i = MaxPool <kernel_shape = [3, 3], strides = [1, 1]> (x)
        z = MaxUnpool <kernel_shape = [3, 3], strides = [1, 1]> (y, i) }"""
    x = -np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    assert_any_layout(text, {"x": x})


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_bytes(assert_parity: Any, dtype: str) -> None:
    text = f"g ({dtype}[1,2,6,6] x) => ({dtype}[1,2,3,3] y)"
    assert_parity(text + " { y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) }")


def test_signals_stay_images_of_one_row(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[1,2,8] x) => (float[1,2,4] y)
        <float[2,2,1] w = {1, 2, 3, 4}> {
        c = Conv(x, w)  p = MaxPool <kernel_shape = [2], strides = [2]> (c)  y = Conv(p, w) }""")
    first = parity.operators.index("CONV_2D")
    assert parity.operators[first : first + 3] == ("CONV_2D", "MAX_POOL_2D", "CONV_2D")
