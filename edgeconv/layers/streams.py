"""Values of many layers in one file, read and written a sample at a time."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from edgeconv.artifacts import Array


class SampleWriter:
    """Writes an uncompressed ``.npz`` with keys ``<sample>/<number>``. A context manager."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._archive.close()

    def write(self, sample: int, number: int, array: Array) -> None:
        """Add one value."""
        with self._archive.open(f"{sample}/{number}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


class SampleReader:
    """Reads what `SampleWriter` wrote, one sample at a time. A context manager."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._archive.close()

    def read(self, sample: int, number: int) -> Array:
        """Return one value."""
        with self._archive.open(f"{sample}/{number}.npy") as file:
            array: Array = np.lib.format.read_array(file, allow_pickle=False)
        return array
