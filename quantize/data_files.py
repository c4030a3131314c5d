"""Read ``.npz`` and ``.npy`` files; nothing in them is unpickled."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeconv.artifacts import Array, Arrays
from edgeconv.errors import InvalidData

# Names that nobody gives to an input: expected outputs and labels that lie beside the inputs.
_OUTPUT = re.compile(r"(?:out|output|outputs|y|label|labels|target|targets|expected)_?\d*")
_POSITIONAL = ("in{}", "arr_{}", "in_{}", "input_{}")


def is_output(name: str) -> bool:
    """Tell whether nobody gives an input this name: it is an expected output, or a label."""
    return _OUTPUT.fullmatch(name) is not None


def read_npz_inputs(path: Path, names: Sequence[str]) -> Arrays:
    """Return the arrays of an ``.npz`` file that are the inputs of a model, by input name.

    Args:
        path: The file.
        names: The inputs, in order.

    Raises:
        InvalidData: It is damaged, needs unpickling, or its names are others.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            keys = _keys(list(archive.files), names, str(path))
            return {name: archive[key] for name, key in zip(names, keys, strict=True)}
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def check_npz(path: Path, names: Sequence[str] | None) -> None:
    """Check that an ``.npz`` file is whole enough to be listed, and what its arrays are named.

    Args:
        path: The file.
        names: The inputs, in order; where they are not known, any name will do.

    Raises:
        InvalidData: It is damaged, or its names are others.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if names is not None:
                _keys(list(archive.files), names, str(path))
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def read_npy(path: Path) -> Array:
    """Return the array of an ``.npy`` file, mapped into memory.

    Raises:
        InvalidData: It is damaged or needs unpickling.
    """
    try:
        array: Array = np.load(path, allow_pickle=False, mmap_mode="r")
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return array


# What numpy and zipfile raise over damaged files, MemoryError over absurd declared sizes.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    TypeError,
    KeyError,
    SyntaxError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
)


def _damaged(path: Path, error: Exception) -> InvalidData:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "allow_pickle" in text or "Python objects" in text:
        return InvalidData(
            "the file holds Python objects, and loading those runs code from it",
            where=str(path),
            hint="save plain numeric arrays with numpy.savez",
        )
    return InvalidData(
        "the file is truncated or corrupt",
        where=str(path),
        why=text,
        hint="write it again with numpy.savez or numpy.save",
    )


def _keys(found: list[str], names: Sequence[str], where: str) -> list[str]:
    """Return the key of each input."""
    if set(names) <= set(found):
        rest = [key for key in found if key not in names]
        keys = list(names)
    else:
        inputs = [key for key in found if not is_output(key)]
        patterns = ([pattern.format(n) for n in range(len(names))] for pattern in _POSITIONAL)
        keys = next((keys for keys in patterns if set(keys) == set(inputs)), [])
        rest = []
    if not keys or any(not is_output(key) for key in rest):
        raise _wrong_keys(found, names, where)
    return keys


def _wrong_keys(found: list[str], names: Sequence[str], where: str) -> InvalidData:
    positional = ", ".join(f"in{number}" for number in range(len(names)))
    return InvalidData(
        "the arrays are not named like the inputs of the model",
        where=where,
        why=f"expected {', '.join(names)} (or {positional}); found {', '.join(found) or 'none'}",
        hint="rename them: numpy.savez(path, **{'" + names[0] + "': array, ...})",
    )
