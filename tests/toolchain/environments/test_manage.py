from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeconv.errors import ToolMissing, UsageError, WorkerError
from edgeconv.toolchain.environments import manage
from edgeconv.toolchain.environments.build import find_python
from edgeconv.toolchain.environments.home import home
from edgeconv.toolchain.environments.specs import ENVIRONMENTS, find


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECONV_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _pretend(name: str, marker: str | None) -> Path:
    """Make the directory of an environment, with a Python that exists."""
    path = manage.status(name).path
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").symlink_to(sys.executable)
    if marker is not None:
        (path / "edgeconv-complete.json").write_text(marker)
    return path


def test_home_is_the_cache_directory_unless_said_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("EDGECONV_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert home() == tmp_path / ".cache" / "edgeconv"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == tmp_path / "cache" / "edgeconv"
    monkeypatch.setenv("EDGECONV_HOME", str(tmp_path / "own"))
    assert home() == tmp_path / "own"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_requirement_is_locked_with_hashes(name: str) -> None:
    text = find(name).lock_file.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert lines
    assert all("==" in line and "--hash=sha256:" in line for line in lines)
    assert any(line.startswith(f"{find(name).package}=={find(name).version} ") for line in lines)


def test_states(empty_home: Path) -> None:
    name = "tflite-runtime"
    assert manage.status(name).state == manage.ABSENT
    path = _pretend(name, None)
    assert manage.status(name).state == manage.INCOMPLETE
    for damaged in ("", "[]", "{}", '{"lock_sha256": 1'):
        (path / "edgeconv-complete.json").write_text(damaged)
        assert manage.status(name).state == manage.INCOMPLETE
    marker = {"lock_sha256": "0" * 64, "python": "3.11.7"}
    (path / "edgeconv-complete.json").write_text(json.dumps(marker))
    assert manage.status(name).state == manage.OUTDATED
    marker["lock_sha256"] = find(name).digest
    (path / "edgeconv-complete.json").write_text(json.dumps(marker))
    assert manage.status(name).state == manage.INSTALLED
    assert manage.require(name) == path / "bin" / "python"
    (path / "bin" / "python").unlink()
    assert manage.status(name).state == manage.INCOMPLETE


def test_what_is_not_whole_is_missing_and_the_message_says_how_to_get_it(empty_home: Path) -> None:
    _pretend("onnx-tf", None)
    with pytest.raises(ToolMissing) as caught:
        manage.require("onnx-tf")
    assert "interrupted" in str(caught.value)
    assert "edgeconv toolchain install onnx-tf" in caught.value.hint


def test_remove_takes_halves_too(empty_home: Path) -> None:
    path = _pretend("onnx-tf", None)
    assert manage.remove("onnx-tf")
    assert not path.exists()
    assert not manage.remove("onnx-tf")
    with pytest.raises(UsageError):
        manage.remove("nothing")


@pytest.mark.slow
def test_a_failed_install_leaves_nothing_that_counts(empty_home: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with pytest.raises((WorkerError, ToolMissing)) as caught:
        manage.install("tflite-runtime", find_links=wheels)
    assert manage.status("tflite-runtime").state != manage.INSTALLED
    if isinstance(caught.value, WorkerError):
        assert "No matching distribution" in caught.value.why
    with pytest.raises(UsageError):
        manage.install("tflite-runtime", find_links=tmp_path / "none")


def test_a_python_that_does_not_suit_is_named(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho '[\"cpython\", 3, 14, 1]'\n")
    fake.chmod(0o755)
    with pytest.raises(ToolMissing) as caught:
        find_python(find("onnx-tf"), str(fake))
    assert "3.11" in str(caught.value)
    assert "is 3.14" in caught.value.why
    with pytest.raises(ToolMissing):
        find_python(find("onnx-tf"), str(tmp_path / "none"))


@pytest.mark.slow
@pytest.mark.network
def test_killed_and_asked_twice_at_once(empty_home: Path) -> None:
    """An install that is killed counts for nothing; two at once make one environment."""
    command = [sys.executable, "-m", "edgeconv", "toolchain", "install", "tflite-runtime"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as first:
        environment = manage.status("tflite-runtime").path
        deadline = time.monotonic() + 120
        while not (environment / "bin" / "pip").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(first.pid, signal.SIGKILL)
    assert manage.status("tflite-runtime").state == manage.INCOMPLETE
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(subprocess.run, command, capture_output=True, check=False) for _ in range(2)
        ]
        done = [run.result() for run in runs]
    assert [item.returncode for item in done] == [0, 0], done
    assert manage.status("tflite-runtime").state == manage.INSTALLED
    assert manage.remove("tflite-runtime")
