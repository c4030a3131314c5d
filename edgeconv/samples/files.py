"""Read ``.npz`` and ``.npy`` files; nothing in them is unpickled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeconv.core.artifacts import Array, Arrays, TensorSpec
from edgeconv.core.errors import InvalidData
from edgeconv.core.npz import DAMAGE, damaged, open_npz
from edgeconv.samples.conform import require_shape

# Names that nobody gives to an input: expected outputs and labels that lie beside the inputs.
_OUTPUT = re.compile(r"(?:out|output|outputs|y|label|labels|target|targets|expected)_?\d*")
_POSITIONAL = ("in{}", "arr_{}", "in_{}", "input_{}")


def is_output(name: str) -> bool:
    """Tell whether nobody gives an input this name: it is an expected output, or a label."""
    return _OUTPUT.fullmatch(name) is not None


def read_npz_inputs(path: Path, inputs: Sequence[TensorSpec], limit: int | None) -> Arrays:
    """Return the arrays of an ``.npz`` file that are the inputs of a model, by input name.

    Args:
        path: The file.
        inputs: The inputs, in order.
        limit: The largest number of samples; of larger files no more is read.

    Raises:
        InvalidData: It is damaged, needs unpickling, or names, shapes or counts are others.
    """
    names = [spec.name for spec in inputs]
    with open_npz(path) as archive:
        keys = _keys(list(archive.headers), names, str(path))
        found = {
            spec.name: archive.headers[key].shape for spec, key in zip(inputs, keys, strict=True)
        }
        for spec in inputs:
            require_shape(spec, found[spec.name], str(path))
        require_same_counts({name: shape[0] for name, shape in found.items()}, str(path))
        return {name: archive.read(key, limit) for name, key in zip(names, keys, strict=True)}


def require_same_counts(counts: Mapping[str, int], where: str) -> None:
    """Require as many samples of each input.

    Raises:
        InvalidData: There are not.
    """
    if len(set(counts.values())) > 1:
        raise InvalidData(
            "the inputs have different numbers of samples",
            where=where,
            why=", ".join(f"{name} {count}" for name, count in counts.items()),
            hint="the first axis of every array counts the samples",
        )


def check_npz(path: Path, names: Sequence[str] | None) -> None:
    """Check that an ``.npz`` file is whole enough to be listed, and what its arrays are named.

    Args:
        path: The file.
        names: The inputs, in order; where they are not known, any name will do.

    Raises:
        InvalidData: It is damaged, or its names are others.
    """
    with open_npz(path) as archive:
        if names is not None:
            _keys(list(archive.headers), names, str(path))


def read_npy(path: Path) -> Array:
    """Return the array of an ``.npy`` file, mapped into memory.

    Raises:
        InvalidData: It is damaged or needs unpickling.
    """
    try:
        array: Array = np.load(path, allow_pickle=False, mmap_mode="r")
    except DAMAGE as error:
        raise damaged(path, error) from error
    return array


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
