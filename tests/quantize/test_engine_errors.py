"""What the engine refuses, in which words, and that it leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.errors import InvalidData, InvalidModel, UnsupportedModel, UsageError
from edgeconv.quantize.engine import quantize
from edgeconv.toolchain.worker import Worker

_ROWS = [[np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)]]


def _relu(lab: Any) -> Any:
    model = lab.model()
    return lab.save(model, model.op("RELU", model.input(1, 8)))


def test_operators_without_an_int8_form_are_listed_together(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 8)
    options = {"exclusive": False, "reverse": False}
    total = model.op("CUMSUM", x, model.constant(1, "int32"), **options)
    angle = model.op("ATAN2", x, total)
    artifact = lab.save(model, total, model.op("RELU", angle), model.op("POW", x, x))
    with pytest.raises(UnsupportedModel) as caught:
        lab.quantize(artifact, _ROWS)
    assert {node.op for node in caught.value.nodes} == {"CUMSUM", "ATAN2", "POW"}
    assert all(node.node for node in caught.value.nodes)
    assert not (lab.folder / "int8.tflite").exists()


def test_integer_parts_need_no_rule(lab: Any) -> None:
    model = lab.model()
    numbers = model.input(1, 8, dtype="int32")
    options = {"exclusive": False, "reverse": False}
    total = model.op("CUMSUM", numbers, model.constant(1, "int32"), dtypes=("int32",), **options)
    artifact = lab.save(model, total, model.op("RELU", model.input(1, 8)))
    quantized = lab.quantize(artifact, [[np.ones((1, 8), np.int32), *_ROWS[0]]])
    assert [spec.dtype for spec in quantized.outputs] == ["int32", "float32"]


@pytest.mark.parametrize("mode", ["int8", "dynamic", "fp16"])
def test_a_quantized_model_is_refused(lab: Any, mode: str) -> None:
    quantized = lab.quantize(_relu(lab), _ROWS)
    with pytest.raises(InvalidModel, match="quantized already"):
        lab.quantize(quantized, _ROWS, mode=mode)


def test_a_model_without_float_tensors_is_refused(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 8, dtype="int32")
    artifact = lab.save(model, model.op("ADD", x, x, dtypes=("int32",)))
    with pytest.raises(InvalidModel, match="nothing to quantize"):
        lab.quantize(artifact, [[np.ones((1, 8), np.int32)]])


def test_a_dynamic_shape_is_refused(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 8)
    model.graph.tensors[x].shapeSignature = np.array([-1, 8], np.int32)
    artifact = lab.save(model, model.op("RELU", x))
    with pytest.raises(InvalidModel, match=r"x0 has no fixed shape.*\[-1, 8\](.|\n)*--input-shape"):
        lab.quantize(artifact, _ROWS)


def test_a_variable_is_refused(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, model.op("RELU", model.input(1, 8)))
    model.graph.tensors[-1].isVariable = True
    artifact = lab.save(model, *model.graph.outputs)
    with pytest.raises(UnsupportedModel, match="state"):
        lab.quantize(artifact, _ROWS)


@pytest.mark.parametrize("calibrator", ["minmax", "mse"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_number_in_the_samples_names_the_input(lab: Any, calibrator: str, bad: float) -> None:
    row = _ROWS[0][0].copy()
    row[0, 3] = bad
    with pytest.raises(InvalidData, match=r"x0: .*NaN or infinite"):
        lab.quantize(_relu(lab), [[row], *_ROWS], calibrator=calibrator)


@pytest.mark.parametrize("calibrator", ["minmax", "mse"])
def test_a_bad_number_inside_names_the_tensor(lab: Any, calibrator: str) -> None:
    model = lab.model()
    logs = model.op("LOG", model.input(1, 8))
    model.graph.tensors[logs].name = "the_logs"
    artifact = lab.save(model, model.op("RELU", logs))
    with pytest.raises(InvalidData, match="the_logs"):
        lab.quantize(artifact, _ROWS, calibrator=calibrator)


def test_a_bad_weight_is_refused(lab: Any) -> None:
    model = lab.model()
    weight = np.full((3, 8), np.nan, np.float32)
    dense = model.op("FULLY_CONNECTED", model.input(1, 8), model.constant(weight), -1, version=6)
    artifact = lab.save(model, dense)
    with pytest.raises((InvalidModel, InvalidData), match="NaN"):
        lab.quantize(artifact, _ROWS)


def test_samples_must_fit(lab: Any) -> None:
    artifact = _relu(lab)
    with pytest.raises(InvalidData, match="x0"):
        lab.quantize(artifact, [[np.zeros((1, 9), np.float32)]])
    with pytest.raises(InvalidData, match="at least one sample"):
        empty = lab.folder / "empty.npz"
        np.savez(empty, x0=np.zeros((0, 1, 8), np.float32))
        quantize(artifact.to_dict(), str(lab.folder / "out"), "int8", samples=str(empty))
    with pytest.raises(InvalidData, match="lack inputs"):
        other = lab.folder / "other.npz"
        np.savez(other, y=np.zeros((1, 1, 8), np.float32))
        quantize(artifact.to_dict(), str(lab.folder / "out"), "int8", samples=str(other))


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "int4"},
        {"mode": "int8", "io_dtype": "float16"},
        {"mode": "int8", "calibrator": "best"},
        {"mode": "int8"},
        {"mode": "fp16", "io_dtype": "int8"},
    ],
)
def test_wrong_arguments(lab: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        quantize(_relu(lab).to_dict(), str(lab.folder / "out"), **arguments)


def test_a_missing_model_file(lab: Any) -> None:
    artifact = _relu(lab)
    artifact.path.unlink()
    with pytest.raises(InvalidModel, match="cannot be read"):
        lab.quantize(artifact, _ROWS)


def test_progress_counts_the_samples(lab: Any) -> None:
    seen: list[tuple[int, int]] = []
    lab.quantize(_relu(lab), _ROWS * 3, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_engine_runs_in_a_worker(lab: Any, tmp_path: Path) -> None:
    artifact = _relu(lab)
    with Worker("quantization") as worker:
        result = worker.call(
            "edgeconv.quantize.engine:quantize",
            model=artifact.to_dict(),
            path=str(tmp_path / "worker.tflite"),
            mode="int8",
            samples=lab.samples(artifact, _ROWS),
        )
    assert result["format"] == "tflite"
    assert Path(result["path"]).exists()
