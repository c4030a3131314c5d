"""Reductions and searches along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from edgeconv.convert.context import Context, axis_of
from edgeconv.convert.registry import op
from edgeconv.convert.value import Tensor, Value, canonical


def reduced(x: Value, axes: Sequence[int], keepdims: int, function: Callable[..., Tensor]) -> Value:
    """Reduce some ONNX axes with a TensorFlow reduction; the others keep their stored order."""
    axes = sorted({axis_of(axis, x.rank) for axis in axes})
    dimensions = x.view.dimensions(axes)
    if dimensions is None:
        x = Value.of(*canonical(x))
        dimensions = x.view.dimensions(axes) or ()
    y = function(x.tensor, axis=list(dimensions), keepdims=bool(keepdims))
    return Value(y, x.view.reduce(axes, keepdims=bool(keepdims)))


def _reduction(
    name: str, axes_input_since: int, function: Callable[..., Tensor], *, keeps_sign: bool = False
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Define a reduction in its two forms: axes as an attribute, and as an input."""

    def reduce_over(x: Value, axes: Sequence[int] | None, keepdims: int) -> Value:
        y = reduced(x, range(x.rank) if axes is None else axes, keepdims, function)
        return Value(y.tensor, y.view, keeps_sign and x.nonnegative)

    @op(name)
    def with_attribute(
        g: Context, x: Value, *, axes: Sequence[int] | None = None, keepdims: int = 1
    ) -> Value:
        return reduce_over(x, axes, keepdims)

    @op(name, since=axes_input_since)
    def with_input(
        g: Context,
        x: Value,
        axes: Value | None = None,
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Value:
        chosen = None if axes is None else g.integers(axes, "axes")
        if not chosen:
            if noop_with_empty_axes:
                return reduced(x, (), 1, function) if _changes_elements(name) else x
            chosen = None
        return reduce_over(x, chosen, keepdims)

    with_attribute.__doc__ = f"{name} with axes as an attribute."
    with_input.__doc__ = f"{name} with axes as an input."
    return with_attribute, with_input


def _changes_elements(name: str) -> bool:
    return name in ("ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp")


def _sum_square(t: Tensor, **where: Any) -> Tensor:
    return tf.reduce_sum(tf.square(t), **where)


def _l1(t: Tensor, **where: Any) -> Tensor:
    return tf.reduce_sum(tf.abs(t), **where)


def _l2(t: Tensor, **where: Any) -> Tensor:
    return tf.sqrt(_sum_square(t, **where))


def _log_sum(t: Tensor, **where: Any) -> Tensor:
    return tf.math.log(tf.reduce_sum(t, **where))


def _log_sum_exp(t: Tensor, *, axis: Sequence[int], keepdims: bool) -> Tensor:
    top = tf.reduce_max(t, axis=axis, keepdims=True)
    total = tf.math.log(tf.reduce_sum(tf.exp(t - top), axis=axis, keepdims=True)) + top
    return total if keepdims else tf.squeeze(total, axis=axis)


reduce_mean = _reduction("ReduceMean", 18, tf.reduce_mean, keeps_sign=True)
reduce_sum = _reduction("ReduceSum", 13, tf.reduce_sum, keeps_sign=True)
reduce_max = _reduction("ReduceMax", 18, tf.reduce_max, keeps_sign=True)
reduce_min = _reduction("ReduceMin", 18, tf.reduce_min, keeps_sign=True)
reduce_prod = _reduction("ReduceProd", 18, tf.reduce_prod, keeps_sign=True)
reduce_sum_square = _reduction("ReduceSumSquare", 18, _sum_square)
reduce_l1 = _reduction("ReduceL1", 18, _l1)
reduce_l2 = _reduction("ReduceL2", 18, _l2)
reduce_log_sum = _reduction("ReduceLogSum", 18, _log_sum)
reduce_log_sum_exp = _reduction("ReduceLogSumExp", 18, _log_sum_exp)
