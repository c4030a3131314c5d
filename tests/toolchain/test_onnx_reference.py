"""Valid ONNX files that onnxruntime cannot run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeconv.convert.onnx.file import open_onnx
from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Arrays, Artifact, Format, TensorSpec
from edgeconv.core.errors import LimitExceeded, NoRuntime
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.parity.check import Verifier
from edgeconv.pipeline.run import convert
from edgeconv.toolchain.runtimes import RUNTIMES
from edgeconv.toolchain.worker.pool import WorkerPool

# onnxruntime 1.2x: "Batchwise recurrent operations (layout == 1) are not supported".
GRU = """<ir_version: 8, opset_import: ["": 17]>
g (float[2,5,3] x) => (float[2,5,1,4] y) { y = GRU<hidden_size=4, layout=1>(x, w, r, b) }"""
# It has no Relu of int16.
INT16 = """<ir_version: 8, opset_import: ["": 17]>
g (float[2,5,3] x) => (float[2,5,3] y) { i = Cast<to=5>(x) j = Relu(i) y = Cast<to=1>(j) }"""
HUGE = """<ir_version: 8, opset_import: ["": 17]>
g (float[2,5,3] x) => (float[2,5,3] y) {
  i = Cast<to=5>(x) j = Relu(i) y = Cast<to=1>(j)
  s = Constant<value_ints=[4398046511104]>() k = ConstantOfShape(s) m = Identity(k) }"""
FOREIGN = """<ir_version: 8, opset_import: ["": 17, "nowhere": 1]>
g (float[2,5,3] x) => (float[2,5,3] y) { y = nowhere.Op(x) }"""


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(timeout=120) as pool:
        yield pool


def save(text: str, folder: Path) -> Path:
    """Write a graph, with weights for the recurrent layer."""
    model = onnx.parser.parse_model(text)
    if "GRU" in text:
        rng = np.random.default_rng(0)
        for name, shape in {"w": (1, 12, 3), "r": (1, 12, 4), "b": (1, 24)}.items():
            values = rng.normal(size=shape).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def run(pool: WorkerPool, path: Path, feeds: Arrays) -> tuple[Arrays, str]:
    graph = onnx.load(path).graph
    specs = [
        tuple(
            TensorSpec.plain(
                item.name, tuple(d.dim_value for d in item.type.tensor_type.shape.dim), "float32"
            )
            for item in items
        )
        for items in (graph.input, graph.output)
    ]
    artifact = Artifact(Format.ONNX, path, specs[0], specs[1])
    write_npz(path.parent / "feeds.npz", feeds)
    kind, function = RUNTIMES[Format.ONNX]
    results = path.parent / "results.npz"
    answer = pool.call(
        kind,
        function,
        artifact=artifact.to_dict(),
        feeds=str(path.parent / "feeds.npz"),
        results=str(results),
    )
    return read_npz(results), str(answer["runtime"])


def samples() -> Arrays:
    return {"x": np.random.default_rng(1).uniform(0, 9, (3, 2, 5, 3)).astype(np.float32)}


def test_the_reference_implementation_takes_over(pool: WorkerPool, tmp_path: Path) -> None:
    found, runtime = run(pool, save(INT16, tmp_path), samples())
    np.testing.assert_array_equal(found["y"], np.trunc(samples()["x"]))
    assert runtime == f"onnx reference {onnx.__version__}"


def test_what_neither_has_is_said(pool: WorkerPool, tmp_path: Path) -> None:
    with pytest.raises(NoRuntime, match="nothing here runs this ONNX file") as caught:
        run(pool, save(FOREIGN, tmp_path), samples())
    assert "Traceback" not in str(caught.value)
    assert "nowhere" in caught.value.details


def test_what_no_memory_holds_is_said(pool: WorkerPool, tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded, match="does not fit in memory"):
        run(pool, save(HUGE, tmp_path), samples())


@pytest.mark.parametrize("text", [GRU, INT16])
def test_a_conversion_that_starts_there_is_checked(text: str, tmp_path: Path) -> None:
    result = convert(Job(save(text, tmp_path), ConvertOptions(), output=tmp_path / "out"))
    assert result.passed and result.verified
    assert any("onnx reference" in warning for warning in result.manifest["warnings"])


def test_without_a_reference_stages_are_skipped(
    pool: WorkerPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = open_onnx(save(INT16, tmp_path))
    verifier = Verifier(pool, samples(), {}, tmp_path, "onnx")

    def compute(inputs: Arrays) -> Any:
        raise NoRuntime("nothing here runs this ONNX file")

    with caplog.at_level(logging.WARNING, "edgeconv"):
        verifier.compute_reference(compute)
    verifier.check("saved_model", artifact)
    assert verifier.stages[0].status == "skipped"
    assert "there is no reference" in verifier.stages[0].reasons[0]
    assert "parity is not measured" in caplog.text
