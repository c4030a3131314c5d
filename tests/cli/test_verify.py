"""`edgeconv verify`, as users and CI systems call it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from edgeconv.core.bundle import MANIFEST, describe_artifact, open_bundle
from edgeconv.core.seal import sealed
from edgeconv.reports.schema import parity_schema
from edgeconv.tflite import file as tflite
from tests.reports.json_schema import violations

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(digits_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits_bundle, tmp_path / "digits.edgeconv"))


def without_runs(parity: dict[str, Any]) -> list[Any]:
    return [(s["stage"], s["status"], s["outputs"], s["previous"]) for s in parity["stages"]]


def test_a_bundle_verifies_as_it_did_when_it_was_made(
    edgeconv: Callable[..., Any], digits_bundle: Path, tmp_path: Path
) -> None:
    before = open_bundle(digits_bundle).parity()
    done = edgeconv(
        "verify", digits_bundle, "--json", "--baseline", digits_bundle, "--junit", "j.xml",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parity = json.loads(done.stdout)
    assert without_runs(parity) == without_runs(before)
    assert parity["regressions"] == []
    assert parity["calibration"] == before["calibration"]
    assert before["calibration"]["samples"] == 100
    assert not before["calibration"]["generated"]
    schema = parity_schema()
    assert not list(violations(parity, schema, schema))
    assert not list(violations(before, schema, schema))
    root = ET.parse(tmp_path / "j.xml").getroot()
    assert [suite.get("name") for suite in root] == [s["stage"] for s in parity["stages"]]
    assert root.get("failures") == "0"


def test_gates_from_the_command_line_and_from_a_file(
    edgeconv: Callable[..., Any], digits_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "edgeconv.toml").write_text("[gates.tflite_int8]\nsqnr = 70\n")
    failed = edgeconv("verify", digits_bundle, "--markdown", "-", "--junit", "j.xml", cwd=tmp_path)
    assert failed.returncode == 1, failed.stderr
    assert "is below 70" in failed.stdout
    assert "| `tflite_int8` |" in failed.stdout
    failures = ET.parse(tmp_path / "j.xml").getroot().findall(".//failure")
    assert len(failures) == 1
    assert "sqnr_db" in str(failures[0].get("message"))
    passed = edgeconv(
        "verify", digits_bundle, "--no-layers", "--gate", "tflite_int8:sqnr=20", cwd=tmp_path
    )
    assert passed.returncode == 0, passed.stderr
    lines = passed.stdout.splitlines()
    assert lines[0] == "digits: parity passed at every stage"
    assert max(map(len, lines)) <= 80


def test_a_file_that_was_changed_is_refused(edgeconv: Callable[..., Any], copy: Path) -> None:
    path = copy / "digits_int8.tflite"
    raw = bytearray(path.read_bytes())
    raw[-9] ^= 1
    path.write_bytes(raw)
    done = edgeconv("verify", copy, "--no-layers")
    assert done.returncode == 2
    assert "was changed or damaged" in done.stderr


def rewrite(bundle: Path, stage: str, change: Callable[[Any], None]) -> None:
    """Change a .tflite file of a bundle, and its digest."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    artifact = open_bundle(bundle).artifacts[stage]
    model = tflite.load(artifact.path)
    change(model)
    tflite.save(model, artifact.path)
    entry = next(item for item in manifest["stages"] if item["name"] == stage)
    entry |= describe_artifact(artifact, bundle)
    (bundle / MANIFEST).write_text(json.dumps(sealed(manifest)))


