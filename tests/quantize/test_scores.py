"""Which tensors lead to scores alone, of which few are high."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.quantize.statistics.calibrate import observe_tensors
from edgeconv.quantize.statistics.calibrators import HistogramObserver
from edgeconv.quantize.statistics.calibrators.minmax import minmax
from edgeconv.quantize.statistics.calibrators.mse import mse
from edgeconv.quantize.statistics.scores import mark, rare
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph
from tests.quantize.conftest import FloatModel

_PLACES = 4000


def dense(model: FloatModel, source: int, weights: Any, bias: float = 0.0) -> int:
    array = np.asarray(weights, np.float32)
    constants = model.constant(array), model.constant(np.full(len(array), bias))
    return int(model.op("FULLY_CONNECTED", source, *constants, keepNumDims=True))


def level(model: FloatModel, trunk: int, bias: float) -> int:
    """Return logits."""
    inner = model.op("RELU", dense(model, trunk, [[1.0, 0.5], [0.5, 1.0]]))
    return dense(model, inner, [[2.0, 0.0]], bias)


def detector(path: Path, *, boxes: bool = True, bias: float = -4.0) -> Graph:
    """Return a graph of two levels, whose corners and logits are joined and split again."""
    model = FloatModel()
    trunk = model.op("RELU", dense(model, model.input(_PLACES, 1), [[1.0], [-1.0]]))
    levels = [level(model, trunk, bias) for _ in range(2)]
    if not boxes:
        model.save(path, model.op("LOGISTIC", model.op("CONCATENATION", *levels, axis=0)))
        return Graph(tflite.load(path))
    corners = dense(model, trunk, np.eye(2))
    rows = [model.op("CONCATENATION", corners, logits, axis=1) for logits in levels]
    joined = model.op("CONCATENATION", *rows, axis=0)
    sizes, axis = model.constant([2, 1], "int32"), model.constant(1, "int32")
    moved, scores = model.op("SPLIT_V", joined, sizes, axis, dtypes=("float32",) * 2, numSplits=2)
    model.save(path, model.op("MUL", moved, moved), model.op("LOGISTIC", scores))
    return Graph(tflite.load(path))


def seen(graph: Graph) -> dict[int, HistogramObserver]:
    values = np.abs(np.random.default_rng(0).normal(0, 0.3, (_PLACES, 1))).astype(np.float32)
    values[0] = 4.0
    return observe_tensors(graph, graph.activations(), [[values]])


def test_a_branch_of_scores_keeps_its_extremes(tmp_path: Path) -> None:
    graph = detector(tmp_path / "m.tflite")
    shown = seen(graph)
    found = rare(graph, shown)
    made = {index: graph.op(operator) for index, operator in graph.producers().items()}
    assert [made[index] for index in found] == 2 * ["FULLY_CONNECTED", "RELU", "FULLY_CONNECTED"]
    before = {index: one.range(mse) for index, one in shown.items()}
    mark(graph, shown)
    for index, one in shown.items():
        assert one.range(mse) == (minmax(one) if index in found else before[index])
    assert before[found[1]][1] < shown[found[1]].range(mse)[1]
    joined = HistogramObserver.joined([shown[found[1]], shown[found[1]]])
    assert joined.range(mse) == minmax(joined)


@pytest.mark.parametrize(("boxes", "bias"), [(False, -4.0), (True, 4.0), (True, -40.0)])
def test_scores_that_are_all_or_often_high_or_never_change_nothing(
    tmp_path: Path, boxes: bool, bias: float
) -> None:
    graph = detector(tmp_path / "m.tflite", boxes=boxes, bias=bias)
    assert rare(graph, seen(graph)) == []
