"""Joining and cutting equal onnxruntime's, in every dtype and stored order."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeconv.core.errors import UnsupportedModel

DTYPES = ["float", "int32", "int64", "int8", "uint8", "bool"]
BOUNDS = st.integers(-9, 9) | st.sampled_from([2**31 - 1, -(2**31), 2**63 - 1, -(2**63)])


def slice_model(
    shape: list[int], starts: list[int], ends: list[int], axes: list[int], steps: list[int]
) -> onnx.ModelProto:
    lists = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    node = onnx.helper.make_node("Slice", ["x", *lists], ["y"])
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", kind, shape)],
        [onnx.helper.make_tensor_value_info("y", kind, [None] * len(shape))],
        [onnx.numpy_helper.from_array(np.array(v, np.int64), k) for k, v in lists.items()],
    )
    return onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)]
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_slices_of_every_form(assert_any_layout: Any, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    axes = data.draw(st.permutations(range(len(shape))))[: data.draw(st.integers(1, len(shape)))]
    count = len(axes)
    starts, ends = (data.draw(st.lists(BOUNDS, min_size=count, max_size=count)) for _ in range(2))
    steps = data.draw(st.lists(st.integers(-3, 3).filter(bool), min_size=count, max_size=count))
    assert_any_layout(slice_model(shape, starts, ends, axes, steps), reference="onnx")


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_in_tflite(assert_parity: Any, dtype: str) -> None:
    assert_parity(f"""g ({dtype}[4,6] x) => ({dtype}[8,6] j, {dtype}[4,2] a, {dtype}[4,4] b,
        {dtype}[2,3] r) {{
        j = Concat <axis = 0> (x, x)
        sizes = Constant <value = int64[2] {{2, 4}}> ()
        a, b = Split <axis = 1> (x, sizes)
        starts = Constant <value = int64[2] {{-1, 5}}> ()
        ends = Constant <value = int64[2] {{1, -99}}> ()
        axes = Constant <value = int64[2] {{0, 1}}> ()
        steps = Constant <value = int64[2] {{-1, -2}}> ()
        r = Slice(x, starts, ends, axes, steps) }}""")


def test_splits(assert_any_layout: Any) -> None:
    assert_any_layout("""g (float[2,7,3] x) => (float[2,3,3] a, float[2,3,3] b, float[2,1,3] c,
        float[2,7,1] d, float[2,7,2] e, float[1,7,3] h, float[1,7,3] i) {
        a, b, c = Split <axis = 1, num_outputs = 3> (x)
        sizes = Constant <value = int64[2] {1, 2}> ()  d, e = Split <axis = -1> (x, sizes)
        h, i = Split <num_outputs = 2> (x) }""")


def test_concat_between_convolutions_moves_nothing(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[1,3,6,6] x, float[1,2,6,6] z) => (float[1,3,6,6] y)
        <float[4,3,1,1] w = {1,2,3,4,5,6,7,8,9,1,2,3}, float[3,6,1,1] v =
            {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}> {
        c = Conv(x, w)  j = Concat <axis = 1> (c, z)
        y = Conv(j, v) }""")
    assert parity.count("TRANSPOSE") == 0


def test_reverse_sequence(assert_any_layout: Any) -> None:
    text = """g (float[4,3,2] x, int64[3] lens) => (float[4,3,2] a, float[4,3,2] b)
        <int64[4] other = {1, 3, 2, 3}> {
        a = ReverseSequence(x, lens)
        b = ReverseSequence <batch_axis = 0, time_axis = 1> (x, other) }"""
    assert_any_layout(text, {"lens": [1, 4, 2]})


def test_reverse_sequence_of_bytes_in_tflite(assert_parity: Any) -> None:
    text = "g (uint8[4,3] x, int64[3] n) => (uint8[4,3] y) { y = ReverseSequence(x, n) }"
    assert_parity(text, {"n": [1, 4, 2]}, reference="onnx")


def test_bounds_at_run_time_are_refused(assert_parity: Any) -> None:
    text = "g (float[4] x, int64[1] s, int64[1] e) => (float[n] y) { y = Slice(x, s, e) }"
    with pytest.raises(UnsupportedModel, match="starts is computed at run time"):
        assert_parity(text, {"s": [1], "e": [3]})
