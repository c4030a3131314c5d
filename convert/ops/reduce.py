"""Reductions and searches along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.lowering import widened
from edgeconv.convert.translate.registry import op
from edgeconv.convert.translate.value import (
    MOST_DIMENSIONS,
    Tensor,
    Value,
    arranged,
    canonical,
    reshaped,
)
from edgeconv.convert.translate.view import Shape
from edgeconv.convert.translate.view_cut import separated

_LEAST_ROW = 16  # with shorter rows kernels are slower than with a transpose on either side


def reduced(x: Value, axes: Sequence[int], keepdims: int, function: Callable[..., Tensor]) -> Value:
    """Reduce some ONNX axes with a TensorFlow reduction; the others keep their stored order."""
    axes = sorted({axis_of(axis, x.rank) for axis in axes})
    x = with_dimensions(x, axes)
    dimensions = x.view.dimensions(axes) or ()
    y = function(x.tensor, axis=list(dimensions), keepdims=bool(keepdims))
    return Value(y, x.view.reduce(axes, keepdims=bool(keepdims)))


def with_dimensions(x: Value, axes: Sequence[int]) -> Value:
    """Return a value with stored dimensions that hold some axes and nothing else.

    It is reshaped where that does it, else transposed.
    """
    if x.view.dimensions(axes) is not None:
        return x
    if x.constant is None and x.view.natural_permutation() is None:
        view = separated(x.view)
        if len(view.stored) <= MOST_DIMENSIONS and view.stored_shape[-1] >= _LEAST_ROW:
            return Value(reshaped(x.tensor, view.stored_shape), view, x.nonnegative)
    return Value.of(*canonical(x))


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
        if axes is not None and axes.constant is None:
            y = _over_axes(x, axes, keepdims, noop_with_empty_axes, g.result("axes"), function)
            return Value(y.tensor, y.view, keeps_sign and x.nonnegative)
        chosen = None if axes is None else g.integers(axes, "axes")
        if not chosen:
            if noop_with_empty_axes:
                return reduced(x, (), 1, function) if _changes_elements(name) else x
            chosen = None
        return reduce_over(x, chosen, keepdims)

    with_attribute.__doc__ = f"{name} with axes as an attribute."
    with_input.__doc__ = f"{name} with axes as an input."
    return with_attribute, with_input


def _over_axes(
    x: Value, axes: Value, keepdims: int, noop: int, shape: Shape, function: Callable[..., Tensor]
) -> Value:
    """Reduce axes known at run time, with the value as the source has it; none stands for all."""
    t = arranged(x, range(x.rank))
    chosen: Any = tf.cast(arranged(axes, range(axes.rank)), tf.int32)
    if axes.shape == (0,):
        chosen = [] if noop else list(range(x.rank))
    y = function(t, axis=chosen, keepdims=bool(keepdims))
    return Value.of(tf.reshape(y, shape))


def _changes_elements(name: str) -> bool:
    return name in ("ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp")


def _widely(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Reduce in a wider dtype where TFLite lacks the tensor's."""

    def reduce_widened(t: Tensor, **where: Any) -> Tensor:
        return widened(lambda u: function(u, **where), t)

    return reduce_widened


def _extreme(function: Callable[..., Tensor], of_bool: Callable[..., Tensor]) -> Any:
    """Reduce numbers with one function, and booleans with another."""

    def reduce_extreme(t: Tensor, **where: Any) -> Tensor:
        if t.dtype == tf.bool:
            return of_bool(t, **where)
        return widened(lambda u: function(u, **where), t)

    return reduce_extreme


def _sum_square(t: Tensor, **where: Any) -> Tensor:
    return tf.reduce_sum(t * t, **where)


def _l1(t: Tensor, **where: Any) -> Tensor:
    return tf.reduce_sum(tf.maximum(t, -t) if t.dtype == tf.int64 else tf.abs(t), **where)


def _as_float(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Reduce integers as float32; the result is cut to an integer."""

    def reduce_as_float(t: Tensor, **where: Any) -> Tensor:
        if t.dtype.is_floating:
            return function(t, **where)
        return tf.cast(function(tf.cast(t, tf.float32), **where), t.dtype)

    return reduce_as_float


def _l2(t: Tensor, **where: Any) -> Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(t), **where))


def _log_sum(t: Tensor, **where: Any) -> Tensor:
    return tf.math.log(tf.reduce_sum(t, **where))


def _log_sum_exp(t: Tensor, *, axis: Sequence[int], keepdims: bool) -> Tensor:
    """Take the maximum out of the sum; it is kept finite, for minus infinity less itself is NaN."""

    def largest(*, keepdims: bool) -> Tensor:
        return tf.maximum(tf.reduce_max(t, axis=axis, keepdims=keepdims), t.dtype.min)

    total = tf.reduce_sum(tf.exp(t - largest(keepdims=True)), axis=axis, keepdims=keepdims)
    return tf.math.log(total) + largest(keepdims=keepdims)


reduce_mean = _reduction("ReduceMean", 18, _widely(tf.reduce_mean), keeps_sign=True)
reduce_sum = _reduction("ReduceSum", 13, _widely(tf.reduce_sum), keeps_sign=True)
reduce_max = _reduction("ReduceMax", 18, _extreme(tf.reduce_max, tf.reduce_any), keeps_sign=True)
reduce_min = _reduction("ReduceMin", 18, _extreme(tf.reduce_min, tf.reduce_all), keeps_sign=True)
reduce_prod = _reduction("ReduceProd", 18, _widely(tf.reduce_prod), keeps_sign=True)
reduce_sum_square = _reduction("ReduceSumSquare", 18, _widely(_sum_square))
reduce_l1 = _reduction("ReduceL1", 18, _widely(_l1))
reduce_l2 = _reduction("ReduceL2", 18, _as_float(_l2))
reduce_log_sum = _reduction("ReduceLogSum", 18, _as_float(_log_sum))
reduce_log_sum_exp = _reduction("ReduceLogSumExp", 18, _as_float(_log_sum_exp))
