"""Require a TorchScript archive to hold all that its tensors show, before PyTorch loads it.

PyTorch takes what a pickle says of a tensor for granted: the number of elements of its storage, its
offset, sizes and strides. Where the archive has fewer bytes, it reads memory that is not its own.
So the pickles are read here first, by a machine that makes nothing of what they name.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Self

_FOLDERS = {"data.pkl": "data/", "constants.pkl": "constants/"}
"""Where the storages of a pickle lie. There are others, which PyTorch does not read."""

_REBUILDS = ("_rebuild_tensor_v2", "_rebuild_tensor", "_rebuild_qtensor")


class Damaged(ValueError):
    """A tensor shows more than the archive holds."""


def require_whole(reader: Any, names: Collection[str]) -> None:
    """Look through the pickles of an archive.

    Args:
        reader: PyTorch's reader of the archive.
        names: The members.

    Raises:
        Damaged: A tensor shows more than the archive holds.
        Exception: A pickle is damaged; whatever `pickle` raises.
    """
    for name, folder in _FOLDERS.items():
        if name in names:
            _Reader(reader.get_record(name), partial(_size, reader, names, folder)).load()


def _size(reader: Any, names: Collection[str], folder: str, key: str) -> int:
    """Return the bytes of a storage."""
    return int(reader.get_record_size(folder + key)) if folder + key in names else 0


class _Made:
    """Stands for an object of a class that a pickle imports, whatever is done with it."""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Take what the object has."""

    def __setitem__(self, key: object, value: object) -> None:
        """Take an entry of a dictionary."""

    def append(self, value: object) -> None:
        """Take an item of a list."""

    def extend(self, values: object) -> None:
        """Take items of a list."""


class _Reader(pickle.Unpickler):
    """Unpickles without importing anything; a storage becomes the number of its elements."""

    def __init__(self, content: bytes, size_of: Callable[[str], int]) -> None:
        super().__init__(io.BytesIO(content))
        self._size_of = size_of

    def find_class(self, _: str, name: str) -> Any:
        """Return what stands for it."""
        return _require_inside if name in _REBUILDS else type(name, (_Made,), {})

    def persistent_load(self, pid: Any) -> int:
        """Return the elements of a storage."""
        _, kind, key, _, count = pid
        size = self._size_of(str(key))
        if not isinstance(count, int) or not 0 <= count * _item_size(kind.__name__) <= size:
            raise Damaged(f"the storage {key} has {size:,} bytes, and is to have {count} elements")
        return count


def _item_size(kind: str) -> int:
    """Return the bytes of an element of one of PyTorch's classes of storages."""
    import torch

    dtype = getattr(getattr(torch, kind, None), "dtype", None)
    return dtype.itemsize if isinstance(dtype, torch.dtype) else 1


def _require_inside(
    count: int, offset: int, sizes: Sequence[int], strides: Sequence[int], *_: object
) -> _Made:
    """Require the elements of a tensor to lie in its storage.

    Args:
        count: The elements of the storage.
        offset: The first one.
        sizes: The tensor's shape.
        strides: The elements from one to the next, by axis.

    Raises:
        Damaged: They do not.
    """
    last = offset + sum((size - 1) * step for size, step in zip(sizes, strides, strict=True))
    sound = offset >= 0 and all(number >= 0 for number in (*sizes, *strides))
    if not sound or (all(sizes) and last >= count):
        raise Damaged(
            f"a tensor of shape {tuple(sizes)}, strides {tuple(strides)} and offset {offset} does "
            f"not fit into a storage of {count} elements"
        )
    return _Made()
