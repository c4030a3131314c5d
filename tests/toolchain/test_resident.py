from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeconv.toolchain.worker import resident
from edgeconv.toolchain.worker.resident import Frugal, give_back_libraries


def _told() -> bool:
    """Tell whether this system says what is mapped, and what of it is changed."""
    listed = Path("/proc/self/smaps")
    return (
        listed.exists() and "Anonymous:" in listed.read_text() and resident.mapped_files() > 4 << 20
    )


pytestmark = pytest.mark.skipif(not _told(), reason="this system does not say what is mapped")

_LARGE = """
import sys
from edgeconv.toolchain.worker.resident import Frugal, give_back_libraries, mapped_files
import numpy as np, scipy.linalg, onnxruntime
a = np.random.default_rng(0).standard_normal((64, 64))
expected = scipy.linalg.inv(a), np.linalg.svd(a)
before = mapped_files()
assert give_back_libraries() > 0
assert mapped_files() < before / 2, (before, mapped_files())
found = scipy.linalg.inv(a), np.linalg.svd(a)
assert (found[0] == expected[0]).all() and (found[1][0] == expected[1][0]).all()
"""


def test_libraries_work_after_their_pages_were_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LARGE], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def _mapping(number: int, rights: str, path: str, anonymous: int) -> str:
    """One entry of ``/proc/self/smaps``, shortened."""
    header = f"7f000000{number}000-7f000000{number + 1}000 {rights} 00000000 fe:00 12"
    counts = f"Size: 4 kB\nRss: 4 kB\nAnonymous: {anonymous} kB\nVmFlags: rd\n"
    return f"{header}                   {path}\n{counts}"


def test_only_unchanged_pages_of_libraries_are_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int]] = []

    class Library:
        def madvise(self, low: object, length: object, advice: int) -> None:
            assert advice == 4  # MADV_DONTNEED
            given.append((low.value, length.value))  # type: ignore[attr-defined]  # ctypes

    listed = tmp_path / "smaps"
    listed.write_text(
        _mapping(0, "r-xp", "/lib/liba.so.2", 0)
        + _mapping(1, "r--p", "/lib/liba.so.2", 4)  # relocated, then protected
        + _mapping(2, "rw-p", "/lib/liba.so.2", 0)
        + _mapping(3, "r--s", "/lib/liba.so.2", 0)
        + _mapping(4, "r--p", "/lib/weights.bin", 0)
        + _mapping(5, "r--p", "/lib/b.cpython-311-x86_64-linux-gnu.so", 0)
        + _mapping(6, "r-xp", "[vdso]", 0)
    )
    monkeypatch.setattr(resident, "_MAPPINGS", listed)
    monkeypatch.setattr("ctypes.CDLL", lambda _: Library())
    assert give_back_libraries() == 2 * 4096
    assert given == [(0x7F0000000000, 4096), (0x7F0000005000, 4096)]


def test_pages_are_given_back_when_imports_have_mapped_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mapped, given = [0], [0]

    def give_back() -> None:
        given[0] += 1
        mapped[0] = 10 << 20

    monkeypatch.setattr(resident, "mapped_files", lambda: mapped[0])
    monkeypatch.setattr(resident, "give_back_libraries", give_back)
    frugal = Frugal()
    for size, expected in ((70, 0), (100, 1), (70, 1), (89, 1), (100, 2)):
        mapped[0] = size << 20
        frugal.find_spec("a", None)
        assert given == [expected]


def test_other_systems_have_nothing_to_give_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "_MAPPINGS", tmp_path / "none")
    monkeypatch.setattr(resident, "_COUNTS", tmp_path / "none")
    assert give_back_libraries() == 0
    assert resident.mapped_files() == 0
