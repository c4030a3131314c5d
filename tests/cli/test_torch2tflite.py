"""The main job from the command line, with the real stages."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeconv.core.arrays import read_npz
from edgeconv.core.bundle import open_bundle
from edgeconv.core.errors import InvalidModel
from edgeconv.metrics import parity

Run = Callable[..., subprocess.CompletedProcess[str]]
STAGES = ["onnx", "saved_model", "tflite_fp32", "tflite_int8"]


def test_help_is_quick_and_lists_what_exists(edgeconv: Run) -> None:
    # CPU time, which is what an idle machine's clock shows; here other tests use the cores too.
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = edgeconv("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0
        assert "torch2tflite" in done.stdout
        assert done.stderr == ""
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


def test_importing_the_library_is_quick() -> None:
    code = (
        "import sys, time; began = time.process_time(); import edgeconv\n"
        "print(time.process_time() - began, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *modules = done.stdout.split()
    assert float(seconds) < 0.2
    assert not {"numpy", "torch", "tensorflow", "click", "rich"} & set(modules)


def test_version(edgeconv: Run) -> None:
    assert edgeconv("--version").stdout.startswith("edgeconv ")


@pytest.mark.slow
def test_the_bundle_of_the_example(digits_bundle: Path) -> None:
    bundle = open_bundle(digits_bundle)
    assert sorted(path.name for path in digits_bundle.iterdir()) == [
        "digits.onnx",
        "digits_fp32.tflite",
        "digits_int8.tflite",
        "digits_saved_model",
        "manifest.json",
        "parity.json",
        "report.html",
        "vectors.npz",
    ]
    manifest = bundle.manifest
    assert [stage["name"] for stage in manifest["stages"]] == STAGES
    assert all(stage["seconds"] > 0 for stage in manifest["stages"])
    assert manifest["command"][:2] == ["edgeconv", "torch2tflite"]
    assert {"torch", "onnxruntime", "ai-edge-litert", "numpy"} <= manifest["tools"].keys()
    assert manifest["calibrated"]
    assert manifest["data"]["calibration"]["samples"] == 100
    assert manifest["inputs"][0]["name"] == "image"
    assert manifest["inputs"][0]["shape"] == [1, 32, 32, 1]
    assert manifest["inputs"][0]["layout"] == "nhwc"


@pytest.mark.slow
def test_parity_of_the_example(digits_bundle: Path) -> None:
    report = json.loads((digits_bundle / "parity.json").read_text())
    assert (report["reference"], report["samples"], report["verdict"]) == ("torch", 16, "pass")
    assert [stage["stage"] for stage in report["stages"]] == STAGES
    assert [stage["runtime"].split()[0] for stage in report["stages"]] == [
        "onnxruntime",
        "tensorflow",
        "ai-edge-litert",
        "ai-edge-litert",
    ]
    for stage in report["stages"]:
        (output,) = stage["outputs"]
        assert output["top1_agreement"] == 1.0
        assert output["sqnr_db"] > (20 if stage["stage"] == "tflite_int8" else 90)


@pytest.mark.slow
def test_parity_is_measured_on_samples_that_calibration_did_not_see(
    digits_bundle: Path, digits: Path
) -> None:
    calibration = read_npz(digits / "calibration.npz")["image"]
    inputs, _ = open_bundle(digits_bundle).vectors()
    np.testing.assert_array_equal(inputs["image"].reshape(16, 1, 32, 32), calibration[100:116])


@pytest.mark.slow
def test_the_vectors_reproduce_with_litert_alone(digits_bundle: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    bundle = open_bundle(digits_bundle)
    inputs, outputs = bundle.vectors()
    model = bundle.artifacts["tflite_fp32"]
    runner = Interpreter(str(model.path)).get_signature_runner("serving_default")
    found = [
        runner(**{n: a[0] for n, a in parity.store({"image": image[None]}, model.inputs).items()})
        for image in inputs["image"]
    ]
    (name,) = outputs
    candidate = np.stack([item[name] for item in found])
    (figures,) = parity.compare(outputs, {name: candidate})
    assert figures.sqnr_db is not None
    assert figures.sqnr_db > 90


@pytest.mark.slow
def test_what_the_command_prints(digits_bundle: Path) -> None:
    out = (digits_bundle.parent / "digits.stdout").read_text()
    assert out.startswith("digits: parity passed at every stage\n")
    assert max(len(line) for line in out.splitlines()[:-2]) <= 80
    assert f"bundle: {digits_bundle}" in out
    assert (digits_bundle.parent / "digits.stderr").read_text() == ""


@pytest.mark.slow
def test_an_onnx_file_with_json(edgeconv: Run, onnx_model: Path, tmp_path: Path) -> None:
    done = edgeconv(
        "torch2tflite", onnx_model, "--quantize=int8", "--json", "--gate=tflite_int8:sqnr_db=200",
        "--io-dtype=uint8", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    manifest = json.loads(done.stdout)
    bundle = open_bundle(tmp_path / "small.edgeconv")
    assert manifest == bundle.manifest
    assert manifest["verdict"] == "fail"
    assert not manifest["calibrated"]
    assert manifest["inputs"][0]["dtype"] == "uint8"
    report = bundle.parity()
    assert report["reference"] == "onnx"
    assert [stage["status"] for stage in report["stages"]] == ["pass", "pass", "fail"]
    assert report["calibration"] == manifest["data"]["calibration"]
    assert report["calibration"]["generated"]
    assert "UNCALIBRATED" in (bundle.path / "report.html").read_text()


@pytest.mark.slow
def test_the_python_api_does_the_same(tmp_path: Path) -> None:
    import torch

    import edgeconv

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.conv(image)).mean((2, 3))

    result = edgeconv.convert(
        Network(),
        (torch.zeros(1, 3, 8, 8),),
        quantize="fp16",
        output=tmp_path / "n",
        verify_data={"image": np.ones((3, 1, 3, 8, 8), np.float32)},
    )
    assert isinstance(result, edgeconv.Result)
    assert result.passed
    assert result.model.path.name == "network_fp16.tflite"
    assert result.parity.to_dict()["samples"] == 3
    assert result.manifest == open_bundle(tmp_path / "n").manifest


@pytest.mark.slow
def test_unsupported_operators_are_listed_together(edgeconv: Run, tmp_path: Path) -> None:
    import onnx

    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[1,3] x) => (float[1,3] y) {
        noise = RandomNormalLike <dtype = 1> (x)
        coin = Bernoulli(noise)
        y = Add(x, coin) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "random.onnx")
    done = edgeconv("torch2tflite", "random.onnx", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "RandomNormalLike" in done.stderr
    assert "Bernoulli" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["random.onnx"]


def test_what_takes_too_long_is_named(edgeconv: Run, onnx_model: Path, tmp_path: Path) -> None:
    done = edgeconv("torch2tflite", onnx_model, "--timeout=0.01", "-o", "out", cwd=tmp_path)
    assert done.returncode == 3
    assert "onnxruntime worker: no answer within 0.01 seconds" in done.stderr
    assert "raise --timeout" in done.stderr


def test_a_full_disk_leaves_nothing(onnx_model: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        [sys.executable, "-m", "edgeconv", "torch2tflite", str(onnx_model), "-o", "out"],
        cwd=tmp_path,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in done.stderr
    assert list(tmp_path.iterdir()) == []


def start(
    model: Path, directory: Path, besides: Path | None = None
) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a conversion, wait until it has written something, return its worker processes."""
    # A job that a shell put in the background ignores SIGINT, and its children inherit that.
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeconv", "torch2tflite", str(model), "-o", "out"],
            cwd=directory,
            text=True,
            stderr=subprocess.PIPE,
        )
    finally:
        signal.signal(signal.SIGINT, kept)
    deadline = time.monotonic() + 60
    while not [p for p in directory.glob(".out.partial-*/*.onnx") if p.parent != besides]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process, workers_of(process.pid)


