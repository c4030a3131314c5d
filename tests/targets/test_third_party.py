"""A target of another package, installed into a fresh environment, in every command.

The package is ``standin_npu`` beside this file: its device and its compiler are stand-ins.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.environments import ROOT, copied, install

pytestmark = pytest.mark.slow

DIGITS = ROOT / "examples" / "digits"
PACKAGE = Path(__file__).parent / "standin_npu"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs ``edgeconv`` of an environment that has it and the package, and no more."""
    folder = tmp_path_factory.mktemp("fresh")
    package = shutil.copytree(PACKAGE, folder / "package")
    python, added = install(folder, str(copied(folder)), str(package))
    assert added == {"edgeconv", "standin_npu"}

    def call(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            [python, "-P", "-m", "edgeconv", *map(str, arguments)],
            cwd=folder, env={**environment, **more}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return call


@pytest.fixture(scope="module")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits for that target, converted and compiled by the command."""
    path = tmp_path_factory.mktemp("made") / "digits.edgeconv"
    done = run(
        "torch2tflite", DIGITS / "digits.pt2", "--target=standin-npu", "--quantize=int8",
        f"--calibration-data={DIGITS / 'calibration.npz'}", "--gate=npu:sqnr=10", "-o", path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return path


def _json(done: subprocess.CompletedProcess[str], status: int = 0) -> dict[str, Any]:
    assert done.returncode == status, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_pipeline_ends_with_its_compiled_model(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    last = manifest["stages"][-1]
    assert (last["name"], last["format"], last["target"]) == ("npu", "compiled", "standin-npu")
    assert last["file"] == "digits_int8_npu.bin"
    assert last["compiled"]["cores"] == 1
    assert manifest["target"] == {"notes": [], "name": "standin-npu", "compiled": True}


def test_where_operators_run_is_what_the_target_says(run: Run, bundle: Path) -> None:
    found = _json(run("inspect", bundle, "--target=standin-npu", "--json"))
    there = [op["op"] for op in found["ops"] if op["placement"] == "npu"]
    assert there
    assert set(there) <= {"CONV_2D", "FULLY_CONNECTED"}
    assert (found["on_npu"], found["on_npu"] + found["on_cpu"]) == (len(there), len(found["ops"]))
    assert found["figures"]["cycles"] > 0
    text = run("inspect", bundle, "--target=standin-npu").stdout
    assert f"{len(there)} of {len(found['ops'])} operators on the stand-in NPU" in text


def test_the_compiled_file_is_inspected(run: Run, bundle: Path) -> None:
    file = bundle / "digits_int8_npu.bin"
    found = _json(run("inspect", file, "--json"))
    assert (found["format"], found["compiled_for"]) == ("compiled", "standin-npu")
    text = run("inspect", file).stdout
    assert "model compiled for the stand-in NPU" in text
    assert "for 1 cores" in text
    assert "stage npu" in run("inspect", bundle).stdout


def test_where_the_package_is_missing_its_file_is_said_to_be_for_it(bundle: Path) -> None:
    command = [sys.executable, "-m", "edgeconv", "inspect", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compiled for standin-npu, a target that is not installed here" in done.stdout


def test_files_and_bundles_are_compiled(run: Run, bundle: Path, tmp_path: Path) -> None:
    done = run("compile", bundle, "--npu-cores=4", "-o", tmp_path, "--json")
    (model,) = _json(done)["models"]
    assert (model["file"], model["cores"]) == ("digits_int8_npu.bin", 4)
    assert (tmp_path / model["file"]).is_file()
    done = run("compile", bundle / "digits_int8.tflite", "--target=standin-npu", "-o", tmp_path)
    assert "cores       1" in done.stdout
    assert "--npu-cores" in run("compile", "--help").stdout
    wrong = run("compile", bundle, "--num-segments=2", "-o", tmp_path)
    assert wrong.returncode == 2
    assert "no option of --target standin-npu" in wrong.stderr
    missing = run("compile", bundle, "-o", tmp_path, STANDIN_NPU_NO_COMPILER="1")
    assert missing.returncode == 4
    assert "stand-in compiler is not installed" in missing.stderr


def test_it_is_deployed_to_its_device(run: Run, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "digits.edgeconv")
    found = _json(run("deploy", copy, "--runs=3", "--json"))
    assert (found["stage"], found["ran_on"], found["fallback"]) == ("npu", "npu", None)
    assert found["runtime"].endswith(", stand-in")
    assert found["file"] == "digits_int8_npu.bin"
    assert found["gate"]["sqnr_db"] == 9.0
    assert found["notes"] == ["driver 1.0"]
    parity = json.loads((copy / "parity.json").read_text())
    assert parity["stages"][-1]["ran_on"] == "npu"
    assert "npu" in (copy / "report.html").read_text()


def test_without_the_device_it_says_so(run: Run, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "digits.edgeconv")
    options = ("deploy", copy, "--runs=3", "--device=usb")
    done = run(*options, STANDIN_NPU_ABSENT="1")
    assert done.returncode == 0, done.stderr
    assert "ran on   the CPU, not the stand-in NPU" in done.stdout
    assert "there is no stand-in NPU (usb)" in done.stdout
    assert "plug the stand-in in" in done.stdout
    refused = run(*options, "--no-cpu-fallback", STANDIN_NPU_ABSENT="1")
    assert refused.returncode == 4
    assert "was not run on the stand-in NPU" in refused.stderr


def test_it_is_exported_with_its_part(run: Run, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    done = run("deploy", bundle, "--export", folder, "--runs=3")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in folder.iterdir()}
    assert {"runner.py", "device_part.py", "digits_int8_npu.bin"} <= names
    assert "the stand-in NPU" in (folder / "README.md").read_text()


def test_the_compiled_stage_is_measured(run: Run, bundle: Path) -> None:
    models = _json(run("benchmark", bundle, "--runs=3", "--json"))["models"]
    (compiled,) = [entry for entry in models if entry["stage"] == "npu"]
    assert (compiled["ran_on"], compiled["compiled_for"]) == ("npu", "standin-npu")
    done = run("benchmark", bundle / "digits_int8_npu.bin", "--runs=3", STANDIN_NPU_ABSENT="1")
    assert "did not run on the stand-in NPU: there is no stand-in NPU (any)" in done.stdout


def test_doctor_asks_for_what_it_needs(run: Run) -> None:
    found = _json(run("doctor", "--target=standin-npu", "--json", "--quiet"))
    assert found["served"]
    needed = {item["name"]: item["works"] for item in found["components"] if item["needed"]}
    assert needed["compiler of standin-npu"]
    assert "Edge TPU" not in needed
    options = ("doctor", "--target=standin-npu", "--json", "--quiet")
    found = _json(run(*options, STANDIN_NPU_NO_COMPILER="1"), 4)
    assert not found["served"]
    (item,) = [one for one in found["components"] if one["name"] == "compiler of standin-npu"]
    assert (item["works"], item["next_step"]) == (False, "unset the variable")


def test_it_is_verified_and_reported(run: Run, bundle: Path, tmp_path: Path) -> None:
    html, markdown = tmp_path / "report.html", tmp_path / "report.md"
    options = ("verify", bundle, "--no-layers", "--gate=npu:sqnr=9", "--json")
    found = _json(run(*options, "--html", html, "--markdown", markdown))
    (stage,) = [entry for entry in found["stages"] if entry["stage"] == "npu"]
    assert stage["status"] == "skipped"
    assert found["verdict"] == "pass"
    assert "npu" in html.read_text()
    assert "npu" in markdown.read_text()
    wrong = run("verify", bundle, "--gate=npx:sqnr=9")
    assert wrong.returncode == 2
    assert "did you mean npu" in wrong.stderr
