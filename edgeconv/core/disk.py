"""Digests, syncing, and what a full disk looks like."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from edgeconv.core.errors import UsageError
from edgeconv.core.wording import named

_LARGE = 1 << 28
"""Bytes from which memory is worth more than what is gained by doing two things at a time."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_full(details: str = "") -> UsageError:
    """Return the error for a disk without space."""
    return UsageError(
        "the disk is full, or a limit on file sizes was reached",
        hint=f"free some space, or choose another place with {named('output')}; TMPDIR counts too",
        details=details,
    )


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error means that no more can be written.

    Native libraries wrap the system's error in classes of their own and keep only its text.
    """
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(os.strerror(code) in str(error) for code in _FULL)


def files_of(path: Path) -> Iterator[Path]:
    """Yield a file itself, or every file below a directory, in a fixed order."""
    if path.is_dir():
        yield from sorted(item for item in path.rglob("*") if item.is_file())
    else:
        yield path


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a directory."""
    return sum(file.stat().st_size for file in files_of(path))


def is_large(path: Path) -> bool:
    """Tell whether a file, with what belongs to it beside it, should not be in memory twice."""
    return sum(map(size_of, path.parent.glob(f"{glob.escape(path.name)}*"))) >= _LARGE


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    For a directory it is the SHA-256 of the lines ``<sha256>  <path below it>`` of its files,
    sorted by path, which is what ``sha256sum`` prints.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = [f"{sha256_of(file)}  {file.relative_to(path).as_posix()}\n" for file in files_of(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sync(path: Path) -> None:
    """Make sure that a file, or a directory's list of names, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """Sync every file and directory below, and the directory itself."""
    for path in directory.rglob("*"):
        if not path.is_symlink():
            sync(path)
    sync(directory)


def missing_directories(directory: Path) -> list[Path]:
    """Return the directories to create, the innermost first."""
    missing = []
    while not os.path.lexists(directory):
        missing.append(directory)
        directory = directory.parent
    return missing
