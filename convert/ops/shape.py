"""Operators that move, cut or repeat elements without computing with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.context import Context, axis_of
from edgeconv.convert.registry import Unsupported, op
from edgeconv.convert.value import Value, arranged, canonical, canonical_permutation
from edgeconv.convert.view import DYNAMIC, Shape, product


@op("Identity")
def identity(g: Context, x: Value) -> Value:
    """Identity."""
    return x


@op("Dropout")
def dropout(g: Context, x: Value, *, ratio: float = 0.5, seed: int = 0) -> tuple[Value, ...]:
    """Dropout up to opset 11: inference leaves the input as it is."""
    return _kept(g, x)


@op("Dropout", since=12)
def dropout_inputs(
    g: Context,
    x: Value,
    ratio: Value | None = None,
    training: Value | None = None,
    *,
    seed: int = 0,
) -> tuple[Value, ...]:
    """Dropout: inference leaves the input as it is."""
    rate = 0.5 if ratio is None else g.constant(ratio, "ratio").item()
    if training is not None and g.constant(training, "training_mode").item() and rate:
        raise Unsupported("training_mode is on", "export the model in eval mode")
    return _kept(g, x)


def _kept(g: Context, x: Value) -> tuple[Value, ...]:
    return (x, Value.of(np.ones(x.shape, bool))) if len(g.outputs) > 1 else (x,)


@op("Cast")
def cast(g: Context, x: Value, *, to: int, saturate: int = 1, round_mode: str = "up") -> Value:
    """Cast between the dtypes that TensorFlow has."""
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
    if dtype.kind not in "fiub":
        raise Unsupported(f"a cast to {onnx.TensorProto.DataType.Name(to)}")
    if dtype == x.dtype:
        return x
    return x.map(lambda t: tf.cast(t, dtype), nonnegative=x.nonnegative)


@op("Transpose")
def transpose(g: Context, x: Value, *, perm: Sequence[int] | None = None) -> Value:
    """Transpose; nothing moves until an op asks for an order that is not stored."""
    return x.transpose(range(x.rank)[::-1] if perm is None else perm)


@op("Reshape", since=5)
def reshape(g: Context, x: Value, shape: Value, *, allowzero: int = 0) -> Value:
    """Reshape."""
    wanted = list(g.integers(shape, "shape"))
    if not allowzero:
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    if DYNAMIC in x.shape:
        return x.reshape(tuple(wanted))
    if -1 in wanted:
        known = int(np.prod([size for size in wanted if size != -1]))
        wanted[wanted.index(-1)] = int(np.prod(x.shape)) // known if known else 0
    return x.reshape(tuple(wanted))


@op("Flatten")
def flatten(g: Context, x: Value, *, axis: int = 1) -> Value:
    """Flatten to two axes."""
    axis = axis_of(axis, x.rank) if axis < x.rank else axis
    return x.reshape((product(x.shape[:axis]), product(x.shape[axis:])))


@op("Squeeze")
def squeeze_attribute(g: Context, x: Value, *, axes: Sequence[int] | None = None) -> Value:
    """Squeeze with axes as an attribute."""
    return _squeeze(x, axes)


@op("Squeeze", since=13)
def squeeze(g: Context, x: Value, axes: Value | None = None) -> Value:
    """Squeeze with axes as an input."""
    return _squeeze(x, None if axes is None else g.integers(axes, "axes"))


def _squeeze(x: Value, axes: Sequence[int] | None) -> Value:
    if axes is None:
        gone = {axis for axis, size in enumerate(x.shape) if size == 1}
    else:
        gone = {axis_of(axis, x.rank) for axis in axes}
    return x.reshape(tuple(size for axis, size in enumerate(x.shape) if axis not in gone))


@op("Unsqueeze")
def unsqueeze_attribute(g: Context, x: Value, *, axes: Sequence[int]) -> Value:
    """Unsqueeze with axes as an attribute."""
    return _unsqueeze(x, axes)


@op("Unsqueeze", since=13)
def unsqueeze(g: Context, x: Value, axes: Value) -> Value:
    """Unsqueeze with axes as an input."""
    return _unsqueeze(x, g.integers(axes, "axes"))


def _unsqueeze(x: Value, axes: Sequence[int]) -> Value:
    rank = x.rank + len(axes)
    new = {axis_of(axis, rank) for axis in axes}
    sizes = iter(x.shape)
    return x.reshape(tuple(1 if axis in new else next(sizes) for axis in range(rank)))


@op("Concat", since=4)
def concat(g: Context, *values: Value, axis: int) -> Value:
    """Concat, in the stored order of its largest operand that is not constant."""
    if len(values) == 1:
        return values[0]
    axis = axis_of(axis, values[0].rank)
    computed = [value for value in values if value.constant is None]
    lead = max(computed, key=lambda value: abs(int(np.prod(value.shape))))
    permutation = canonical_permutation(lead)
    tensors = [arranged(value, permutation) for value in values]
    y = Value.of(tf.concat(tensors, permutation.index(axis)), permutation)
    return Value(y.tensor, y.view, all(value.nonnegative for value in values))


@op("Split", since=2)
def split_attribute(
    g: Context, x: Value, *, axis: int = 0, split: Sequence[int] | None = None
) -> tuple[Value, ...]:
    """Split with its sizes as an attribute."""
    return _split(g, x, axis, split)


@op("Split", since=13)
def split_input(
    g: Context, x: Value, split: Value | None = None, *, axis: int = 0, num_outputs: int = 0
) -> tuple[Value, ...]:
    """Split with its sizes as an input."""
    return _split(g, x, axis, None if split is None else g.integers(split, "split"))


def _split(g: Context, x: Value, axis: int, sizes: Sequence[int] | None) -> tuple[Value, ...]:
    axis = axis_of(axis, x.rank)
    count = len(g.outputs)
    if sizes is None:
        size = -(-x.shape[axis] // count)
        sizes = [min(size, x.shape[axis] - start) for start in range(0, size * count, size)]
    t, permutation = canonical(x)
    even = len(set(sizes)) == 1
    parts = tf.split(t, len(sizes) if even else list(sizes), permutation.index(axis))
    values = [Value.of(part, permutation) for part in parts]
    return tuple(Value(value.tensor, value.view, x.nonnegative) for value in values)


@op("Slice")
def slice_attributes(
    g: Context, x: Value, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] = ()
) -> Value:
    """Slice with its bounds as attributes."""
    return _slice(x, starts, ends, axes or range(len(starts)), [1] * len(starts))


@op("Slice", since=10)
def slice_inputs(
    g: Context,
    x: Value,
    starts: Value,
    ends: Value,
    axes: Value | None = None,
    steps: Value | None = None,
) -> Value:
    """Slice with its bounds as inputs."""
    first = g.integers(starts, "starts")
    return _slice(
        x,
        first,
        g.integers(ends, "ends"),
        range(len(first)) if axes is None else g.integers(axes, "axes"),
        [1] * len(first) if steps is None else g.integers(steps, "steps"),
    )


def _slice(
    x: Value,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int],
    steps: Sequence[int],
) -> Value:
    ranges = {
        axis_of(axis, x.rank): range(x.shape[axis_of(axis, x.rank)])[start:end:step]
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True)
    }
    if all(span == range(x.shape[axis]) for axis, span in ranges.items()):
        return x
    if any(x.shape[axis] == DYNAMIC for axis in ranges):
        raise Unsupported("a slice along an axis whose size is known at run time only")
    t, permutation = canonical(x)
    backwards = [axis for axis, span in ranges.items() if span.step < 0 and len(span) > 1]
    forward = {axis: span[::-1] if axis in backwards else span for axis, span in ranges.items()}
    index: list[Any] = [slice(None)] * x.rank
    for axis, span in forward.items():
        stop = span[-1] + 1 if span else span.start
        index[permutation.index(axis)] = slice(span.start, stop, max(span.step, 1))
    y = t[tuple(index)]
    if backwards:
        y = tf.reverse(y, [permutation.index(axis) for axis in backwards])
    return Value(y, Value.of(y, permutation).view, x.nonnegative)


@op("Pad")
def pad_attributes(
    g: Context, x: Value, *, mode: str = "constant", pads: Sequence[int], value: float = 0.0
) -> Value:
    """Pad with its amounts as an attribute."""
    return _pad(x, mode, pads, value)


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
    amounts = list(g.integers(pads, "pads"))
    if axes is not None:
        count = len(amounts) // 2
        whole = [0] * (2 * x.rank)
        for place, axis in enumerate(g.integers(axes, "axes")):
            whole[axis_of(axis, x.rank)] = amounts[place]
            whole[axis_of(axis, x.rank) + x.rank] = amounts[place + count]
        amounts = whole
    fill = 0.0 if constant_value is None else g.constant(constant_value, "constant_value").item()
    return _pad(x, mode, amounts, fill)


def _pad(x: Value, mode: str, pads: Sequence[int], fill: float) -> Value:
    pairs = [(pads[axis], pads[axis + x.rank]) for axis in range(x.rank)]
    if any(side < 0 for pair in pairs for side in pair):
        x = _cropped(x, pairs)
        pairs = [(max(before, 0), max(after, 0)) for before, after in pairs]
    if not any(side for pair in pairs for side in pair):
        return x
    t, permutation = canonical(x)
    stored = [pairs[axis] for axis in permutation]
    if mode == "constant":
        y = tf.pad(t, stored, constant_values=np.asarray(fill, x.dtype))
    elif mode == "reflect":
        y = tf.pad(t, stored, mode="REFLECT")
    elif mode in ("edge", "wrap"):
        y = t
        for axis, pair in enumerate(stored):
            y = _pad_by_copies(y, axis, pair, wrap=mode == "wrap")
    else:
        raise Unsupported(f"mode {mode}", "use constant, reflect, edge or wrap")
    nonnegative = x.nonnegative and (mode != "constant" or fill >= 0)
    return Value(y, Value.of(y, permutation).view, nonnegative)


def _cropped(x: Value, pairs: Sequence[tuple[int, int]]) -> Value:
    starts = [max(-before, 0) for before, _ in pairs]
    ends = [size + min(after, 0) for size, (_, after) in zip(x.shape, pairs, strict=True)]
    return _slice(x, starts, ends, range(x.rank), [1] * x.rank)


def _pad_by_copies(t: Any, axis: int, pair: tuple[int, int], *, wrap: bool) -> Any:
    if not any(pair):
        return t
    size = t.shape[axis]
    positions = np.arange(-pair[0], size + pair[1])
    positions = positions % size if wrap else positions.clip(0, size - 1)
    lead, tail = positions[: pair[0]], positions[pair[0] + size :]
    parts = [_taken(t, lead, axis), t, _taken(t, tail, axis)]
    return tf.concat([part for part in parts if part is not None], axis)


def _taken(t: Any, positions: Any, axis: int) -> Any:
    return tf.gather(t, positions.astype(np.int32), axis=axis) if len(positions) else None


@op("Expand", since=8)
def expand(g: Context, x: Value, shape: Value) -> Value:
    """Expand by numpy's broadcasting rules."""
    wanted = np.broadcast_shapes(x.shape, g.integers(shape, "shape"))
    if wanted == x.shape:
        return x
    whole = x.reshape((1,) * (len(wanted) - x.rank) + x.shape)
    t, permutation = canonical(whole)
    y = tf.broadcast_to(t, [wanted[axis] for axis in permutation])
    return Value(y, Value.of(y, permutation).view, x.nonnegative)