def workers_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found


def all_gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_a_kill_leaves_nothing_that_is_accepted(onnx_model: Path, tmp_path: Path) -> None:
    process, workers = start(onnx_model, tmp_path)
    process.kill()
    process.communicate()
    assert workers
    assert all_gone(workers)
    assert not (tmp_path / "out").exists()
    (partial,) = tmp_path.iterdir()
    with pytest.raises(InvalidModel):
        open_bundle(partial)
    process, _ = start(onnx_model, tmp_path, besides=partial)
    assert not partial.exists()
    process.terminate()
    process.communicate()


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_a_polite_stop_cleans_up(onnx_model: Path, tmp_path: Path, signum: int, code: int) -> None:
    process, workers = start(onnx_model, tmp_path)
    os.kill(process.pid, signum)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    assert all_gone(workers)


@pytest.mark.slow
def test_other_precisions_from_the_command_line(
    edgeconv: Run, digits: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[[rule]]\nop = "MEAN"\nprecision = "int16"\n')
    bundle = tmp_path / "wide.edgeconv"
    done = edgeconv(
        "torch2tflite",
        digits / "digits.pt2",
        "--quantize=int16x8",
        f"--recipe={recipe}",
        "--keep-float=fully_connected",
        "--keep-float=blocks.1.*",
        f"--calibration-data={digits / 'calibration.npz'}",
        "--calibration-samples=20",
        "--gate=tflite_int16x8:sqnr_db=35",
        f"--output={bundle}",
    )
    assert done.returncode == 0, done.stderr
    assert (bundle / "digits_int16x8.tflite").exists()
    options = open_bundle(bundle).manifest["options"]
    assert options["keep_float"] == ["fully_connected", "blocks.1.*"]


def test_a_recipe_is_read_before_the_model_is(edgeconv: Run, digits: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[[rule]]\nop = "CONV2D"\nprecision = "float"\n')
    done = edgeconv(
        "torch2tflite", digits / "digits.pt2", "--quantize=int8", f"--recipe={recipe}", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "rule 1 names the operator CONV2D" in done.stderr
    assert "did you mean CONV_2D" in done.stderr
