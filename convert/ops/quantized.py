"""Quantized arithmetic, computed on float32 numbers that hold the integers.

Products of 8-bit integers are exact there, and their sums up to 2^24, over 256 products of the
largest size. Source of the semantics: ONNX operator spec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.cast import casted, dtype_named
from edgeconv.convert.ops.conv import conv
from edgeconv.convert.ops.elementwise import binary
from edgeconv.convert.ops.matmul import matmul
from edgeconv.convert.passes.materialize_shared import DOMAIN
from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.registry import op
from edgeconv.convert.translate.value import Value, arranged

_FLOAT = np.dtype(np.float32)


@op("QuantizeLinear", since=10)
def quantize_linear(
    g: Context,
    x: Value,
    y_scale: Value,
    y_zero_point: Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Value:
    """QuantizeLinear to integers: per tensor, per axis or in blocks."""
    dtype = np.dtype(np.uint8)
    if y_zero_point is not None:
        dtype = y_zero_point.dtype
    elif output_dtype:
        dtype = dtype_named(output_dtype)
    scale = _spread(y_scale, x, axis, block_size)
    zero = None if y_zero_point is None else _spread(y_zero_point, x, axis, block_size)
    return _quantized(_number(x), scale, zero, dtype)


@op("DequantizeLinear", since=10)
def dequantize_linear(
    g: Context,
    x: Value,
    x_scale: Value,
    x_zero_point: Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Value:
    """DequantizeLinear from integers: per tensor, per axis or in blocks."""
    zero = None if x_zero_point is None else _spread(x_zero_point, x, axis, block_size)
    y = binary(tf.multiply, _centred(x, zero), _spread(x_scale, x, axis, block_size))
    return casted(y, dtype_named(output_dtype)) if output_dtype else y


@op("FakeQuantize", domain=DOMAIN)
def fake_quantize(g: Context, x: Value, *, low: float, high: float) -> Value:
    """Simulated 8-bit quantization over a range, which the TFLite converter keeps as such."""
    return x.map(lambda t: tf.quantization.fake_quant_with_min_max_args(t, low, high, 8))


@op("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(g: Context, x: Value) -> tuple[Value, Value, Value]:
    """DynamicQuantizeLinear to uint8: y, its scale and its zero point."""
    low = tf.minimum(tf.reduce_min(x.tensor), 0)
    high = tf.maximum(tf.reduce_max(x.tensor), 0)
    span = high - low
    scale = tf.where(span > 0, span, np.float32(1)) / np.float32(255)
    zero = tf.round(tf.clip_by_value(-low / scale, 0, 255))
    y = _quantized(x, Value.of(scale), Value.of(zero), np.dtype(np.uint8))
    return y, Value.of(scale), casted(Value.of(zero), np.dtype(np.uint8))


@op("MatMulInteger", since=10)
def matmul_integer(
    g: Context,
    a: Value,
    b: Value,
    a_zero_point: Value | None = None,
    b_zero_point: Value | None = None,
) -> Value:
    """MatMulInteger: int32 sums."""
    left = _centred(a, _rows(a_zero_point, a))
    return casted(matmul(g, left, _centred(b, b_zero_point)), np.dtype(np.int32))


@op("QLinearMatMul", since=10)
def qlinear_matmul(
    g: Context,
    a: Value,
    a_scale: Value,
    a_zero_point: Value,
    b: Value,
    b_scale: Value,
    b_zero_point: Value,
    y_scale: Value,
    y_zero_point: Value,
) -> Value:
    """QLinearMatMul; scales and zero points per tensor, or per row of a and column of b."""
    sums = matmul(g, _centred(a, _rows(a_zero_point, a)), _centred(b, b_zero_point))
    scale = _quotient(_product(_rows(a_scale, a), b_scale), _rows(y_scale, sums))
    return _requantized(sums, scale, _rows(y_zero_point, sums))


def _rows(parameter: Value | None, of: Value) -> Any:
    """Present a vector with one element per row so that it broadcasts over the columns."""
    if parameter is None or parameter.rank != 1 or parameter.shape[0] == 1 or of.rank < 2:
        return parameter
    return parameter.reshape((*parameter.shape, 1))


@op("ConvInteger", since=10)
def conv_integer(
    g: Context,
    x: Value,
    w: Value,
    x_zero_point: Value | None = None,
    w_zero_point: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    """ConvInteger: int32 sums."""
    window: dict[str, Any] = {
        "auto_pad": auto_pad, "dilations": dilations, "group": group,
        "kernel_shape": kernel_shape, "pads": pads, "strides": strides,
    }  # fmt: skip
    kernel = _centred(w, _first_axis(w_zero_point, w.rank))
    y: Value = conv(g, _centred(x, x_zero_point), kernel, **window)
    return casted(y, np.dtype(np.int32))


@op("QLinearConv", since=10)
def qlinear_conv(
    g: Context,
    x: Value,
    x_scale: Value,
    x_zero_point: Value,
    w: Value,
    w_scale: Value,
    w_zero_point: Value,
    y_scale: Value,
    y_zero_point: Value,
    b: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    """QLinearConv; the weights' scale and zero point per tensor or per output channel."""
    window: dict[str, Any] = {
        "auto_pad": auto_pad, "dilations": dilations, "group": group,
        "kernel_shape": kernel_shape, "pads": pads, "strides": strides,
    }  # fmt: skip
    kernel = _centred(w, _first_axis(w_zero_point, w.rank))
    bias = None if b is None else _number(b)
    sums: Value = conv(g, _centred(x, x_zero_point), kernel, bias, **window)
    scale = _quotient(_product(x_scale, _first_axis(w_scale, x.rank - 1)), y_scale)
    return _requantized(sums, scale, y_zero_point)


