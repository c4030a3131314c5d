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
from platformdirs import user_cache_path

from edgeconv.core.errors import ToolMissing, UsageError, WorkerError
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
    monkeypatch.delenv("EDGECONV_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == user_cache_path("edgeconv", appauthor=False)
    if sys.platform == "linux":
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
        assert f"there is no wheel of numpy==1.24.4 in {wheels}" in caught.value.why
        assert "pip download" in caught.value.hint
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


@pytest.mark.slow
@pytest.mark.network
def test_offline_from_wheels_that_were_downloaded(
    empty_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, wheels = "tflite-runtime", tmp_path / "wheels"
    interpreter, _ = find_python(find(name), None)
    download = [interpreter, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
    download += ["--only-binary", ":all:", "-r", str(find(name).lock_file), "-d", str(wheels)]
    subprocess.run(download, check=True)
    # Nothing answers on port 9, and pip may find nothing anywhere else.
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    command = [sys.executable, "-m", "edgeconv", "toolchain", "install", name, "--json"]
    command += ["--find-links", str(wheels)]
    lacking = next(wheels.glob("numpy-*"))
    lacking.rename(tmp_path / lacking.name)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "no wheel of numpy==1.24.4" in json.loads(done.stdout)["why"]
    (tmp_path / lacking.name).rename(lacking)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tflite-runtime: 5 of 5 steps" in done.stderr
    found = json.loads(done.stdout)[0]
    assert (found["before"], found["state"]) == (manage.INCOMPLETE, manage.INSTALLED)
    assert manage.self_test(name, 60) == ""


def test_an_environment_that_broke_later_is_told(empty_home: Path) -> None:
    name = "tflite-runtime"
    marker = {"lock_sha256": find(name).digest, "python": "3.11.7"}
    python = _pretend(name, json.dumps(marker)) / "bin" / "python"
    python.unlink()
    python.write_text("#!/bin/sh\necho broken >&2; exit 3\n")
    python.chmod(0o755)
    assert manage.status(name).state == manage.INSTALLED
    assert "exit status 3" in manage.self_test(name, 60)
    assert "broken" in manage.self_test(name, 60)
