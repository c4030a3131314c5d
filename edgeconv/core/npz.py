"""Read ``.npz`` files that nobody vouches for: every header is looked at before any content.

An ``.npz`` file is a zip archive of ``.npy`` files (numpy.lib.format). Nothing in it is unpickled,
and nothing is unpacked beyond what its header says that it is, and that somebody asks for.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.core.errors import InvalidData, first_line

DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    TypeError,
    LookupError,
    SyntaxError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy, zipfile and zlib raise over damaged files."""

_NUMBERS = "biufc"
_SUFFIX = ".npy"
_ENCRYPTED = 1  # of the general purpose flags; APPNOTE 6.3.10, section 4.4.4
_HEADER = 10_000
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What a member says of its array.

    Attributes:
        shape: The array's shape.
        dtype: Its type, one of numbers.
        fortran: Whether the first axis varies fastest.
        member: The zip archive's entry.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool
    member: zipfile.ZipInfo

    @property
    def nbytes(self) -> int:
        """The bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class Npz:
    """An open file.

    Attributes:
        headers: What its members are, by the arrays' names.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.headers: Mapping[str, Header] = {
            member.filename.removesuffix(_SUFFIX): self._header(member)
            for member in archive.infolist()
        }

    def read(self, name: str, limit: int | None = None) -> Array:
        """Return an array, or the first entries along its first axis.

        Raises:
            ValueError: There is less of it than its header says.
            zlib.error: It is damaged, as are the others of `DAMAGE`.
        """
        header = self.headers[name]
        with self._archive.open(header.member) as file:
            _read_header(file)
            if limit is None or header.fortran or not header.shape:
                array = _filled(file, header.shape, header.dtype, fortran=header.fortran)
                return array[:limit] if header.shape else array
            rows = min(limit, header.shape[0])
            return _filled(file, (rows, *header.shape[1:]), header.dtype, fortran=False)

    def _header(self, member: zipfile.ZipInfo) -> Header:
        name = member.filename
        if member.flag_bits & _ENCRYPTED:
            raise ValueError(f"its member {name} is encrypted")
        if not name.endswith(_SUFFIX):
            raise ValueError(f"its member {name} is no array")
        with self._archive.open(member) as file:
            shape, fortran, dtype = _read_header(file)
            begin = file.tell()
        if dtype.hasobject:
            raise ValueError(f"its member {name} holds Python objects")
        if dtype.kind not in _NUMBERS:
            raise ValueError(f"its member {name} holds {dtype}, not numbers")
        header = Header(shape, dtype, fortran, member)
        if header.nbytes != member.file_size - begin or any(size < 0 for size in shape):
            raise ValueError(
                f"its member {name} has {member.file_size - begin:,} bytes, not the "
                f"{header.nbytes:,} of {dtype}{list(shape)}"
            )
        return header


@contextmanager
def open_npz(path: Path) -> Iterator[Npz]:
    """Open a file, and turn whatever is wrong with it into an error.

    Raises:
        InvalidData: It is missing, damaged, encrypted, or holds something else than numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield Npz(archive)
    except InvalidData:
        raise
    except DAMAGE as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: BaseException) -> InvalidData:
    """Return the error for a file of arrays that cannot be read."""
    text = first_line(error)
    if "allow_pickle" in text or "Python objects" in text:
        return InvalidData(
            "the file holds Python objects, and loading those runs code from it",
            where=str(path),
            hint="save plain numeric arrays with numpy.savez",
        )
    if isinstance(error, OSError) and error.strerror:
        return InvalidData("the file cannot be read", where=str(path), why=error.strerror)
    return InvalidData(
        "the file is truncated or corrupt",
        where=str(path),
        why=text,
        hint="write it again with numpy.savez or numpy.save",
    )


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file, max_header_size=_HEADER)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file, max_header_size=_HEADER)
    raise ValueError(f"numpy's format {version[0]}.{version[1]} is not known")


def _filled(
    file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[np.generic], *, fortran: bool
) -> Array:
    """Read the next bytes as an array."""
    array: Array = np.empty(shape, dtype, order="F" if fortran else "C")
    if not array.size:
        return array
    view = array.reshape(-1, order="A").view(np.uint8).data
    done = 0
    while done < len(view):
        chunk = file.read(min(len(view) - done, _CHUNK))
        if not chunk:
            raise ValueError("there is less of it than its header says")
        view[done : done + len(chunk)] = chunk
        done += len(chunk)
    return array