def _first_axis(parameter: Value | None, rank: int) -> Any:
    """Present a vector along the first of ``rank`` axes."""
    if parameter is None or parameter.rank != 1 or parameter.shape[0] == 1:
        return parameter
    return parameter.reshape((*parameter.shape, *(1,) * (rank - 1)))


def _number(x: Value) -> Value:
    """Return a value as float32; a constant stays constant."""
    if x.constant is not None:
        return Value.of(x.constant.astype(_FLOAT))
    return casted(x, _FLOAT)


def _centred(x: Value, zero: Value | None) -> Value:
    """Return float32 numbers, the zero point taken off; a constant stays constant."""
    number = _number(x)
    if zero is None or (zero.constant is not None and not zero.constant.any()):
        return number
    if number.constant is not None and zero.constant is not None:
        return Value.of(number.constant - zero.constant.astype(_FLOAT))
    return binary(tf.subtract, number, _number(zero))


def _product(a: Value, b: Value) -> Value:
    if a.constant is not None and b.constant is not None:
        return Value.of(a.constant * b.constant)
    return binary(tf.multiply, a, b)


def _quotient(a: Value, b: Value) -> Value:
    if a.constant is not None and b.constant is not None:
        return Value.of(a.constant / b.constant)
    return binary(tf.divide, a, b)


def _requantized(sums: Value, scale: Value, zero: Value) -> Value:
    dtype = zero.dtype
    scaled = binary(tf.multiply, sums, scale)
    return _limited(scaled.map(tf.round), zero, dtype)


def _quantized(x: Value, scale: Value, zero: Value | None, dtype: np.dtype[Any]) -> Value:
    """Return round(x / scale) + zero, saturated; halves go to the even neighbour.

    TensorFlow replaces a division by a constant with a product with its approximate inverse, which
    misses halves. Where the inverse is exact, that is for powers of two, the product is taken here.
    """
    if scale.constant is not None and np.all(np.frexp(scale.constant)[0] == 0.5):
        ratio = binary(tf.multiply, x, Value.of(1 / scale.constant))
    else:
        ratio = binary(tf.divide, x, scale)
    return _limited(ratio.map(tf.round), zero, dtype)


def _limited(steps: Value, zero: Value | None, dtype: np.dtype[Any]) -> Value:
    """Add the zero point and saturate."""
    limits = np.iinfo(dtype)
    low, high = np.float32(limits.min), np.float32(limits.max)
    if zero is not None and not (zero.constant is not None and not zero.constant.any()):
        steps = binary(tf.add, steps, _number(zero))
    clipped = steps.map(lambda t: tf.minimum(tf.maximum(t, low), high))
    return casted(clipped, dtype)


def _spread(parameter: Value, x: Value, axis: int, block: int) -> Value:
    """Present a scale or zero point so that it broadcasts to x."""
    if parameter.rank == 0 or parameter.shape == (1,):
        return parameter.reshape(())
    axis = axis_of(axis, x.rank)
    if block:
        positions = np.arange(x.shape[axis]) // block
        if parameter.constant is not None:
            return Value.of(np.take(parameter.constant, positions, axis))
        return Value.of(tf.gather(arranged(parameter, range(x.rank)), positions, axis=axis))
    return parameter.reshape((*(1,) * axis, parameter.shape[0], *(1,) * (x.rank - axis - 1)))
