"""The operator that LiteRT aborts on is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.core.errors import WorkerCrashed
from edgeconv.quantize.params.qparams import QuantParams
from edgeconv.tflite.file import load, save
from edgeconv.tflite.graph import Graph
from edgeconv.toolchain.runtimes import suspect, suspects
from edgeconv.toolchain.worker.pool import WorkerPool


def _model(lab: Any, result: float) -> Any:
    """Quantize a RELU and an ADD, and set the scale of the sum."""
    model = lab.model()
    x, z = model.input(1, 8), model.input(1, 8)
    y = model.op("ADD", model.op("RELU", x), z)
    rng = np.random.default_rng(0)
    rows = [[rng.normal(size=(1, 8)).astype(np.float32) for _ in range(2)] for _ in range(4)]
    path = lab.quantize(lab.save(model, y), rows, io_dtype="int8").path
    graph = Graph(load(path))
    if result:
        graph.tensors[graph.outputs[0]].quantization = QuantParams(result, 0).stored()
        save(graph.model, path)
    return path


def test_the_operator_that_aborts_is_named(lab: Any) -> None:
    path = _model(lab, 1e-9)
    with WorkerPool() as workers:
        found = suspects.named(workers, path, WorkerCrashed("it died"))
    assert found.what == "LiteRT aborts on the operator ADD (y0)"


def test_a_model_that_runs_has_no_suspect(lab: Any) -> None:
    path = _model(lab, 0)
    assert suspect.try_each(str(path)) == len(Graph(load(path)).operators)
    crash = WorkerCrashed("it died")
    with WorkerPool() as workers:
        assert suspects.named(workers, path, crash) is crash


@pytest.mark.parametrize("where", ["missing.tflite"])
def test_without_a_file_the_crash_stays(tmp_path: Any, where: str) -> None:
    crash = WorkerCrashed("it died")
    with WorkerPool() as workers:
        assert suspects.named(workers, tmp_path / where, crash) is crash
