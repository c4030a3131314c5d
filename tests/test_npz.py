"""``.npz`` files that nobody vouches for."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.core.arrays import read_npz
from edgeconv.core.artifacts import TensorSpec
from edgeconv.core.errors import InvalidData
from edgeconv.core.npz import open_npz
from edgeconv.samples.load import load_samples

SPECS = (TensorSpec.plain("x", (1, 3), "float32"),)


def _header(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_npy", ".npy"), content)
    return path


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _encrypted(path: Path) -> Path:
    np.savez(path, x=np.zeros((2, 1, 3), np.float32))
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x01\x02") + 8] |= 1
    content[content.find(b"PK\x03\x04") + 6] |= 1
    path.write_bytes(content)
    return path


def _truncated(path: Path) -> Path:
    path.write_bytes(_archive(path, x_npy=_npy(np.ones(99))).read_bytes()[:-30])
    return path


def _empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


_BAD: dict[str, Callable[[Path], Path]] = {
    "empty": _empty,
    "encrypted": _encrypted,
    "strings": lambda path: _archive(path, x_npy=_npy(np.array(["a", "b"]))),
    "objects": lambda path: _archive(path, x_npy=_header("(1,)", "|O") + b"x" * 8),
    "raw": lambda path: _archive(path, x=b"hello"),
    "huge": lambda path: _archive(path, x_npy=_header("(1000000000000,)")),
    "negative": lambda path: _archive(path, x_npy=_header("(-1, 3)")),
    "overflowing": lambda path: _archive(path, x_npy=_header("(18446744073709551616, 3)")),
    "nested": lambda path: _archive(path, x_npy=_header("(" * 500 + ")" * 500)),
    "version": lambda path: _archive(path, x_npy=b"\x93NUMPY\x09\x00"),
    "truncated": _truncated,
}


@pytest.mark.parametrize("kind", _BAD)
def test_what_is_no_numbers_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    _BAD[kind](path)
    for read in (read_npz, lambda path: load_samples(path, SPECS)):
        with pytest.raises(InvalidData) as caught:
            read(path)
        assert "x.npz" in str(caught.value)


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_was_written_is_read(order: Any, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "x": np.asarray(np.arange(24, dtype=np.float32).reshape(4, 2, 3), order=order),
        "one": np.array(3, np.int8),
        "none": np.zeros((0, 2)),
        "complex": np.ones(2, np.complex64),
    }
    np.savez_compressed(tmp_path / "x.npz", **given)
    found = read_npz(tmp_path / "x.npz")
    assert set(found) == set(given)
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with open_npz(tmp_path / "x.npz") as archive:
        np.testing.assert_array_equal(archive.read("x", 2), given["x"][:2])


def test_more_than_asked_for_is_not_unpacked(tmp_path: Path) -> None:
    rows = 300 << 20
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        file.write(_header(f"({rows}, 3)"))
        for _ in range(rows * 12 >> 20):
            file.write(bytes(1 << 20))
    with pytest.raises(InvalidData, match="unpacks to more"):
        read_npz(tmp_path / "x.npz")
    samples = load_samples(tmp_path / "x.npz", SPECS, limit=5)
    assert samples.arrays["x"].shape == (5, 1, 3)
    with pytest.raises(InvalidData, match="another shape"):
        load_samples(tmp_path / "x.npz", (TensorSpec.plain("x", (1, 4), "float32"),), limit=5)
