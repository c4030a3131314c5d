"""Named arrays in ``.npz`` files, which is how arrays travel between processes and into bundles."""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal

import numpy as np

from edgeconv.core.artifacts import Array, Arrays
from edgeconv.core.errors import InvalidData
from edgeconv.core.npz import open_npz

_SMALL = 64 << 20
_MOST_PACKED = 20
"""What a file may unpack to: some bytes, and a multiple of its size."""


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays under any names; equal arrays make equal files.

    `numpy.savez` takes the names as keywords, so that an array called ``file`` cannot be saved,
    and stamps the current time into the archive.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(member, "w", force_zip64=True) as file:
                _write(file, np.asanyarray(array))


def sample_of(arrays: Mapping[str, Array], index: int) -> Arrays:
    """Return one sample of arrays ``[sample, ...]``; a single number stays an array, of rank 0."""
    return {name: array[index, ...] for name, array in arrays.items()}


def map_npz(path: Path) -> Arrays:
    """Return the arrays of a file that `write_npz` wrote, on disk until they are used.

    The file may be deleted then; its arrays stay.
    """
    arrays: Arrays = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                np.lib.format.read_magic(file)
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                offset = _data_offset(path, member) + file.tell()
            order: Literal["F", "C"] = "F" if fortran else "C"
            arrays[member.filename.removesuffix(".npy")] = (
                np.memmap(path, dtype, "r", offset, shape, order)
                if math.prod(shape)
                else np.zeros(shape, dtype)
            )
    return arrays


def _data_offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where the content of a stored member begins; APPNOTE 6.3.10, section 4.3.7."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return int(member.header_offset) + 30 + int(name) + int(extra)


def _write(file: IO[bytes], array: Array) -> None:
    """Write one array as `numpy.lib.format.write_array` does, but without copies of it."""
    if array.ndim and array.flags.c_contiguous and array.dtype.kind in "biuf" and array.size:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data.cast("B"))
    else:
        np.lib.format.write_array(file, array, allow_pickle=False)


def read_npz(path: Path) -> Arrays:
    """Read every array of an ``.npz`` file; nothing in it is unpickled.

    Raises:
        InvalidData: The file is missing, damaged, holds something else than numbers, or packs more
            than edgeconv would, which does not compress.
    """
    with open_npz(path) as archive:
        total = sum(header.nbytes for header in archive.headers.values())
        size = path.stat().st_size
        if total > _SMALL + _MOST_PACKED * size:
            raise InvalidData(
                "the file unpacks to more than arrays of its size do",
                where=str(path),
                why=f"{total:,} bytes in a file of {size:,}",
                hint="do not trust it; edgeconv itself does not compress",
            )
        return {name: archive.read(name) for name in archive.headers}
