"""Changes of element type."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.lowering import cast, dtype_of, dtypes
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value

_SMALL_UNSIGNED = dtypes("uint8", "uint16", "uint32")


def dtype_named(number: int) -> np.dtype[Any]:
    """Return the numpy dtype of an ONNX element type.

    Raises:
        Unsupported: TensorFlow has no such dtype.
    """
    dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
    if dtype.kind not in "fiub":
        raise Unsupported(f"a cast to {onnx.TensorProto.DataType.Name(number)}")
    return dtype


def casted(x: Value, dtype: np.dtype[Any]) -> Value:
    """Cast a value; integers wrap around, floats are cut towards zero."""
    if dtype == x.dtype:
        return x
    return x.map(lambda t: _cast(t, dtype), nonnegative=x.nonnegative or dtype == np.bool_)


def _cast(t: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """Cast; a float below zero reaches an unsigned dtype through int32, where it wraps around.

    The direct conversion is undefined in C and differs between kernels.
    """
    if dtype in _SMALL_UNSIGNED and np.issubdtype(dtype_of(t), np.floating):
        t = cast(t, np.int64 if dtype == np.uint32 else np.int32)
    return cast(t, dtype)


@op("Cast", since=6)
def cast_to(g: Context, x: Value, *, to: int, saturate: int = 1, round_mode: str = "up") -> Value:
    """Cast between the dtypes that TensorFlow has."""
    return casted(x, dtype_named(to))


@op("CastLike", since=15)
def cast_like(
    g: Context, x: Value, target: Value, *, saturate: int = 1, round_mode: str = "up"
) -> Value:
    """Cast to another value's dtype."""
    return casted(x, target.dtype)


@op("BitCast", since=26)
def bit_cast(g: Context, x: Value, *, to: int) -> Value:
    """BitCast between dtypes of the same width."""
    dtype = dtype_named(to)
    if dtype == x.dtype:
        return x
    if np.bool_ in (dtype, x.dtype):  # a bool is stored as the byte 0 or 1
        return casted(x, dtype)
    return x.map(lambda t: tf.bitcast(t, dtype))
