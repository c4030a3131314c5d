"""Operators whose result is known at conversion: it depends on constants and shapes only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged
from edgeconv.convert.translate.view import DYNAMIC
from edgeconv.core.artifacts import Array
from edgeconv.core.wording import named


@op("EyeLike", since=9)
def eye_like(g: Context, x: Value, *, dtype: int | None = None, k: int = 0) -> Value:
    """EyeLike: ones on a diagonal of a matrix of x's shape."""
    if DYNAMIC in x.shape:
        raise Unsupported("a shape known at run time only", f"give {named('input_shapes')}")
    kind = x.dtype if dtype is None else onnx.helper.tensor_dtype_to_np_dtype(dtype)
    rows, columns = x.shape
    return Value.of(np.eye(rows, columns, k, dtype=kind))


@op("Range", since=11)
def arange(g: Context, start: Value, limit: Value, delta: Value, *, stash_type: int = 1) -> Value:
    """Range of run-time bounds: its length is known at run time only, which TFLite allows."""
    return Value.of(tf.range(*(_scalar(value) for value in (start, limit, delta))))


def _scalar(value: Value) -> Tensor:
    return arranged(value, range(value.rank), ())


def _constant_only(name: str, since: int) -> Callable[..., Any]:
    """Define an operator that folds away where its inputs are constant, and is refused else."""

    @op(name, since=since)
    def translate(
        g: Context,
        *inputs: Value,
        output_datatype: int = 1,
        periodic: int = 1,
        value: Array | None = None,
    ) -> Value:
        raise Unsupported(
            "its inputs, which decide a shape, are computed at run time",
            "make them constants, or export with fixed shapes",
        )

    translate.__doc__ = f"{name} of inputs computed at run time: refused."
    return translate


CONSTANT_ONLY = tuple(
    _constant_only(name, since)
    for name, since in {
        "BlackmanWindow": 17,
        "HammingWindow": 17,
        "HannWindow": 17,
        "MelWeightMatrix": 17,
    }.items()
)
