"""Pools by an Lp norm: an average pool of powers. Semantics: ONNX operator spec, LpPool."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.pool import average_pool
from edgeconv.convert.ops.reduce import reduced
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.padding import Window, resolve_pads, seen_pads
from edgeconv.convert.translate.registry import op
from edgeconv.convert.translate.value import Tensor, Value


@op("LpPool", since=2)
def lp_pool(
    g: Context,
    x: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    """LpPool: x [N, C, spatial...]; padding is zeros."""
    window = Window.of(kernel_shape, strides, dilations)
    whole = resolve_pads(auto_pad, pads, x.shape[2:], window)
    seen = seen_pads(whole, x.shape[2:], window, ceil_mode=bool(ceil_mode))
    mean = average_pool(
        g,
        x.map(lambda t: _power(t, p), nonnegative=True),
        count_include_pad=1,
        dilations=dilations,
        kernel_shape=kernel_shape,
        pads=[before for before, _ in seen] + [after for _, after in seen],
        strides=strides,
    )
    count = np.float32(math.prod(kernel_shape))
    return mean.map(lambda t: _root(t * count, p), nonnegative=True)


@op("GlobalLpPool", since=2)
def global_lp_pool(g: Context, x: Value, *, p: int = 2) -> Value:
    """GlobalLpPool: x [N, C, spatial...]."""
    total = reduced(x.map(lambda t: _power(t, p)), range(2, x.rank), 1, tf.reduce_sum)
    return total.map(lambda t: _root(t, p), nonnegative=True)


def _power(t: Tensor, p: int) -> Tensor:
    if p == 1:
        return tf.abs(t)
    return tf.square(t) if p == 2 else tf.pow(tf.abs(t), np.float32(p))


def _root(t: Tensor, p: int) -> Tensor:
    if p == 1:
        return t
    return tf.sqrt(t) if p == 2 else tf.pow(t, np.float32(1 / p))
