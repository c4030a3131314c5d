"""Dtypes that TFLite's kernels lack: the same result through a wider dtype that they have.

Integers of 8 and 16 bits are computed in int32, which holds every sum, product and comparison of
two of them; the cast back wraps around as the narrow dtype itself would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.value import Tensor

DTypes = frozenset[np.dtype[Any]]


def dtypes(*names: str) -> DTypes:
    """Return a set of dtypes by numpy name."""
    return frozenset(np.dtype(name) for name in names)


ARITHMETIC = dtypes("float32", "int32", "int64")
"""What LiteRT's kernels for ADD, SUB, MUL, MAXIMUM, LESS, SUM, CUMSUM and their like take."""
_WIDER = {
    np.dtype(narrow): np.dtype(wide)
    for narrow, wide in {
        "bool": "int32", "int8": "int32", "uint8": "int32", "int16": "int32", "uint16": "int32",
        "uint32": "int64", "float16": "float32",
    }.items()
}  # fmt: skip


def dtype_of(tensor: Tensor) -> np.dtype[Any]:
    """Return the numpy dtype of a tensor or an array."""
    dtype = tensor.dtype
    return dtype if isinstance(dtype, np.dtype) else np.dtype(dtype.as_numpy_dtype)


def cast(tensor: Tensor, dtype: Any) -> Tensor:
    """Cast unless the tensor has that dtype; an array stays an array."""
    target = np.dtype(dtype)
    if dtype_of(tensor) == target:
        return tensor
    return tensor.astype(target) if isinstance(tensor, np.ndarray) else tf.cast(tensor, target)


def widened(
    function: Callable[..., Tensor], *tensors: Tensor, native: Iterable[np.dtype[Any]] = ARITHMETIC
) -> Tensor:
    """Apply a function to tensors of one dtype, in a wider one where TFLite lacks theirs.

    Args:
        function: Takes the tensors; a result of the wide dtype is cast back.
        tensors: Tensors or arrays of the same dtype.
        native: Dtypes that TFLite has kernels for.
    """
    dtype = dtype_of(tensors[0])
    wide = _WIDER.get(dtype)
    if dtype in native or wide is None:
        return function(*tensors)
    result = function(*(cast(tensor, wide) for tensor in tensors))
    return cast(result, dtype) if dtype_of(result) == wide else result
