from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Artifact, Format, TensorSpec
from edgeconv.core.errors import InvalidModel, UsageError
from edgeconv.tflite import file as tflite
from edgeconv.toolchain.environments import tflite_runtime
from edgeconv.toolchain.runtimes import runtimes_with
from edgeconv.toolchain.runtimes.op_versions import newer_operators, op_versions
from edgeconv.toolchain.worker.process import Worker

RUNTIME = "tflite-runtime 2.14.0"
X = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)


def _addition(path: Path, builtin: str = "ADD", version: int = 1) -> Artifact:
    """Write a model of one operator with two inputs, ``x + x`` by default."""
    model, graph, operator = tflite.ModelT(), tflite.SubGraphT(), tflite.OperatorT()
    graph.tensors, graph.operators = [], [operator]
    model.version, model.subgraphs, model.buffers = 3, [graph], [tflite.BufferT()]
    model.operatorCodes = []
    operator.opcodeIndex = tflite.opcode_index(model, builtin, version)
    graph.inputs = [tflite.add_tensor(model, graph, "x", X.shape, "float32")]
    graph.outputs = [tflite.add_tensor(model, graph, "y", X.shape, "float32")]
    operator.inputs, operator.outputs = [graph.inputs[0]] * 2, graph.outputs
    tflite.save(model, path)
    specs = [TensorSpec.plain(name, (1, 4), "float32") for name in ("x", "y")]
    return Artifact(Format.TFLITE, path, (specs[0],), (specs[1],))


def test_newer_operators_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    _addition(path)
    assert newer_operators(path, RUNTIME) == []
    newest = op_versions()[RUNTIME]["ADD"]
    _addition(path, version=newest + 1)
    assert newer_operators(path, RUNTIME) == [
        f"ADD has version {newest + 1}, {RUNTIME} knows versions up to {newest}"
    ]
    _addition(path, "STABLEHLO_ADD")
    assert newer_operators(path, RUNTIME) == [f"STABLEHLO_ADD is not in {RUNTIME}"]
    with pytest.raises(UsageError):
        newer_operators(path, "tflite-runtime 0.1")


def test_the_interpreter_of_tensorflow_runs_models(tmp_path: Path) -> None:
    assert _run("tf", _addition(tmp_path / "m.tflite"), tmp_path).startswith("tensorflow-lite 2.")


@pytest.mark.slow
def test_the_table_is_what_the_runtime_says(tflite_runtime_python: Path) -> None:
    table = op_versions()[RUNTIME]
    asked = [(name, version + step) for name, version in table.items() for step in (0, 1)]
    asked += [(name, 1) for name in ("STABLEHLO_ADD", "STABLEHLO_COMPOSITE", "DILATE")]
    known, name = tflite_runtime.known_operators(tflite_runtime_python, asked)
    assert name == RUNTIME
    expected = [there for _ in table for there in (True, False)]
    assert dict(zip(asked, known, strict=True)) == dict(
        zip(asked, [*expected, False, False, False], strict=True)
    )


def test_it_runs_models_and_refuses_newer_ones(tmp_path: Path, tflite_runtime_python: Path) -> None:
    assert _run("tflite-runtime", _addition(tmp_path / "m.tflite"), tmp_path) == RUNTIME
    with pytest.raises(InvalidModel, match="lacks operators"):
        _run("tflite-runtime", _addition(tmp_path / "n.tflite", version=9), tmp_path)


def _run(name: str, artifact: Artifact, folder: Path) -> str:
    """Run the addition with a runtime in a worker; return what ran it."""
    feeds, results = folder / "feeds.npz", folder / "results.npz"
    write_npz(feeds, {"x": np.stack([X, -X])})
    _, function = runtimes_with(name)[Format.TFLITE]
    with Worker(name) as worker:
        answer = worker.call(
            function, artifact=artifact.to_dict(), feeds=str(feeds), results=str(results)
        )
    np.testing.assert_array_equal(read_npz(results)["y"], np.stack([2 * X, -2 * X]))
    assert answer["milliseconds"] > 0
    return str(answer["runtime"])
