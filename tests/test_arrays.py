from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeconv.core.arrays import map_npz, read_npz, sample_of, write_npz
from edgeconv.core.artifacts import Array, Arrays, Quantization, TensorSpec
from edgeconv.core.errors import InvalidData


@pytest.mark.parametrize("read", [read_npz, map_npz])
def test_any_name_and_dtype_survives(tmp_path: Path, read: Callable[[Path], Arrays]) -> None:
    arrays: Arrays = {
        "file": np.arange(3, dtype=np.int8),
        "input/x.1": np.ones((2, 0), np.float16),
        "": np.zeros((), np.bool_),
        "output/é ü": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    write_npz(tmp_path / "a.npz", arrays)
    back = read(tmp_path / "a.npz")
    (tmp_path / "a.npz").unlink()
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.arange(24).reshape(4, 6).T,
        np.array([True, False]),
        np.arange(6, dtype=">i4"),
        np.float64(3),
    ],
)
def test_entries_are_what_numpy_writes(tmp_path: Path, array: Array) -> None:
    write_npz(tmp_path / "a.npz", {"x": array})
    expected = io.BytesIO()
    np.lib.format.write_array(expected, np.asanyarray(array))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.read("x.npy") == expected.getvalue()


def test_equal_arrays_make_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_npz(tmp_path / name, {"x": np.arange(5)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"rubbish"])
def test_rubbish_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidData, match=r"a\.npz"):
        read_npz(path)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{}], dtype=object))
    with pytest.raises(InvalidData, match="plain numeric arrays"):
        read_npz(path)


def test_single_numbers_stay_arrays() -> None:
    """Runtimes refuse numpy's scalars, which indexing a vector yields."""
    found = sample_of({"gain": np.array([1.5, 2.5], np.float32), "x": np.ones((2, 3))}, 1)
    assert isinstance(found["gain"], np.ndarray)
    assert found["gain"].shape == ()
    assert found["gain"] == 2.5
    assert found["x"].shape == (3,)
    for scale in (None, Quantization(0.5, 3)):
        spec = TensorSpec("gain", (), "float32" if scale is None else "int8", (), scale)
        stored = spec.store(found["gain"])
        assert isinstance(stored, np.ndarray)
        assert stored.dtype == spec.dtype
        back = spec.restore(stored)
        assert isinstance(back, np.ndarray)
        assert back.shape == ()
        assert back == 2.5
