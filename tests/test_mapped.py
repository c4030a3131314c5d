"""Files as memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeconv.core.mapped import give_back, mapped


def test_the_content_is_the_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert mapped(path)[:] == b"abc"


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert mapped(path) == b""


def test_what_is_given_back_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    values = np.arange(1 << 16, dtype=np.float32)
    path.write_bytes(values.tobytes())
    view = np.frombuffer(mapped(path), np.float32)[1:].reshape(-1, 3)
    expected = view.copy()
    give_back([view, values])
    np.testing.assert_array_equal(view, expected)
