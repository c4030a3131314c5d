"""Temporary directories that are removed even if the process that made them is killed.

Each holds a file on which its maker keeps a lock (flock(2)) for as long as it lives; the system
lets go of it however the process ends. Whoever makes a directory first removes those beside it that
nobody holds any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "edgeconv-"
_LOCK = ".held"


class Scratch:
    """A private temporary directory.

    Attributes:
        path: The directory.
    """

    def __init__(self) -> None:
        sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        # Locked before it has its name, so that nobody can take the directory for a stale one.
        new = self.path / f"{_LOCK}.new"
        self._lock = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        new.rename(self.path / _LOCK)

    def close(self) -> None:
        """Remove the directory with everything in it; may be called again."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


@contextmanager
def scratch_directory() -> Iterator[str]:
    """Yield a private temporary directory, and remove it afterwards."""
    scratch = Scratch()
    try:
        yield str(scratch.path)
    finally:
        scratch.close()


def sweep(folder: Path) -> None:
    """Remove the directories in a folder whose makers have died.

    Args:
        folder: Where temporary directories are made. Those of other users, and whatever was not
            made here, are left alone.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        found = [entry.path for entry in entries if entry.name.startswith(PREFIX)]
        for path in found:
            with suppress(OSError):
                _remove_stale(Path(path))


def _remove_stale(path: Path) -> None:
    """Remove a directory if it is ours and nobody holds it."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError where it is held
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
