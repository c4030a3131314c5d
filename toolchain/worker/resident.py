"""Give back memory that only caches what is in the files of libraries.

TensorFlow's library has 780 MB. Loading it touches a third of that, with what the kernel maps
around each page; converting needs a tenth of that again. The pages stay in the kernel's cache, but
count as the process's own as long as they are mapped.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

_MAPPINGS = Path("/proc/self/smaps")
_COUNTS = Path("/proc/self/statm")
# Private mappings of shared libraries that nobody can write to, in which no page was changed.
_UNCHANGED = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) r-[-x]p [0-9a-f]+ \S+ \d+ +/.*\.so[.\d]*\n"
    rb"(?:[A-Z]\w+: .*\n)*?Anonymous: +0 kB$",
    re.MULTILINE,
)
_GROWTH = 80 << 20  # bytes; looking through all mappings takes some 20 ms


def give_back_libraries() -> int:
    """Unmap the pages of libraries; what is used again is mapped again when it is.

    Returns:
        The number of bytes that the looked at mappings span; 0 where there is no such thing.
    """
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is None or not _MAPPINGS.exists():
        return 0
    import ctypes

    madvise = ctypes.CDLL(None).madvise
    spans = [
        (int(low, 16), int(high, 16)) for low, high in _UNCHANGED.findall(_MAPPINGS.read_bytes())
    ]
    for low, high in spans:
        # What the kernel refuses, locked pages, stays.
        madvise(ctypes.c_void_p(low), ctypes.c_size_t(high - low), advice)
    return sum(high - low for low, high in spans)


class Frugal(MetaPathFinder):
    """Finds no module, but gives back what loading libraries has left, between the imports."""

    def __init__(self) -> None:
        self._least = mapped_files()

    def find_spec(
        self,
        fullname: str,  # noqa: ARG002
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> None:
        """Give back the libraries' pages if they have grown by much."""
        if mapped_files() - self._least > _GROWTH:
            give_back_libraries()
            self._least = mapped_files()


def mapped_files() -> int:
    """Return the bytes of files that are mapped and resident; 0 where nobody knows."""
    if not _COUNTS.exists():
        return 0
    return int(_COUNTS.read_bytes().split()[2]) * mmap.PAGESIZE
