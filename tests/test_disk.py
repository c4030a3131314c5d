from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from edgeconv.core import disk


def test_a_directorys_digest_is_what_sha256sum_says(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_text("x")
    (tmp_path / "a").write_text("a")
    command = "find * -type f | sort | xargs sha256sum | sha256sum"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert disk.sha256_of(tmp_path) == done.stdout.split()[0]
    assert disk.size_of(tmp_path) == 2


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EFBIG, "x"), True),
        (OSError(errno.EACCES, "x"), False),
        (RuntimeError(f"write failed: {os.strerror(errno.ENOSPC)}; file a"), True),
        (RuntimeError("something else"), False),
    ],
)
def test_a_full_disk_is_recognised(error: Exception, *, full: bool) -> None:
    assert disk.is_disk_full(error) is full


def test_what_lies_beside_a_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_LARGE", 1000)
    model, data, other = (tmp_path / name for name in ("[m].onnx", "[m].onnx.data", "m.onnx.data"))
    model.write_bytes(b"x" * 400)
    other.write_bytes(b"x" * 700)
    assert not disk.is_large(model)
    data.write_bytes(b"x" * 600)
    assert disk.is_large(model)
