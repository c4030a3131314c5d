"""`edgeconv deploy` and `edgeconv benchmark`, on this machine and on a board."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.core import bundle as files
from edgeconv.core.arrays import write_npz
from edgeconv.core.artifacts import Artifact, TensorSpec
from edgeconv.core.bundle import BundleWriter, open_bundle
from edgeconv.core.errors import ConversionError, LimitExceeded, UsageError
from edgeconv.core.seal import sealed
from edgeconv.deployment.compare import Outcome, judge, steps
from edgeconv.deployment.run import DeployOptions, deploy
from edgeconv.metrics import parity
from edgeconv.metrics.report import ParityReport, StageParity
from edgeconv.metrics.report_parts import Steps
from edgeconv.parity.baseline import regressions
from edgeconv.parity.candidates import describe_tflite
from edgeconv.tflite import file as tflite
from edgeconv.toolchain.device.job import Found, Job, Ran, RunOptions
from edgeconv.toolchain.device.local import probe_here, run_here

Server = Any
ROOT = Path(__file__).resolve().parents[2]
QUICK = RunOptions(runs=3)


def _edgeconv(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeconv", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        check=False,
    )


def _ssh(server: Server) -> list[object]:
    board = server.board
    return [
        *("--host", board.host, "--port", board.port, "--identity", board.identity),
        *("--ssh-config", board.config, "--python", board.python),
    ]


def test_the_newest_bundle_falls_back_to_the_cpu(bundle: Path) -> None:
    done = _edgeconv("deploy", "--target", "coral", "--runs=3", "--json", cwd=bundle.parent)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["bundle"] == str(bundle)
    assert (result["stage"], result["ran_on"], result["status"]) == ("edgetpu", "cpu", "pass")
    assert "edgetpu_compiler is not installed" in result["fallback"]
    assert result["lsb"][0]["max"] == 0
    after = open_bundle(bundle)
    stage = after.parity()["stages"][-1]
    assert stage["stage"] == "edgetpu"
    assert stage["latency_ms"]["runs"] == 3
    assert "edgetpu_compiler is not installed" in (bundle / "report.html").read_text()
    again = _edgeconv("deploy", bundle, "--runs=3")
    assert again.returncode == 0, again.stderr
    assert "ran on   the CPU, not the Edge TPU, with ai-edge-litert" in again.stdout
    names = [entry["stage"] for entry in open_bundle(bundle).parity()["stages"]]
    assert names.count("edgetpu") == 1
    # What was deployed is a baseline like any other: verifying does not run it on the device again.
    baseline = open_bundle(bundle).parity()
    computed = {**baseline, "stages": baseline["stages"][:-1]}
    reports = (ParityReport.from_dict(content) for content in (baseline, computed))
    assert regressions(*reports) == ()


def test_no_cpu_fallback(bundle: Path) -> None:
    before = (bundle / "manifest.json").read_bytes()
    done = _edgeconv("deploy", bundle, "--target=coral", "--no-cpu-fallback")
    assert done.returncode == 4
    assert "edgetpu_compiler" in done.stderr
    assert (bundle / "manifest.json").read_bytes() == before


def test_over_ssh(bundle: Path, tflite_board: Server) -> None:
    done = _edgeconv("deploy", bundle, "--runs=3", "--json", *_ssh(tflite_board))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["runtime"] == "tflite-runtime 2.14.0"
    assert result["device"] == tflite_board.board.host
    assert result["status"] == "pass"
    assert tflite_board.leftovers == []
    refused = _edgeconv("deploy", bundle, "--no-cpu-fallback", *_ssh(tflite_board))
    assert refused.returncode == 4


def test_a_cpu_is_a_target_too(bundle: Path) -> None:
    found = deploy(bundle, DeployOptions(target="cpu", run=QUICK))
    assert found.passed
    assert (found.result["ran_on"], found.result["fallback"]) == ("cpu", None)
    assert open_bundle(bundle).parity()["stages"][-1]["stage"] == "tflite_int8"


def test_an_unverified_bundle_needs_force(bundle: Path) -> None:
    manifest = dict(open_bundle(bundle).manifest)
    with BundleWriter(bundle, force=True) as writer:
        shutil.copytree(bundle, writer.directory, dirs_exist_ok=True)
        writer.finish({**manifest, "verified": False})
    with pytest.raises(UsageError, match="unverified"):
        deploy(bundle, DeployOptions(run=QUICK))
    assert deploy(bundle, DeployOptions(run=QUICK, force=True)).passed


def test_no_bundle_here(tmp_path: Path) -> None:
    done = _edgeconv("deploy", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no bundle here" in done.stderr
    assert "torch2tflite" in done.stderr


def test_a_run_keeps_to_its_memory(bundle: Path) -> None:
    model = open_bundle(bundle).artifacts["tflite_int8"]
    (spec,) = model.inputs
    shape = (1, *(size or 1 for size in spec.shape))
    job = Job(model.path, [np.zeros(shape, spec.dtype)])
    with pytest.raises(LimitExceeded, match="more than 4 MB"):
        run_here(job, replace(QUICK, memory=4 << 20))


@pytest.mark.parametrize("command", ["benchmark", "deploy", "compile"])
def test_memory_is_limited_by_an_option(command: str, bundle: Path) -> None:
    done = _edgeconv(command, bundle, "--memory-limit=1MB")
    assert done.returncode == 2
    assert "--memory-limit 1MB is too low" in done.stderr


def test_options_of_ssh_need_a_host(bundle: Path) -> None:
    done = _edgeconv("deploy", bundle, "--port=22")
    assert done.returncode == 2
    assert "--port needs --host" in done.stderr


def test_a_device_that_computes_something_else_fails(bundle: Path) -> None:
    def broken(job: Job, options: RunOptions) -> Ran:
        ran = run_here(job, options)
        wrong = tuple(np.clip(array.astype(int) + 40, -128, 127) for array in ran.outputs)
        outputs = tuple(array.astype(np.int8) for array in wrong)
        fields = {name: getattr(ran, name) for name in Ran.__dataclass_fields__}
        return Ran(**{**fields, "outputs": outputs})

    found = deploy(bundle, DeployOptions(run=QUICK), broken)
    assert not found.passed
    assert any("LSB from this CPU, more than 8" in text for text in found.result["reasons"])
    after = open_bundle(bundle)
    assert after.parity()["verdict"] == after.manifest["verdict"] == "fail"


def _outcome(distance: int) -> Outcome:
    spec = TensorSpec.plain("y", (1, 2), "int8")
    ours = np.array([[[0, 100]], [[100, 0]]], np.int8)
    theirs = (ours + distance).astype(np.int8)
    arrays = {"y": ours.astype(np.float32)}
    moved = {"y": theirs.astype(np.float32)}
    return Outcome(arrays, arrays, moved, steps([spec], [ours], [theirs]))


def _entry(distance: int, max_lsb: int) -> StageParity:
    return judge("edgetpu", "y.tflite", "tflite_int8", _outcome(distance), {}, max_lsb)


def test_the_gate_counts_steps() -> None:
    assert _entry(3, 3).status == "pass"
    assert _outcome(3).steps == (Steps("y", 3, 3.0),)
    assert _entry(4, 3).status == "fail"


def test_classes_must_be_the_same() -> None:
    ours = {"y": np.array([[[0.0, 1.0]], [[1.0, 0.0]]], np.float32)}
    theirs = {"y": np.array([[[0.0, 1.0]], [[0.0, 1.0]]], np.float32)}
    entry = judge("edgetpu", "y", "tflite_int8", Outcome(ours, ours, theirs, ()), {}, 8)
    assert any("top1_agreement 0.5 is below 0.95" in text for text in entry.reasons)


def test_an_exported_folder_runs_by_itself(
    bundle: Path, tflite_runtime_python: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "names.txt"
    labels.write_text("a\nb\nc\nd\n")
    folder = tmp_path / "out"
    done = _edgeconv("deploy", bundle, f"--export={folder}", f"--labels={labels}")
    assert done.returncode == 0, done.stderr
    assert (folder / "labels.txt").read_text() == labels.read_text()
    assert "python3 runner.py" in (folder / "README.md").read_text()
    ran = subprocess.run(
        [str(tflite_runtime_python), str(folder / "runner.py")],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["runtime"] == "tflite-runtime 2.14.0"
    assert answer["max_difference"] <= 2
    again = _edgeconv("deploy", bundle, f"--export={folder}")
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert _edgeconv("deploy", bundle, f"--export={folder}", "--force").returncode == 0
    assert (folder / "runner.py").is_file()
    assert not (folder / "labels.txt").exists()
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("three years")
    kept = _edgeconv("deploy", bundle, f"--export={other}", "--force")
    assert kept.returncode == 2
    assert "no earlier export" in kept.stderr
    assert (other / "thesis.txt").read_text() == "three years"


def test_benchmark_of_a_bundle(bundle: Path) -> None:
    done = _edgeconv("benchmark", bundle, "--runs=3", "--json")
    assert done.returncode == 0, done.stderr
    models = json.loads(done.stdout)["models"]
    assert models[0]["stage"] == "tflite_fp32"
    assert models[-1]["stage"] == "tflite_int8"
    for entry in models:
        times = entry["latency_ms"]
        assert 0 < times["median"] <= times["p90"]
        assert times["first"] > 0
        assert entry["memory_bytes"] > 1e6


def test_benchmark_of_a_file(bundle: Path, server: Server) -> None:
    path = next(bundle.glob("*_int8.tflite"))
    here = _edgeconv("benchmark", path, "--runs=3")
    assert here.returncode == 0, here.stderr
    assert here.stdout.startswith("this machine: ")
    there = _edgeconv("benchmark", path, "--runs=3", *_ssh(server))
    assert there.returncode == 0, there.stderr
    assert there.stdout.startswith(server.board.host)


def test_benchmark_with_another_runtime(
    bundle: Path, tflite_runtime_python: Path, tmp_path: Path
) -> None:
    path = next(bundle.glob("*_int8.tflite"))
    for name, runtime in (("tflite-runtime", "tflite-runtime 2.14.0"), ("tf", "tensorflow 2.")):
        done = _edgeconv("benchmark", path, "--runs=3", f"--runtime={name}", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["models"][0]["runtime"].startswith(runtime)
    newer = _edgeconv("benchmark", _too_new(path, tmp_path), "--runtime=tflite-runtime")
    assert newer.returncode == 3
    assert "has version 99" in newer.stderr


def test_benchmark_with_a_runtime_that_is_not_installed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECONV_HOME", str(tmp_path / "home"))
    path = next(bundle.glob("*_int8.tflite"))
    done = _edgeconv("benchmark", path, "--runtime=tflite-runtime")
    assert done.returncode == 4
    assert "edgeconv toolchain install tflite-runtime" in done.stderr


def _too_new(path: Path, folder: Path) -> Path:
    """Return a copy whose first operator has a version that no runtime has."""
    model = tflite.load(path)
    model.operatorCodes[0].version = 99
    tflite.save(model, folder / "new.tflite")
    return folder / "new.tflite"


def test_a_runtime_that_is_too_old_is_told_before_anything_is_sent(
    bundle: Path, tmp_path: Path
) -> None:
    def never(job: Job, options: RunOptions) -> Ran:
        raise AssertionError("it was sent")

    path = next(bundle.glob("*_int8.tflite"))
    _too_new(path, tmp_path).replace(path)
    manifest = json.loads((bundle / files.MANIFEST).read_text())
    entry = next(item for item in manifest["stages"] if item["file"] == path.name)
    entry |= files.describe_file(path, bundle)
    (bundle / files.MANIFEST).write_text(json.dumps(sealed(manifest)))
    for runtime in ("tflite-runtime 2.14.0", "tflite-runtime 2.5.0.post1"):
        found = Found((runtime,))
        with pytest.raises(ConversionError, match="has version 99") as caught:
            deploy(bundle, DeployOptions(run=QUICK), never, "board", probe=lambda _, f=found: f)  # type: ignore[misc]
        assert f"{runtime} on board is too old" in str(caught.value)


def test_what_a_board_has_is_asked_for(tflite_board: Server) -> None:
    found = tflite_board.board.probe()
    assert found.runtimes == ("tflite-runtime 2.14.0",)
    assert found.part is None
    assert tflite_board.leftovers == []
    assert any(name.startswith("ai-edge-litert 2.") for name in probe_here().runtimes)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + b"\xff" * 40)
    done = _edgeconv("benchmark", path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A compiled model and its source, named as a bundle names them."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "edgetpu_pairs" / "dense_256"
    if not folder.is_dir():
        pytest.skip(f"the compiled models are not at {folder}")
    shutil.copy(folder / "source.tflite", tmp_path / "m.tflite")
    return Path(shutil.copy(folder / "compiled.tflite", tmp_path / "m_edgetpu.tflite"))


def test_a_compiled_file_never_reaches_the_cpu(pair: Path) -> None:
    done = _edgeconv("benchmark", pair, "--runs=2", "--json")
    assert done.returncode == 0, done.stderr
    entry = json.loads(done.stdout)["models"][0]
    assert entry["ran_on"] == "cpu"
    assert "libedgetpu, is not installed" in entry["fallback"]
    pair.with_name("m.tflite").unlink()
    alone = _edgeconv("benchmark", pair)
    assert alone.returncode == 4
    assert "libedgetpu" in alone.stderr


COMPILER = """#!/usr/bin/env python3
import pathlib, shutil, sys
name = sys.argv[-1]
stem = pathlib.Path(name).stem
shutil.copy({compiled!r}, stem + "_edgetpu.tflite")
text = '''Edge TPU Compiler version 16.0.384591198
Model compiled successfully in 34 ms.

Input model: %s
Input size: 1.00KiB
Output model: %s_edgetpu.tflite
Output size: 1.00KiB
On-chip memory used for caching model parameters: 66.00KiB
On-chip memory remaining for caching model parameters: 7.00MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 1
Operation log: %s_edgetpu.log
Compilation succeeded! ''' % (name, stem, stem)
print(text)
pathlib.Path(stem + "_edgetpu.log").write_text(text)
"""


def _compiled_bundle(bundle: Path, source: Path, compiled: Path, bin_dir: Path) -> None:
    """Make the bundle's int8 model the source of a pair, and a compiler that plays its output."""
    before = open_bundle(bundle)
    entry = next(e for e in before.manifest["stages"] if e["name"] == "tflite_int8")
    model = describe_tflite(source)
    rng = np.random.default_rng(0)
    feeds = [
        rng.integers(0, 100, (4, *(size or 1 for size in spec.shape))).astype(spec.dtype)
        for spec in model.inputs
    ]
    ran = run_here(Job(source, feeds), QUICK)
    with BundleWriter(bundle, force=True) as writer:
        place = writer.directory
        shutil.copytree(bundle, place, dirs_exist_ok=True)
        shutil.copy(source, place / entry["file"])
        there = Artifact(model.format, place / entry["file"], model.inputs, model.outputs)
        stage = {"name": "tflite_int8", "seconds": 1.0, **files.describe_artifact(there, place)}
        named = dict(zip((s.name for s in model.inputs), feeds, strict=True))
        ends = dict(zip((s.name for s in model.outputs), ran.outputs, strict=True))
        vectors = files.vectors_of(
            parity.restore(named, model.inputs), parity.restore(ends, model.outputs)
        )
        write_npz(place / files.VECTORS, vectors)
        manifest = {**before.manifest, "stages": [stage]}
        names = (files.VECTORS, files.PARITY, files.REPORT)
        manifest["files"] = [files.describe_file(place / name, place) for name in names]
        writer.finish(manifest)
    program = bin_dir / "edgetpu_compiler"
    program.write_text(COMPILER.format(compiled=str(compiled)))
    program.chmod(0o755)


def test_it_is_compiled_where_the_compiler_is(
    bundle: Path, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _compiled_bundle(bundle, pair.with_name("m.tflite"), pair, tmp_path)
    monkeypatch.setenv("EDGECONV_EDGETPU_COMPILER", str(tmp_path / "edgetpu_compiler"))
    found = deploy(bundle, DeployOptions(target="coral", run=QUICK))
    assert found.result["fallback"] == "the Edge TPU runtime, libedgetpu, is not installed"
    assert found.result["ran_on"] == "cpu"
    after = open_bundle(bundle)
    entry = after.manifest["stages"][-1]
    assert (entry["name"], entry["format"]) == ("edgetpu", "edgetpu")
    assert (bundle / entry["file"]).read_bytes() == pair.read_bytes()
    monkeypatch.delenv("EDGECONV_EDGETPU_COMPILER")
    again = deploy(bundle, DeployOptions(target="coral", run=QUICK))
    assert again.result["fallback"] == found.result["fallback"]
    verified = _edgeconv("verify", bundle, "--json")
    stage = json.loads(verified.stdout)["stages"][-1]
    assert (stage["stage"], stage["status"]) == ("edgetpu", "skipped")
