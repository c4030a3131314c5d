"""Temporary directories are removed, also those of processes that were killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeconv.core.errors import WorkerError
from edgeconv.core.scratch import PREFIX, Scratch, scratch_directory, sweep
from edgeconv.toolchain.worker.process import Worker

_MAKE = """
import sys
from edgeconv.core.scratch import Scratch
print(Scratch().path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made, by processes that are started too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_directory_is_private_and_goes(folder: Path) -> None:
    with scratch_directory() as name:
        path = Path(name)
        assert path.parent == folder
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "left").write_text("x")
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_leaves_is_swept_and_what_a_living_one_has_is_not(
    folder: Path,
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _MAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    made = Path(process.stdout.readline().strip())
    (made / "model").write_text("x")
    sweep(folder)
    assert (made / "model").exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (made / "model").exists()
    own = Scratch()
    assert [path.name for path in folder.iterdir()] == [own.path.name]
    own.close()


def test_what_others_made_is_left_alone(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    foreign = folder / f"{PREFIX}foreign"
    foreign.mkdir()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / ".held").write_text("")
    (folder / f"{PREFIX}link").symlink_to(elsewhere)
    linked = folder / f"{PREFIX}lock"
    linked.mkdir()
    (linked / ".held").symlink_to(elsewhere / ".held")
    sweep(folder)
    assert len(list(folder.iterdir())) == 3
    assert elsewhere.exists()


def test_a_worker_writes_where_its_parent_cleans_up(folder: Path) -> None:
    with Worker("test") as worker:
        made = Path(worker.call("tempfile:mkdtemp"))
        assert made.parent.parent == folder
        with pytest.raises(WorkerError):
            worker.call("os:abort")
        assert list(folder.iterdir()) == [], "a worker that died leaves nothing either"
        assert Path(worker.call("tempfile:mkdtemp")).parent.parent == folder
    assert list(folder.iterdir()) == []
