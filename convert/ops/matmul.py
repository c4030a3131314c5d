"""Matrix products. Source of the semantics: ONNX operator spec, Gemm and MatMul."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.elementwise import binary, is_float
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.lowering import widened
from edgeconv.convert.translate.registry import op
from edgeconv.convert.translate.value import (
    Tensor,
    Value,
    arranged,
    loose,
    reshaped,
    shape_of,
)
from edgeconv.convert.translate.view import DYNAMIC, View


@op("Gemm", since=7)
def gemm(
    g: Context,
    a: Value,
    b: Value,
    c: Value | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Value:
    """Gemm: alpha * a' b' + beta * c."""
    left = a.transpose((1, 0)) if transA else a
    right = b.transpose((1, 0)) if transB else b
    y = _product_2d(g, left, right, alpha)
    if c is None or beta == 0:
        return Value.of(y)
    bias = c if beta == 1 else c.map(lambda t: t * np.asarray(beta, c.dtype))
    if is_float(bias) and bias.shape in ((y.shape[1],), (1, y.shape[1])):
        # Of one dimension: oneDNN's product of a transposed matrix takes no other.
        return Value.of(tf.nn.bias_add(y, arranged(bias, range(bias.rank), (y.shape[1],))))
    return binary(tf.add, Value.of(y), bias)


def _product_2d(g: Context, left: Value, right: Value, alpha: float) -> Tensor:
    """Multiply [M, K] by [K, N]; constant weights follow the stored order of K."""
    if not is_float(left):
        y = _integer_product(left, right)
        return y if alpha == 1 else y * np.asarray(alpha, left.dtype)
    weights = right.constant
    if weights is None:
        rows, transposed = _operand(right)
        y = tf.matmul(arranged(left, (0, 1)), rows, transpose_b=transposed)
        return y if alpha == 1 else y * np.asarray(alpha, right.dtype)
    x, _, elements = loose(left, (0, 1), [1])
    order = elements[1]
    weights = weights if order is None else weights[order]
    scaled = weights if alpha == 1 else weights * np.asarray(alpha, weights.dtype)
    return tf.matmul(x, g.weight(scaled))


def _operand(value: Value) -> tuple[Tensor, bool]:
    """Return a matrix as it is stored, and whether its last two axes are swapped there."""
    rank = value.rank
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    straight = tuple(range(rank))
    if value.view.movement(straight).moves and not value.view.movement(swapped).moves:
        return arranged(value, swapped), True
    return arranged(value, straight), False


@op("MatMul")
def matmul(g: Context, a: Value, b: Value) -> Value:
    """MatMul with numpy's rules for vectors and batches."""
    if a.rank == 1 and b.rank == 2 and b.constant is None:
        # The converter would fold the reshape of one row into a product of rank 1, and refuse it.
        return matmul(g, b.transpose((1, 0)), a)
    left = a.reshape((1, *a.shape)) if a.rank == 1 else a
    right = b.reshape((*b.shape, 1)) if b.rank == 1 else b
    y = _matmul(g, left, right)
    shape = list(y.shape)
    if b.rank == 1:
        shape.pop(-1)
    if a.rank == 1:
        shape.pop(-1 if b.rank == 1 else -2)
    return y if len(shape) == y.rank else y.reshape(tuple(shape))


def _integer_product(left: Value, right: Value) -> Tensor:
    """Multiply matrices of integers, which TFLite's kernels do not: multiply all, then add."""
    a = arranged(left, range(left.rank))
    b = arranged(right, range(right.rank))
    expanded = tf.expand_dims(a, -1), tf.expand_dims(b, -3)
    return widened(lambda x, y: tf.reduce_sum(tf.multiply(x, y), axis=-2), *expanded)


def _matmul(g: Context, left: Value, right: Value) -> Value:
    if not is_float(left):
        return Value.of(_integer_product(left, right))
    if right.constant is not None and right.rank == 2:
        return _linear(g, left, right)
    as_stored = _product_as_stored(left, right)
    if as_stored is not None:
        return as_stored
    a, a_swapped = _operand(left)
    b, b_swapped = _operand(right)
    return Value.of(tf.matmul(a, b, transpose_a=a_swapped, transpose_b=b_swapped))


def _product_as_stored(left: Value, right: Value) -> Value | None:
    """Multiply matrices whose batch is stored in the same dimensions, which need not be its axes.

    None where it is not, or where rows and columns are not stored last.
    """
    if left.constant is not None or right.constant is not None or left.rank != right.rank:
        return None
    leads, flags = [], []
    for value in (left, right):
        *batch, rows, columns = range(value.rank)
        straight = value.view.is_stored_as((*batch, rows, columns))
        stored = value.view.stored_shape
        last = (value.shape[rows], value.shape[columns])
        if len(stored) not in (3, 4) or stored[-2:] != (last if straight else last[::-1]):
            return None
        if not straight and not value.view.is_stored_as((*batch, columns, rows)):
            return None
        leads.append((stored[:-2], value.shape[:-2]))
        flags.append(not straight)
    if leads[0] != leads[1] or DYNAMIC in left.shape:
        return None
    y = tf.matmul(left.tensor, right.tensor, transpose_a=flags[0], transpose_b=flags[1])
    view = View.of(shape_of(y)).reshape((*left.shape[:-1], right.shape[-1]))
    return None if view is None else Value(y, view)


def _linear(g: Context, x: Value, weights: Value) -> Value:
    """Multiply by a constant matrix, which follows the stored order of x's last axis.

    The rows keep whatever order they are stored in.
    """
    kernel = weights.constant
    assert kernel is not None, "only called for constant weights"
    rows = x.view.as_rows()
    if rows is None:
        x = Value.of(arranged(x, range(x.rank)))
        rows = x.view.as_rows()
        assert rows is not None, "a tensor in ONNX's order has its last axis last"
    order = x.view.axis_elements(x.rank - 1)
    if not np.array_equal(order, np.arange(len(order))):
        kernel = kernel[order]
    y = tf.matmul(reshaped(x.tensor, rows.stored_shape), g.weight(kernel))
    return Value(y, rows.with_last(kernel.shape[1]))