def test_a_regression_against_the_baseline_fails(
    edgeconv: Callable[..., Any], digits_bundle: Path, copy: Path
) -> None:
    def spoil(model: Any) -> None:
        held = [buffer for buffer in model.buffers if buffer.data is not None]
        largest = max(held, key=lambda buffer: len(buffer.data))
        data = np.array(largest.data)
        data[: len(data) // 4] = 0
        largest.data = data

    rewrite(copy, "tflite_int8", spoil)
    assert edgeconv("verify", copy, "--no-layers", "--gate", "tflite_int8:sqnr=-20").returncode == 0
    done = edgeconv(
        "verify",
        copy,
        "--gate",
        "tflite_int8:sqnr=-20",
        "--baseline",
        digits_bundle / "parity.json",
        "--no-layers",
    )
    assert done.returncode == 1, done.stdout
    assert "regression" in done.stdout


def test_two_models_of_different_formats(
    edgeconv: Callable[..., Any], digits: Path, digits_bundle: Path, tmp_path: Path
) -> None:
    loose = tmp_path / "loose.tflite"
    shutil.copy(digits_bundle / "digits_fp32.tflite", loose)
    saved_model = shutil.copytree(digits_bundle / "digits_saved_model", tmp_path / "sm")
    inside = digits_bundle / "digits_int8.tflite"
    for first, second, layout in (
        (digits / "digits.pt2", loose, "NHWC"),
        (inside, digits / "digits.pt2", "shapes agree"),
        (loose, digits_bundle / "digits.onnx", "NCHW"),
        (saved_model, loose, "shapes agree"),
    ):
        done = edgeconv("verify", first, second)
        assert done.returncode == 0, done.stderr
        assert "image = image: same name" in done.stdout
        assert layout in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_torch_programs_are_loaded_in_a_worker(digits: Path) -> None:
    program = str(digits / "digits.pt2")
    code = (
        "import sys; from edgeconv.cli import run\n"
        f"assert run(['verify', {program!r}, {program!r}]) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "output0 = output0: same name" in done.stdout


def test_an_endless_program_is_refused(edgeconv: Callable[..., Any], tmp_path: Path) -> None:
    import torch

    from tests.convert.test_torchscript_guard import Endless

    torch.jit.script(Endless()).save(str(tmp_path / "m.pt"))
    done = edgeconv("verify", tmp_path / "m.pt", tmp_path / "m.pt")
    assert done.returncode == 2
    assert "never ends" in done.stderr


def test_a_layout_that_cannot_be_told_is_not_guessed(
    edgeconv: Callable[..., Any], tmp_path: Path
) -> None:
    import onnx

    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[1,4,4,4] x) => (float[1,4,4,4] y) { y = Relu(x) }"""
    path = tmp_path / "cube.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    done = edgeconv("verify", path, path)
    assert done.returncode == 2
    assert "cannot be told" in done.stderr
    assert edgeconv("verify", path, path, "--layout", "source").returncode == 0


@pytest.mark.parametrize(
    ("node", "stage", "low", "high"),
    [("linear", "tflite_int8", 25, 60), ("saved_model:linear", "saved_model", 100, 300)],
)
def test_a_node_alone(
    edgeconv: Callable[..., Any],
    digits_bundle: Path,
    tmp_path: Path,
    node: str,
    stage: str,
    low: float,
    high: float,
) -> None:
    done = edgeconv("verify", digits_bundle, "--isolate", node, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"linear alone in {stage}" in done.stdout
    directory = tmp_path / f"{node.replace(':', '_')}.isolated"
    script = directory / "show_error.py"
    assert len(script.read_text().splitlines()) <= 10
    shown = subprocess.run(
        [sys.executable, script.name], cwd=directory, capture_output=True, text=True, check=True
    )
    figure = float(shown.stdout.split("SQNR dB ")[1])
    assert low < figure <= high
    told = float(done.stdout.split(f"{stage}: ")[1].split(" dB")[0])
    assert told == pytest.approx(figure, abs=0.3)


def test_a_node_that_is_not_there_is_named_with_those_that_are_close(
    edgeconv: Callable[..., Any], digits_bundle: Path, tmp_path: Path
) -> None:
    wrong = edgeconv("verify", digits_bundle, "--isolate", "liner", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "did you mean linear" in wrong.stderr
    assert not list(tmp_path.iterdir())
