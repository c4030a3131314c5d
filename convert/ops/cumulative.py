"""Running sums and products, and triangles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.elementwise import where
from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.lowering import dtype_of, widened
from edgeconv.convert.translate.registry import op
from edgeconv.convert.translate.value import Tensor, Value, arranged, canonical


@op("CumSum", since=11)
def cum_sum(g: Context, x: Value, axis: Value, *, exclusive: int = 0, reverse: int = 0) -> Value:
    """CumSum along a constant axis."""

    def running(t: Tensor, place: int) -> Tensor:
        return tf.cumsum(t, place, exclusive=bool(exclusive), reverse=bool(reverse))

    return _along(g, x, axis, running)


@op("CumProd", since=26)
def cum_prod(g: Context, x: Value, axis: Value, *, exclusive: int = 0, reverse: int = 0) -> Value:
    """CumProd along a constant axis, by doubling: TFLite has no running product.

    Source: Hillis and Steele 1986, Data parallel algorithms, "sum of an array of numbers".
    """

    def running(t: Tensor, place: int) -> Tensor:
        t = tf.reverse(t, [place]) if reverse else t
        if exclusive:
            t = _delayed(t, place, 1)
        step = 1
        while step < t.shape[place]:
            t = t * _delayed(t, place, step)
            step *= 2
        return tf.reverse(t, [place]) if reverse else t

    return _along(g, x, axis, running)


def _along(g: Context, x: Value, axis: Value, function: Callable[[Tensor, int], Tensor]) -> Value:
    number = axis_of(g.integers(axis, "axis")[0], x.rank)
    t, permutation = canonical(x)
    place = permutation.index(number)
    return Value.of(widened(lambda u: function(u, place), t), permutation)


def _delayed(t: Tensor, place: int, steps: int) -> Tensor:
    """Shift along an axis; ones come in."""
    kept = [slice(None)] * place + [slice(0, t.shape[place] - steps)]
    sides = [(0, 0)] * len(t.shape)
    sides[place] = (steps, 0)
    return tf.pad(t[tuple(kept)], sides, constant_values=np.asarray(1, dtype_of(t)))


@op("Trilu", since=14)
def trilu(g: Context, x: Value, k: Value | None = None, *, upper: int = 1) -> Value:
    """Trilu: the triangle from, or up to, the k-th diagonal of the last two axes."""
    offset: Any = 0 if k is None else arranged(k, range(k.rank), ())
    rows, columns = x.shape[-2:]
    distance = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    kept = distance >= offset if upper else distance <= offset
    if not isinstance(kept, np.ndarray):
        kept = tf.reshape(kept, (rows, columns))
    return where(g, Value.of(kept), x, Value.of(np.asarray(0, x.dtype)))
