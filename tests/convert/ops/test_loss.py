"""Classification losses equal ONNX's."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

FORMS = list(product(["none", "sum", "mean"], [False, True], [None, -1, 2]))


@pytest.mark.parametrize("spatial", ["", ",2,3"])
@pytest.mark.parametrize("op", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_every_form(assert_parity: Any, op: str, spatial: str) -> None:
    outputs, nodes = [], []
    for number, (reduction, weighted, ignored) in enumerate(FORMS):
        shape = f"[4{spatial}]" if reduction == "none" else ""
        outputs.append(f"float{shape} y{number}")
        chosen = "" if ignored is None else f", ignore_index = {ignored}"
        operands = "x, t, w" if weighted else "x, t"
        nodes.append(f'y{number} = {op} <reduction = "{reduction}"{chosen}> ({operands})')
    text = f"""g (float[4,3{spatial}] x, int64[4{spatial}] t) => ({", ".join(outputs)})
        <float[3] w = {{0.3, 1.5, 0.7}}> {{ {" ".join(nodes)} }}"""
    labels = np.random.default_rng(0).integers(0, 3, (4, 2, 3) if spatial else 4)
    assert_parity(text, {"t": labels}, opset=13, reference="onnx")


def test_ignored_labels_may_be_no_class(assert_parity: Any) -> None:
    text = """g (float[4,3] x, int64[4] t) => (float y, float[4,3] p) {
        y, p = SoftmaxCrossEntropyLoss <ignore_index = -100> (x, t) }"""
    assert_parity(text, {"t": [0, -100, 2, -100]}, opset=13, reference="onnx")
