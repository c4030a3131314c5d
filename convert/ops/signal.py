"""Fourier transforms as products with constant matrices. Source: ONNX operator spec, DFT, STFT.

A complex number is a last axis of size 2. The transform of a signal of n elements into k is then
one real matrix [n * in, k * out], where in and out are 1 for real and 2 for complex numbers.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Value, arranged
from edgeconv.convert.translate.view import DYNAMIC, product
from edgeconv.core.artifacts import Array
from edgeconv.core.wording import named


@op("DFT", since=17)
def dft_attribute(
    g: Context,
    x: Value,
    dft_length: Value | None = None,
    *,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
) -> Value:
    """DFT with its axis as an attribute."""
    return _dft(g, x, dft_length, axis, inverse=bool(inverse), onesided=bool(onesided))


@op("DFT", since=20)
def dft(
    g: Context,
    x: Value,
    dft_length: Value | None = None,
    axis: Value | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Value:
    """DFT with its axis as an input."""
    place = -2 if axis is None else g.integers(axis, "axis")[0]
    return _dft(g, x, dft_length, place, inverse=bool(inverse), onesided=bool(onesided))


def _dft(
    g: Context, x: Value, dft_length: Value | None, axis: int, *, inverse: bool, onesided: bool
) -> Value:
    axis = axis_of(axis, x.rank)
    size = x.shape[axis]
    if size == DYNAMIC:
        raise Unsupported("the transformed axis has a size known at run time only")
    default = 2 * (size - 1) if inverse and onesided else size
    length = default if dft_length is None else g.integers(dft_length, "dft_length")[0]
    make = _inverse if inverse else _forward
    matrix = make(min(size, length), length, x.shape[-1] == 2, onesided)
    others = [a for a in range(x.rank - 1) if a != axis]
    order = (*others, axis, x.rank - 1)
    rows = product(x.shape[a] for a in others)
    t = arranged(x, order, (rows, size * x.shape[-1]))
    if length < size:
        t = t[:, : length * x.shape[-1]]
    outputs = length if inverse else matrix.shape[1] // 2
    parts = matrix.shape[1] // outputs
    y = tf.matmul(t, matrix)
    lead = tuple(x.shape[a] for a in others)
    return Value.of(tf.reshape(y, (*lead, outputs, parts)), order)


def _angles(rows: int, columns: int, length: int) -> Array:
    """Return the angles 2 pi j k / length; the product is reduced first, which keeps it exact."""
    turns = np.outer(np.arange(rows), np.arange(columns)) % length
    return 2 * np.pi * turns / length


def _complex_map(cosines: Array, sines: Array) -> Array:
    """Return the real matrix of multiplying complex elements by ``cosines + i sines``."""
    rows, columns = cosines.shape
    matrix = np.empty((rows, 2, columns, 2))
    matrix[:, 0, :, 0], matrix[:, 0, :, 1] = cosines, sines
    matrix[:, 1, :, 0], matrix[:, 1, :, 1] = -sines, cosines
    return matrix


def _forward(size: int, length: int, complex_input: bool, onesided: bool) -> Array:
    """Return the matrix of the transform of ``size`` elements, zeros up to ``length``."""
    outputs = length // 2 + 1 if onesided else length
    angles = _angles(size, outputs, length)
    matrix = _complex_map(np.cos(angles), -np.sin(angles))
    kept = matrix if complex_input else matrix[:, :1]
    return kept.reshape(-1, outputs * 2).astype(np.float32)


def _inverse(size: int, length: int, complex_input: bool, onesided: bool) -> Array:
    """Return the matrix of the inverse; of one-sided input its mirror image is implied."""
    angles = _angles(size, length, length)
    matrix = _complex_map(np.cos(angles), np.sin(angles)) / length
    if onesided:
        mirrored = np.arange(size)
        twice = (mirrored > 0) & (mirrored < length - mirrored)
        matrix = (matrix * np.where(twice, 2, 1)[:, None, None, None])[..., :1]
        matrix[length // 2 + 1 :] = 0
    kept = matrix if complex_input else matrix[:, :1]
    return kept.reshape(-1, length * kept.shape[-1]).astype(np.float32)


@op("STFT", since=17)
def stft(
    g: Context,
    signal: Value,
    frame_step: Value,
    window: Value | None = None,
    frame_length: Value | None = None,
    *,
    onesided: int = 1,
) -> Value:
    """STFT: signal [B, L, 1 or 2]; a convolution whose filters are the windowed waves."""
    step = g.integers(frame_step, "frame_step")[0]
    if frame_length is not None:
        length = g.integers(frame_length, "frame_length")[0]
    elif window is not None:
        length = window.shape[0]
    else:
        raise Unsupported("neither window nor frame_length are given")
    batch, size, parts = signal.shape
    if DYNAMIC in signal.shape:
        raise Unsupported("a shape known at run time only", f"give {named('input_shapes')}")
    waves = _forward(length, length, parts == 2, bool(onesided)).reshape(1, length, parts, -1)
    if window is None:
        kernel = waves
    elif window.constant is not None:
        kernel = waves * window.constant.reshape(1, length, 1, 1).astype(np.float32)
    else:
        kernel = arranged(window, (0,), (1, length, 1, 1)) * waves
    image = arranged(signal, (0, 1, 2), (batch, 1, size, parts))
    y = tf.nn.conv2d(image, kernel, (1, step), "VALID")
    frames = (size - length) // step + 1
    return Value.of(tf.reshape(y, (batch, frames, waves.shape[-1] // 2, 2)))
