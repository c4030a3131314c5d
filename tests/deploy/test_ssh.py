"""Running on a board over SSH, against a real OpenSSH server on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv import targets
from edgeconv.core.bundle import open_bundle
from edgeconv.core.errors import ToolMissing, UsageError, WorkerError
from edgeconv.toolchain.device import runner
from edgeconv.toolchain.device.job import Job, RunOptions
from edgeconv.toolchain.device.local import run_here
from edgeconv.toolchain.device.ssh import Board

Server = Any


@pytest.fixture(scope="session")
def job(int8_bundle: Path) -> Job:
    artifact = open_bundle(int8_bundle).artifacts["tflite_int8"]
    rng = np.random.default_rng(0)
    shape = [3, *(size or 1 for size in artifact.inputs[0].shape)]
    return Job(artifact.path, [rng.integers(-128, 128, shape).astype(np.int8)])


def test_a_board_with_ai_edge_litert(server: Server, job: Job) -> None:
    ran = server.board.run(job, RunOptions(runs=5))
    assert (ran.ran_on, ran.fallback) == ("cpu", None)
    assert ran.runtime.startswith("ai-edge-litert ")
    assert ran.latency_ms["runs"] == 5
    assert 0 < ran.latency_ms["median"] <= ran.latency_ms["p90"]
    here = run_here(job, RunOptions(runs=1))
    np.testing.assert_array_equal(ran.outputs[0], here.outputs[0])
    assert server.leftovers == []


def test_a_board_with_tflite_runtime(tflite_board: Server, job: Job) -> None:
    ran = tflite_board.board.run(job, RunOptions(runs=5))
    assert ran.runtime == "tflite-runtime 2.14.0"
    here = run_here(job, RunOptions(runs=1))
    difference = ran.outputs[0].astype(int) - here.outputs[0].astype(int)
    assert np.abs(difference).max() <= 1
    assert tflite_board.leftovers == []


def test_a_compiled_model_without_an_edge_tpu(tflite_board: Server, job: Job) -> None:
    compiled = replace(job, compiled=job.model, part=targets.find("coral").device_part())
    ran = tflite_board.board.run(compiled, RunOptions(runs=1))
    assert (ran.ran_on, ran.fallback) == (
        "cpu",
        "the Edge TPU runtime, libedgetpu, is not installed",
    )
    with pytest.raises(ToolMissing, match="libedgetpu, is not installed"):
        tflite_board.board.run(compiled, RunOptions(runs=1, cpu_fallback=False))
    assert tflite_board.leftovers == []


def _python(tmp_path: Path, text: str) -> str:
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_an_old_python(server: Server, job: Job, tmp_path: Path) -> None:
    board = replace(server.board, python=_python(tmp_path, "printf 3.6"))
    with pytest.raises(ToolMissing, match=r"is Python 3\.6") as caught:
        board.run(job, RunOptions())
    assert "3.7 or later" in str(caught.value)
    assert server.leftovers == []


def test_no_such_python(server: Server, job: Job) -> None:
    board = replace(server.board, python="/nowhere/python3")
    with pytest.raises(ToolMissing, match="cannot be started") as caught:
        board.run(job, RunOptions())
    assert "--python" in str(caught.value)


def test_a_board_without_a_runtime(server: Server, job: Job, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    bare = replace(server.board, python=str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(WorkerError, match="neither tflite_runtime nor ai_edge_litert"):
        bare.run(job, RunOptions())
    assert server.leftovers == []


def test_a_full_disk(full_server: Server, job: Job) -> None:
    large = replace(job, inputs=[np.zeros((64, *job.inputs[0].shape[1:]), np.int8)])
    with pytest.raises(WorkerError, match="the board's disk is full") as caught:
        full_server.board.run(large, RunOptions())
    assert "nothing was left behind" in str(caught.value)
    assert full_server.leftovers == []


def _when(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        deadline = time.monotonic() + 30
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_dropped_connection(server: Server, job: Job, tmp_path: Path) -> None:
    marker = tmp_path / "running"
    text = f'case "$1" in -c) exec {sys.executable} "$@";; esac; touch {marker}; sleep 60'
    board = replace(server.board, python=_python(tmp_path, text))

    def drop() -> None:
        for pid in server.sessions():
            os.kill(pid, signal.SIGKILL)

    thread = _when(marker.exists, drop)
    with pytest.raises(WorkerError, match="connection to the board broke"):
        board.run(job, RunOptions())
    thread.join()
    deadline = time.monotonic() + 10
    while server.leftovers and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.leftovers == []


def test_an_unknown_host_key(server: Server, job: Job, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text(f"UserKnownHostsFile {tmp_path}/none\nGlobalKnownHostsFile none\n")
    with pytest.raises(WorkerError, match="its host key is not known") as caught:
        replace(server.board, config=config).run(job, RunOptions())
    assert "compare the fingerprint" in str(caught.value)


def test_a_changed_host_key(server: Server, job: Job, tmp_path: Path) -> None:
    kind, key, *_ = (server.folder / "other_key.pub").read_text().split()
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{server.board.port} {kind} {key}\n")
    config = tmp_path / "ssh_config"
    config.write_text(f"UserKnownHostsFile {known}\nGlobalKnownHostsFile none\n")
    with pytest.raises(WorkerError, match="not the one that is known"):
        replace(server.board, config=config).run(job, RunOptions())


def test_a_wrong_key(server: Server, job: Job) -> None:
    with pytest.raises(WorkerError, match="does not accept any key"):
        replace(server.board, identity=server.folder / "other_key").run(job, RunOptions())


def test_nobody_answers(server: Server, job: Job) -> None:
    with pytest.raises(ToolMissing, match="nothing answers on that port"):
        replace(server.board, port=1).run(job, RunOptions())


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "a b", "x;reboot", "u@$(id)", ""])
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(UsageError, match="is not understood"):
        Board(host)


def test_nothing_of_the_call_is_in_the_command() -> None:
    command = Board("pi@board", python="python'; touch /tmp/x; '").command()
    assert command[-2] == "pi@board"
    assert "touch" not in command[-1]
    assert "StrictHostKeyChecking=yes" in command


def _receive(tmp_path: Path, request: bytes) -> subprocess.CompletedProcess[bytes]:
    receiver = Path(runner.__file__).with_name("receiver.py")
    place = tmp_path / "tmp"
    place.mkdir()
    return subprocess.run(
        [sys.executable, str(receiver)],
        input=request,
        capture_output=True,
        env={**os.environ, "TMPDIR": str(place)},
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("size", "kind"), [(100, b'"interrupted"'), (4, b'"damaged"')], ids=["short", "altered"]
)
def test_an_interrupted_copy_is_never_run(tmp_path: Path, size: int, kind: bytes) -> None:
    ran = tmp_path / "ran"
    runner = f"open({str(ran)!r}, 'w')\n".encode()
    header = {
        "python": sys.executable,
        "seconds": 10,
        "results": "results.npz",
        "files": [
            {
                "name": "runner.py",
                "bytes": len(runner),
                "sha256": hashlib.sha256(runner).hexdigest(),
            },
            {"name": "model.tflite", "bytes": size, "sha256": "0" * 64},
        ],
    }
    text = json.dumps(header).encode()
    done = _receive(tmp_path, b"%d\n%s%sabcd" % (len(text), text, runner))
    assert kind in done.stdout
    assert not ran.exists()
    assert list((tmp_path / "tmp").iterdir()) == []
