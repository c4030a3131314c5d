"""Functions that TFLite lacks keep float32's accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

SMALL = np.array([1e-6, 1e-4, 1e-2, 0.1, 0.3])
RANGES = {
    "Sin": (-6, 6), "Cos": (-6, 6), "Tan": (-1.5, 1.5), "Acos": (-1, 1), "Asin": (-1, 1),
    "Atan": (-50, 50), "Sinh": (-20, 20), "Cosh": (-20, 20), "Tanh": (-5, 5),
    "Asinh": (-1e4, 1e4), "Acosh": (1, 1e4), "Atanh": (-0.999, 0.999), "Erf": (-5, 5),
}  # fmt: skip


def test_functions_over_their_range(assert_parity: Any) -> None:
    inputs, outputs, nodes, feeds = [], [], [], {}
    for name, (low, high) in RANGES.items():
        near = SMALL + 1 if name == "Acosh" else np.concatenate([SMALL, -SMALL, [0]])
        feeds[f"x{name}"] = np.concatenate([np.linspace(low, high, 64), near])
        size = [len(feeds[f"x{name}"])]
        inputs.append(helper.make_tensor_value_info(f"x{name}", TensorProto.FLOAT, size))
        outputs.append(helper.make_tensor_value_info(f"y{name}", TensorProto.FLOAT, size))
        nodes.append(helper.make_node(name, [f"x{name}"], [f"y{name}"]))
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    assert_parity(model, feeds, reference="onnx", rtol=3e-6, atol=2e-7)


@pytest.mark.parametrize("limit", [12.0, np.inf])
def test_erf_far_out_is_one(assert_parity: Any, limit: float) -> None:
    text = "g (float[4] x) => (float[4] y) { y = Erf(x) }"
    parity = assert_parity(text, {"x": [limit, -limit, 1e20, -1e20]}, reference="onnx")
    assert parity.outputs["y"].tolist() == [1, -1, 1, -1]


def test_erf_is_accurate_everywhere() -> None:
    import math

    import tensorflow as tf

    from edgeconv.convert.ops.trigonometry import erf

    x = np.linspace(-6, 6, 20001, dtype=np.float32)
    expected = np.array([math.erf(value) for value in x.tolist()])
    found = erf(tf.constant(x)).numpy()
    assert np.abs(found - expected).max() < 5e-7
