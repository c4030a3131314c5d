"""`edgeconv inspect` on every format, as a user calls it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from edgeconv.commands.group import cli
from edgeconv.core.bundle import describe_artifact
from edgeconv.core.disk import sha256_of
from edgeconv.inspection.inspect import inspect
from edgeconv.inspection.text import render
from edgeconv.toolchain.worker.process import Worker
from tests.quantize.conftest import Lab
from tests.targets.coral import pairs

_SOURCE, _COMPILED = pairs.SMALL / "source.tflite", pairs.SMALL / "compiled.tflite"


def _inspect(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)])


def _json(*arguments: Any) -> dict[str, Any]:
    result = _inspect(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        "g (float[1,3,N] x) => (float[1,3,N] y) { t = Relu(x) y = Sigmoid(t) }"
    )
    onnx.save(model, path)
    return path


def test_a_tflite_file_shows_its_operators_and_quantization() -> None:
    found = _json(_SOURCE)
    assert (found["format"], found["bytes"]) == ("tflite", _SOURCE.stat().st_size)
    assert [(op["op"], op["version"]) for op in found["ops"]] == [
        ("CONCATENATION", 1),
        ("SPLIT", 1),
        ("CONCATENATION", 1),
    ]
    assert found["inputs"][0] == {
        "name": "input1",
        "shape": [1, 8, 8, 3],
        "dtype": "uint8",
        "scale": [1 / 128],
        "zero_point": [128],
    }
    text = _inspect(_SOURCE).stdout
    assert "CONCATENATION" in text
    assert "uint8[1, 8, 8, 6]  scale 0.0078125, zero point 128" in text


def test_a_compiled_file_shows_its_package() -> None:
    found = _json(_COMPILED)
    assert found["format"] == "edgetpu"
    (package,) = found["packages"]
    assert package["cached_parameter_bytes"] == 192
    assert [item["type"] for item in package["executables"]] == [
        "execution only",
        "parameter caching",
    ]
    text = _inspect(_COMPILED).stdout
    assert "minimum runtime     13" in text
    assert "cached parameters   192 bytes" in text


def test_the_placement_has_the_keys_that_scripts_rely_on() -> None:
    found = _json(_SOURCE, "--target", "coral")
    assert (found["on_edgetpu"], found["on_cpu"]) == (3, 0)
    assert {"cached_parameter_bytes", "streamed_parameter_bytes"} <= found.keys()
    assert [(op["index"], op["op"], op["placement"]) for op in found["ops"]] == [
        (0, "CONCATENATION", "edgetpu"),
        (1, "SPLIT", "edgetpu"),
        (2, "CONCATENATION", "edgetpu"),
    ]
    assert all(op["reason"] for op in found["ops"])


def test_the_placement_is_shown() -> None:
    text = _inspect(_SOURCE, "--target", "coral").stdout
    assert "3 of 3 operators on the Edge TPU" in text
    assert "parameters, estimated" in text


def test_on_a_cpu_everything_runs_there() -> None:
    assert "all 3 operators run on the CPU" in _inspect(_SOURCE, "--target", "cpu").stdout


@pytest.mark.slow
def test_an_onnx_file_is_parsed_in_a_worker(onnx_file: Path) -> None:
    found = _json(onnx_file)
    assert found["op_counts"] == {"Relu": 1, "Sigmoid": 1}
    assert found["opsets"] == {"ai.onnx": 17}
    assert found["inputs"] == [{"name": "x", "shape": [1, 3, "N"], "dtype": "float32"}]
    assert found["unsupported"] == []
    text = render(found)
    assert "ONNX model" in text
    assert "every operator can be converted" in text


@pytest.mark.slow
def test_what_would_fail_the_conversion_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        "g (float[1,3] x) => (float[1,3] y) { t = Relu(x) y = Bernoulli(t) }"
    )
    onnx.save(model, path)
    found = _json(path)
    (problem,) = found["unsupported"]
    assert problem["op"].startswith("Bernoulli")
    assert problem["reason"]
    assert "1 of its nodes cannot be converted" in render(found)


@pytest.mark.slow
def test_a_saved_model_shows_its_signature(tmp_path: Path) -> None:
    import tensorflow as tf

    class Doubles(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, "x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"y": tf.nn.relu(x) * 2.0}

    module = Doubles()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.__call__})
    found = _json(tmp_path)
    (signature,) = found["signatures"]
    assert signature["name"] == "serving_default"
    assert signature["inputs"] == [{"name": "x", "shape": [1, 4], "dtype": "float32"}]
    assert found["op_counts"]["Relu"] == 1


def _bad(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [b"", b"hello world", b"\x00\x00\x00\x00TFL3", b"\x08\x08\xff\xff\xff", b"PK\x03\x04rest"],
)
def test_bad_files_are_the_callers_error(tmp_path: Path, content: bytes) -> None:
    result = _inspect(_bad(tmp_path, "m.tflite", content))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output


def test_cut_models_are_the_callers_error(tmp_path: Path) -> None:
    result = _inspect(_bad(tmp_path, "m.tflite", _COMPILED.read_bytes()[:20_000]))
    assert result.exit_code == 2


def test_a_damaged_saved_model_is_the_callers_error(tmp_path: Path) -> None:
    _bad(tmp_path, "saved_model.pb", b"\xff\xff\xff")
    result = _inspect(tmp_path)
    assert result.exit_code == 2
    assert "saved_model.pb" in result.stderr


def test_a_missing_file_is_the_callers_error(tmp_path: Path) -> None:
    assert _inspect(tmp_path / "none").exit_code == 2
    assert _inspect(tmp_path).exit_code == 2


def test_unknown_targets_are_the_callers_error() -> None:
    assert _inspect(_SOURCE, "--target", "toaster").exit_code == 2


@pytest.mark.parametrize("target", ["coral", "cpu"])
def test_a_file_is_read_once(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def call(self: Worker, function: str, **arguments: Any) -> Any:
        calls.append(function)
        return original(self, function, **arguments)

    original = Worker.call
    monkeypatch.setattr(Worker, "call", call)
    found = inspect(_SOURCE, target)
    assert found["on_edgetpu"] + found["on_cpu"] == 3
    assert len(calls) == 1


def test_only_tflite_files_have_a_placement(onnx_file: Path) -> None:
    result = _inspect(onnx_file, "--target", "coral")
    assert result.exit_code == 2
    assert "torch2tflite MODEL --target coral" in result.stderr


def test_split_outputs_show_how_they_are_joined(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    model = lab.model()
    x = model.input(1, 6, 2)
    wide = model.op("MUL", x, model.constant(300.0))
    parts = wide, model.op("LOGISTIC", x), wide
    output = model.op("CONCATENATION", *parts, axis=2)
    rng = np.random.default_rng(0)
    rows = [[rng.normal(size=(1, 6, 2)).astype(np.float32)] for _ in range(4)]
    artifact = lab.quantize(lab.save(model, output), rows, io_dtype="int8")
    assert artifact.joins
    directory = artifact.path.parent
    entry = describe_artifact(artifact, directory)
    entry |= {"name": "tflite_int8", "seconds": 0.0}
    manifest = {
        "schema_version": 1, "status": "complete", "model": "m", "verdict": "pass",
        "options": {}, "stages": [entry], "files": [],
    }  # fmt: skip
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (join,) = _json(artifact.path)["joins"]
    assert _json(directory)["stages"][0]["joins"] == [join]
    assert join["output"] == "y0"
    assert sorted(
        place for part in join["parts"] for ends in part["slices"] for place in range(*ends)
    ) == list(range(6))
    for path in (artifact.path, directory):
        text = _inspect(path).stdout
        assert "y0 is joined along axis 2: y0_0 at " in text
        assert "2:4" in text
    (directory / "manifest.json").write_text("{")
    assert "joins" not in _json(artifact.path)


def test_advice_that_a_bundle_follows_already_is_left_out(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    model = lab.model()
    x = model.op("RELU", model.op("HARD_SWISH", model.op("RELU", model.input(1, 4, 4, 4))))
    rows = [[np.random.default_rng(0).random((1, 4, 4, 4), np.float32)]]
    artifact = lab.quantize(lab.save(model, x), rows, io_dtype="int8")
    alone = tmp_path / "alone" / "m.tflite"
    alone.parent.mkdir()
    shutil.copy(artifact.path, alone)
    words = "convert with --target coral"
    assert words in _inspect(alone, "--target", "coral").output
    made = {"schema_version": 1, "status": "complete", "options": {"target": "coral"}}
    stage = {
        "name": "tflite_int8", "file": "m.tflite", "format": "tflite", "inputs": [], "outputs": [],
        "sha256": sha256_of(alone), "bytes": alone.stat().st_size, "seconds": 0.0,
    }  # fmt: skip
    manifest = {**made, "stages": [stage], "files": []}
    (alone.parent / "manifest.json").write_text(json.dumps(manifest))
    for path in (alone, alone.parent):
        found = _inspect(path, "--target", "coral")
        assert found.exit_code == 0, found.stderr
        assert words not in found.output
    (alone.parent / "manifest.json").write_text("{")
    assert words in _inspect(alone, "--target", "coral").output
