"""What a layer multiplies its weights with: products with them are what the layer computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.quantize.recovery.patches import Window
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(
    ("strides", "dilations", "size"),
    [((1, 1), (1, 1), 3), ((2, 1), (1, 1), 3), ((1, 1), (2, 1), 2)],
)
def test_rows_of_a_convolution(
    lab: Any, padding: int, strides: tuple[int, int], dilations: tuple[int, int], size: int
) -> None:
    rng = np.random.default_rng(0)
    model = lab.model()
    weight = rng.standard_normal((5, size, size, 2)).astype(np.float32)
    out = model.op(
        "CONV_2D", model.input(1, 7, 6, 2), model.constant(weight), model.constant(np.zeros(5)),
        strideH=strides[0], strideW=strides[1], padding=padding,
        dilationHFactor=dilations[0], dilationWFactor=dilations[1],
    )  # fmt: skip
    artifact = lab.save(model, out)
    value = rng.standard_normal((1, 7, 6, 2)).astype(np.float32)
    expected = lab.run(artifact.path, [[value]])[0].reshape(-1, 5)
    graph = Graph(tflite.load(artifact.path))
    rows = Window.of(graph, graph.operators[0]).rows(value, 1000)
    np.testing.assert_allclose(rows @ weight.reshape(5, -1).T, expected, rtol=1e-4, atol=1e-5)
    few = Window.of(graph, graph.operators[0]).rows(value, 4)
    assert 4 <= len(few) < len(rows)
