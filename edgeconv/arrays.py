"""Named arrays in ``.npz`` files, which is how arrays travel between processes and into bundles."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeconv.artifacts import Array, Arrays
from edgeconv.errors import InvalidData


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays under any names; equal arrays make equal files.

    `numpy.savez` takes the names as keywords, so that an array called ``file`` cannot be saved,
    and stamps the current time into the archive.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def read_npz(path: Path) -> Arrays:
    """Read every array of an ``.npz`` file; nothing in it is unpickled.

    Raises:
        InvalidData: The file is missing, damaged, or holds something else than plain arrays.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise InvalidData(
            "cannot read arrays from this file",
            where=str(path),
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            hint="it must be an .npz file of plain numpy arrays",
        ) from error
