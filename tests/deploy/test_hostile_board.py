"""A board that answers with anything: one error, little memory, no letters that terminals obey."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeconv.cli import run
from edgeconv.core.arrays import write_npz
from edgeconv.core.errors import WorkerError, WorkerTimeout
from edgeconv.toolchain.device import ssh
from edgeconv.toolchain.device.answer import NotUnderstood, checked, clean
from edgeconv.toolchain.device.job import Found, read_answer
from edgeconv.toolchain.device.ssh import Board
from tests.deploy.answers import RAN

_SSH = """#!{python}
import hashlib, json, os, sys, threading, time
out = sys.stdout.buffer
threading.Thread(target=sys.stdin.buffer.read, daemon=True).start()
def answer(payload=b"", **values):
    values = {{"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest(), **values}}
    out.write(b"EDGECONV " + json.dumps(values).encode() + b"\\n" + payload)
    out.flush()
def for_ever(text, stream=out):
    while True:
        stream.write(text)
try:
    {code}
    out.flush()
except BrokenPipeError:
    pass
os._exit(0)
"""

_ANSWERS = {
    "noise": "out.write(os.urandom(1 << 20))",
    "no json": 'out.write(b"EDGECONV {nope\\n")',
    "a list": 'out.write(b"EDGECONV [1]\\n")',
    "no bytes": 'out.write(b"EDGECONV {}\\n")',
    "an endless line": 'for_ever(b"x" * (1 << 20))',
    "endless lines": 'for_ever(b"motd\\n" * 100000)',
    "too many bytes": "answer(bytes=1 << 60); for_ever(b'x' * 9999)",
    "negative bytes": "answer(bytes=-1); for_ever(b'x' * 9999)",
    "true bytes": "answer(bytes=True)",
    "endless stderr": 'for_ever(b"e" * (1 << 20), sys.stderr.buffer)',
    "nesting": 'out.write(b"EDGECONV " + b"[" * 200000 + b"\\n")',
    "an unknown refusal": 'answer(refused="\\x1b[31mboo", details="\\x1b]0;title\\x07")',
    "a refusal without details": 'answer(refused="os")',
    "a refusal of another type": 'answer(refused={"a": 1}, details="x")',
    "letters that terminals obey": (
        'answer(stdout=json.dumps({"runtimes": ["\\x1b[31mx"], "python": "3\\x1b[2J", '
        '"machine": "m", "part": None}), stderr="")'
    ),
}


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts an ssh first on PATH that does what it is told."""

    def put(code: str) -> None:
        program = tmp_path / "ssh"
        program.write_text(_SSH.format(python=sys.executable, code=code.replace("; ", "\n    ")))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return put


def test_a_silent_board_is_not_waited_for(
    answering: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering("time.sleep(600)")
    assert ssh._PROBE_LIMIT <= 30
    monkeypatch.setattr(ssh, "_PROBE_LIMIT", 1.5)
    with pytest.raises(WorkerTimeout, match=r"pi@board: .* within 1\.5 seconds"):
        Board("pi@board").probe()


@pytest.mark.parametrize("command", ["benchmark", "deploy"])
def test_commands_ask_before_they_send(
    command: str,
    bundle: Path,
    answering: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answering("time.sleep(600)")
    monkeypatch.setattr(ssh, "_PROBE_LIMIT", 1.5)
    assert run([command, str(bundle), "--host", "pi@board"]) == 3
    assert "did not answer" in capsys.readouterr().err


@pytest.mark.parametrize("kind", _ANSWERS)
def test_a_hostile_board(kind: str, answering: Callable[[str], None]) -> None:
    answering(_ANSWERS[kind])
    began = time.monotonic()
    with pytest.raises(NotUnderstood, match="the board's answer is not understood") as caught:
        Board("pi@board").probe()
    assert time.monotonic() - began < 30
    assert isinstance(caught.value, WorkerError)
    assert clean(str(caught.value)) == str(caught.value)


def test_what_a_sound_board_answers_passes() -> None:
    answer = {"bytes": 3, "sha256": "x", "stdout": "a", "stderr": ""}
    assert checked(answer) == answer
    refusal = {"bytes": 0, "sha256": "", "refused": "os", "errno": 28, "details": "\x1b[2Jfull"}
    assert checked(refusal)["details"] == "�[2Jfull"


def test_a_sound_run_is_read(tmp_path: Path) -> None:
    write_npz(tmp_path / "r.npz", {"0": np.zeros(3, np.int8), "1": np.ones(2, np.int8)})
    ran = read_answer(json.dumps(RAN), "", tmp_path / "r.npz", "board")
    assert [len(array) for array in ran.outputs] == [3, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"ran_on": "gpu"},
        {"latency_ms": None},
        {"latency_ms": {"first": "1"}},
        {"memory_bytes": -1},
        {"machine": "\x1b[31m"},
        {"runtime": 3},
        {"fallback": {}},
        {"python": None},
        {"failure": ["x"]},
    ],
)
def test_a_run_of_another_form_is_not(change: dict[str, object], tmp_path: Path) -> None:
    write_npz(tmp_path / "r.npz", {"0": np.zeros(3, np.int8)})
    with pytest.raises(NotUnderstood):
        read_answer(json.dumps(RAN | change), "", tmp_path / "r.npz", "board")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nothing"])
def test_results_that_are_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.npz").write_bytes(content)
    with pytest.raises(NotUnderstood):
        read_answer(json.dumps(RAN), "", tmp_path / "r.npz", "board")


def test_results_of_other_names(tmp_path: Path) -> None:
    write_npz(tmp_path / "r.npz", {"x": np.zeros(3, np.int8)})
    with pytest.raises(NotUnderstood, match="numbered"):
        read_answer(json.dumps(RAN), "", tmp_path / "r.npz", "board")


@pytest.mark.parametrize("text", ["", "[1]", "[" * 200_000, '{"runtimes": 3}', "\x1b"])
def test_a_probe_of_another_form_says_nothing(text: str) -> None:
    assert Found.read(text) == Found()
