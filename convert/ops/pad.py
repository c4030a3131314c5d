"""Padding in all modes, and centred crops. Source: ONNX operator spec, Pad and CenterCropPad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.slicing import sliced
from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.lowering import cast, dtypes, widened
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged, canonical, shape_of
from edgeconv.convert.translate.view import DYNAMIC, Shape
from edgeconv.core.artifacts import Array

Pair = tuple[int, int]
_PAD = dtypes("float32", "int32", "int64", "bool")
_MIRROR_PAD = dtypes("float32", "int32", "int64", "int8", "uint8")


@op("Pad")
def pad_attributes(
    g: Context, x: Value, *, mode: str = "constant", pads: Sequence[int], value: float = 0.0
) -> Value:
    """Pad with its amounts as an attribute."""
    return padded(x, mode, _pairs(pads, range(x.rank), x.rank), Value.of(np.array(value, x.dtype)))


@op("Pad", since=11)
def pad_inputs(
    g: Context,
    x: Value,
    pads: Value,
    constant_value: Value | None = None,
    axes: Value | None = None,
    *,
    mode: str = "constant",
) -> Value:
    """Pad with its amounts as an input."""
    if pads.constant is None and axes is None:
        return _padded_at_run_time(x, mode, pads, constant_value, g.result("pads"))
    chosen = range(x.rank) if axes is None else g.integers(axes, "axes")
    return padded(x, mode, _pairs(g.integers(pads, "pads"), chosen, x.rank), constant_value)


def _padded_at_run_time(
    x: Value, mode: str, pads: Value, fill: Value | None, shape: Shape
) -> Value:
    """Pad, as the source has the value, by amounts known at run time, none of them negative."""
    t = arranged(x, range(x.rank))
    amounts = tf.transpose(tf.reshape(tf.cast(arranged(pads, (0,)), tf.int32), (2, x.rank)))
    if mode == "constant":
        value = np.asarray(0, x.dtype) if fill is None else arranged(fill, range(fill.rank), ())
        y = widened(lambda a, b: tf.pad(a, amounts, constant_values=b), t, value, native=_PAD)
    elif mode == "reflect":
        y = widened(lambda a: tf.pad(a, amounts, "REFLECT"), t, native=_MIRROR_PAD)
    else:
        raise Unsupported(f"mode {mode} with amounts computed at run time", "make pads a constant")
    return Value.of(tf.reshape(y, shape))


def _pairs(pads: Sequence[int], axes: Sequence[int], rank: int) -> list[Pair]:
    """Return amounts before and after for every axis, from starts of some axes, then ends."""
    pairs = [(0, 0)] * rank
    for place, axis in enumerate(axes):
        pairs[axis_of(axis, rank)] = (pads[place], pads[place + len(axes)])
    return pairs


def padded(x: Value, mode: str, pairs: Sequence[Pair], fill: Value | None = None) -> Value:
    """Pad the axes of a value.

    Args:
        x: The value.
        mode: ONNX's name of the mode.
        pairs: For each axis the elements added before and after; negative ones are cut off.
        fill: What constant padding is filled with, one element; zero by default.
    """
    if any(side < 0 for pair in pairs for side in pair):
        x = _cropped(x, pairs)
        pairs = [(max(before, 0), max(after, 0)) for before, after in pairs]
    if not any(side for pair in pairs for side in pair):
        return x
    t, permutation = canonical(x)
    stored = [pairs[axis] for axis in permutation]
    if mode == "constant":
        y = _constant(t, stored, fill)
    elif mode in _POSITIONS:
        y = _repeated(t, stored, mode)
    else:
        raise Unsupported(f"mode {mode}", "use constant, reflect, edge or wrap")
    return Value(y, Value.of(y, permutation).view, x.nonnegative and _keeps_sign(mode, fill))


def _keeps_sign(mode: str, fill: Value | None) -> bool:
    if mode != "constant" or fill is None:
        return True
    return fill.constant is not None and fill.constant.item() >= 0


def _constant(t: Tensor, pairs: Sequence[Pair], fill: Value | None) -> Tensor:
    fixed = None if fill is None else fill.constant
    if fill is None or (fixed is not None and fixed.item() == 0):
        return widened(lambda part: tf.pad(part, pairs), t, native=_PAD)
    value = fill.tensor if fixed is None else fixed
    return widened(
        lambda part: tf.pad(
            part, pairs, constant_values=cast(_scalar(value), part.dtype.as_numpy_dtype)
        ),
        t,
        native=_PAD,
    )


def _scalar(tensor: Tensor) -> Tensor:
    if isinstance(tensor, np.ndarray):
        return tensor.reshape(())
    return tensor if tensor.shape.rank == 0 else tf.reshape(tensor, ())


def _repeated(t: Tensor, pairs: Sequence[Pair], mode: str) -> Tensor:
    """Pad with elements of the tensor itself: one MIRROR_PAD if it can, else a GATHER an axis."""
    sizes = shape_of(t)
    for mirror, limit in _MIRRORS.get(mode, ()):
        if all(
            max(pair) <= limit(size) for pair, size in zip(pairs, sizes, strict=True) if any(pair)
        ):
            return widened(lambda part, m=mirror: tf.pad(part, pairs, m), t, native=_MIRROR_PAD)
    for axis, pair in enumerate(pairs):
        if any(pair):
            if sizes[axis] == DYNAMIC:
                raise Unsupported(f"{mode} padding of an axis whose size is known at run time only")
            positions = np.arange(-pair[0], sizes[axis] + pair[1])
            t = tf.gather(t, _POSITIONS[mode](positions, sizes[axis]).astype(np.int32), axis=axis)
    return t


def _reflected(positions: Array, size: int) -> Array:
    period = max(2 * (size - 1), 1)
    folded = positions % period
    return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(positions)


_POSITIONS: dict[str, Any] = {
    "reflect": _reflected,
    "edge": lambda positions, size: positions.clip(0, size - 1),
    "wrap": lambda positions, size: positions % size,
}
"""For each mode, the element of an axis of a given size that a position takes."""

_MIRRORS: dict[str, tuple[tuple[str, Any], ...]] = {
    "reflect": (("REFLECT", lambda size: abs(size - 1)),),
    "edge": (("SYMMETRIC", lambda size: min(size, 1)),),
}
"""TensorFlow modes that equal an ONNX mode, and the most elements up to which they do."""


def _cropped(x: Value, pairs: Sequence[Pair]) -> Value:
    starts = [max(-before, 0) for before, _ in pairs]
    ends = [size + min(after, 0) for size, (_, after) in zip(x.shape, pairs, strict=True)]
    return sliced(x, starts, ends, range(x.rank), [1] * x.rank)


@op("CenterCropPad", since=18)
def center_crop_pad(
    g: Context, x: Value, shape: Value, *, axes: Sequence[int] | None = None
) -> Value:
    """CenterCropPad: cut or pad each axis around its middle; the odd element is at the end."""
    wanted = g.integers(shape, "shape")
    pairs = [(0, 0)] * x.rank
    for axis, size in zip(axes or range(x.rank), wanted, strict=True):
        place = axis_of(axis, x.rank)
        missing = size - x.shape[place]
        before = missing // 2 if missing > 0 else -(-missing // 2)
        pairs[place] = (before, missing - before)
    return padded(x, "constant", pairs)