@op("Tile", since=6)
def tile(g: Context, x: Value, repeats: Value) -> Value:
    """Tile."""
    counts = g.integers(repeats, "repeats")
    t, permutation = canonical(x)
    y = tf.tile(t, [counts[axis] for axis in permutation])
    return Value(y, Value.of(y, permutation).view, x.nonnegative)


@op("Shape")
def shape_of_value(g: Context, x: Value, *, start: int = 0, end: int | None = None) -> Value:
    """Shape, a constant because shapes are."""
    return Value.of(np.array(_static(x)[start:end], np.int64))


@op("Size")
def size_of_value(g: Context, x: Value) -> Value:
    """Size, a constant because shapes are."""
    return Value.of(np.array(np.prod(_static(x), dtype=np.int64)))


def _static(x: Value) -> Shape:
    if DYNAMIC in x.shape:
        raise Unsupported("a shape known at run time only", "give --input-shape")
    return x.shape


@op("DepthToSpace")
def depth_to_space(g: Context, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """DepthToSpace: x [N, C, H, W]."""
    if mode == "CRD":
        batch, channels, height, width = x.shape
        inner = channels // blocksize**2
        split = x.reshape((batch, inner, blocksize**2, height, width))
        x = split.transpose((0, 2, 1, 3, 4)).reshape(x.shape)
    return Value.of(tf.nn.depth_to_space(arranged(x, (0, 2, 3, 1)), blocksize), (0, 2, 3, 1))


@op("SpaceToDepth")
def space_to_depth(g: Context, x: Value, *, blocksize: int) -> Value:
    """SpaceToDepth: x [N, C, H, W]."""
    return Value.of(tf.nn.space_to_depth(arranged(x, (0, 2, 3, 1)), blocksize), (0, 2, 3, 1))
