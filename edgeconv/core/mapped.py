"""Files as memory: the system reads what is looked at, and takes its memory back when it likes."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path

from edgeconv.core.artifacts import Array

Content = bytes | mmap.mmap
"""A file's content; views into it keep it alive."""


def mapped(path: Path) -> Content:
    """Return the content of a file that nobody shortens meanwhile, which would end the process.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        # An empty file cannot be mapped.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.read(1) else b""


def give_back(arrays: Iterable[Array]) -> None:
    """Give back the memory of all files that arrays are views of; they are read again if needed."""
    files = {id(file): file for file in map(_file_of, arrays) if file is not None}
    for file in files.values():
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            file.madvise(mmap.MADV_DONTNEED)


def _file_of(array: Array) -> mmap.mmap | None:
    source: object = array
    while not isinstance(source, mmap.mmap):
        view = isinstance(source, memoryview)
        source = getattr(source, "obj" if view else "base", None)
        if source is None:
            return None
    return source
