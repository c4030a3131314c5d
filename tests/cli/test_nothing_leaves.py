"""A conversion asks no name server, and leaves nothing but its bundle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgeconv.toolchain.worker.switches import SWITCHES

_DRIVER = Path(__file__).with_name("own_network.py")
_UNSHARE = ["unshare", "--net", "--mount"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment without our switches, and with a home and temporary directory of its own."""
    own = {"HOME": "home", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config", "TMPDIR": "tmp"}
    for name in own.values():
        (tmp_path / name).mkdir()
    kept = {key: value for key, value in os.environ.items() if key not in SWITCHES}
    return kept | {key: str(tmp_path / name) for key, name in own.items()}


def has_namespaces() -> bool:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    return subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a command without a network; return its whole output, the count in the last line."""
    if not has_namespaces():
        pytest.skip("NOT TESTED: network namespaces need unshare(1) and root")
    done = subprocess.run(
        [*_UNSHARE, sys.executable, str(_DRIVER), str(folder), *command],
        cwd=folder / "work",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_conversion_asks_nobody_and_leaves_its_bundle_alone(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "work").mkdir()
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()).eval()
    torch.export.save(torch.export.export(model, (torch.ones(1, 4),)), tmp_path / "work" / "m.pt2")
    command = ["torch2tflite", "m.pt2", "--quantize", "int8", "--gate", "tflite_int8:sqnr=0"]
    output = run([sys.executable, "-m", "edgeconv", *command], tmp_path, environment)
    assert output.splitlines()[-1].startswith("0 questions"), output
    outside = [name for name in files(tmp_path) if not name.startswith("work/")]
    assert outside == ["resolv.conf"]
    rest = {name.split("/")[1] for name in files(tmp_path) if name.startswith("work/")}
    assert rest == {"m.pt2", "m.edgeconv"}
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_watch_sees_what_onnxruntime_writes_by_itself(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Otherwise the test above would prove nothing; without the switch files appear."""
    (tmp_path / "work").mkdir()
    run([sys.executable, "-c", "import onnxruntime"], tmp_path, environment)
    if files(tmp_path) == ["resolv.conf"]:
        pytest.skip("NOT TESTED: this onnxruntime writes nothing by itself")
    switched = environment | SWITCHES
    for name in ("home", "cache", "tmp"):
        shutil.rmtree(tmp_path / name)
        (tmp_path / name).mkdir()
    run([sys.executable, "-c", "import onnxruntime"], tmp_path, switched)
    assert files(tmp_path) == ["resolv.conf"]


@pytest.mark.slow
def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 40, 3), torch.nn.Conv2d(40, 120, 3), torch.nn.Softmax(1)
    ).eval()
    program = torch.export.export(model, (torch.ones(1, 3, 8, 8),))
    torch.export.save(program, tmp_path / "m.pt2")
    digests = set()
    for seed in ("1", "2"):
        output = str(tmp_path / seed)
        command = ["torch2tflite", str(tmp_path / "m.pt2"), "--no-verify", "-o", output]
        subprocess.run(
            [sys.executable, "-m", "edgeconv", *command, "--quantize", "fp16"],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        manifest = json.loads((tmp_path / seed / "manifest.json").read_text())
        assert len(manifest["stages"]) == 4
        digests.add(manifest["artifacts_sha256"])
    assert len(digests) == 1


@pytest.mark.slow
def test_tests_do_not_either(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-q", "--collect-only", "tests/convert/ops"],
        cwd=Path(__file__).resolve().parents[2],
        env={**environment, "TMPDIR": str(tmp_path), "PYTEST_ADDOPTS": ""},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=300,
    )
    assert not list(tmp_path.glob(".ses"))
