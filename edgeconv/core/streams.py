"""Values of many layers in one file, written one after the other and read one at a time.

Both classes are closed by `close`; `contextlib.closing` does that at the end of a block.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgeconv.core.artifacts import Array


def _index(path: Path) -> Path:
    return path.with_name(f"{path.name}.index")


class SampleWriter:
    """Writes float32 values, and beside them an index that says where each of them is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}

    def write(self, sample: int, number: int, array: Array) -> None:
        """Add one value."""
        self._places[f"{sample}/{number}"] = (self._file.tell(), array.shape)
        self._file.write(np.ascontiguousarray(array, np.float32).data)

    def close(self) -> None:
        """Finish both files."""
        self._file.close()
        _index(self._path).write_text(json.dumps(self._places))


class SampleReader:
    """Reads what `SampleWriter` wrote."""

    def __init__(self, path: Path) -> None:
        self._places = json.loads(_index(path).read_text())
        self._file = path.open("rb")

    def read(self, sample: int, number: int) -> Array:
        """Return one value, in memory of its own: of a mapped file all that was read would stay."""
        offset, shape = self._places[f"{sample}/{number}"]
        self._file.seek(offset)
        found = np.empty(shape, np.float32)
        self._file.readinto(found.reshape(-1).view(np.uint8).data)
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def remove(path: Path) -> None:
    """Remove what `SampleWriter` wrote, as far as it did."""
    for file in (path, _index(path)):
        file.unlink(missing_ok=True)
