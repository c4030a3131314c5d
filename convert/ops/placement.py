"""Write a block of elements at known places, by slices laid side by side.

A block is the product of positions along each axis, which is how caches, single channels and
regions are written. TFLite joins slices in any type, quantized ones too, and along any axis as it
is stored, where an operator that scatters wants rows, and has no int8 kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.value import Tensor, Value, arranged, canonical
from edgeconv.core.artifacts import Array

Combine = Callable[[Tensor, Tensor], Tensor]
"""Computes what is written from what is there and the update."""

_MOST_PIECES = 16  # more are picked from both tensors in one go
_MOST_ROUNDS = 8


def block_of_elements(places: Array, shape: Sequence[int], axis: int) -> dict[int, Array] | None:
    """Return the block that ScatterElements writes, None where it writes something else.

    Args:
        places: Positions along the axis, from 0, in the shape of the updates.
        shape: The tensor's.
        axis: The axis.

    Returns:
        Positions by axis, of each axis that is not written whole and in order.
    """
    if places.size == 0:
        return None
    line = np.moveaxis(places, axis, 0).reshape(places.shape[axis], -1)
    if np.any(line != line[:, :1]):
        return None
    whole = {place: np.arange(size) for place, size in enumerate(places.shape)}
    return _partial({**whole, axis: line[:, 0]}, shape)


def block_of_slices(places: Array, shape: Sequence[int]) -> dict[int, Array] | None:
    """Return the block that ScatterND writes, None where it writes something else.

    Args:
        places: Positions along the leading axes, from 0, [slices, axes].
        shape: The tensor's.
    """
    count, axes = places.shape
    if count == 0 or axes == 0:
        return None
    if axes == 1:
        return _partial({0: places[:, 0]}, shape)
    lines = [np.array(list(dict.fromkeys(column.tolist()))) for column in places.T]
    if np.prod([len(line) for line in lines]) != count:
        return None
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(count, axes)
    return _partial(dict(enumerate(lines)), shape) if np.array_equal(grid, places) else None


def _partial(block: Mapping[int, Array], shape: Sequence[int]) -> dict[int, Array]:
    return {
        axis: line
        for axis, line in block.items()
        if not np.array_equal(line, np.arange(shape[axis]))
    }


def place(
    data: Value, block: Mapping[int, Array], updates: Value, combine: Combine | None
) -> Value | None:
    """Write updates, or what they are combined to; None where too many meet one place.

    Args:
        data: The tensor.
        block: What `block_of_elements` or `block_of_slices` returned.
        updates: In the block's shape.
        combine: None where the last update of a place replaces what is there.
    """
    t, permutation = canonical(data)
    new = arranged(updates, permutation)
    lines = [(permutation.index(axis), line) for axis, line in block.items()]
    repeated = [entry for entry in lines if len(np.unique(entry[1])) < len(entry[1])]
    if not repeated:
        return Value.of(_laid(t, lines, new, combine), permutation)
    (at, line), *more = repeated
    rounds = list(_rounds(line, last=combine is None))
    if more or len(rounds) > _MOST_ROUNDS:
        return None
    rest = [entry for entry in lines if entry[0] != at]
    for members in rounds:
        part = _taken(new, at, members)
        t = _laid(t, [(at, line[members]), *rest], part, combine)
    return Value.of(t, permutation)


def _rounds(line: Array, *, last: bool) -> Iterator[Array]:
    """Yield which updates go together, so that no two of them meet; only the last of each place."""
    seen: Counter[int] = Counter()
    turn = []
    for entry in reversed(line.tolist()):
        turn.append(seen[entry])
        seen[entry] += 1
    numbers = np.array(turn[::-1])
    for number in range(1 if last else max(seen.values())):
        yield np.flatnonzero(numbers == number)


def _laid(
    t: Tensor, lines: Sequence[tuple[int, Array]], new: Tensor, combine: Combine | None
) -> Tensor:
    """Write a block; ``lines`` are positions by stored axis."""
    if not lines:
        return new if combine is None else combine(t, new)
    (at, line), *rest = lines
    if rest or combine is not None:
        new = _laid(_taken(t, at, line), rest, new, combine)
    return _joined(t, new, at, line)


def _taken(t: Tensor, at: int, line: Array) -> Tensor:
    """Take elements along a stored axis."""
    step = int(line[1] - line[0]) if len(line) > 1 else 1
    if step > 0 and np.array_equal(line, line[0] + step * np.arange(len(line))):
        return _slice(t, at, int(line[0]), int(line[-1]) + 1, step)
    return tf.gather(t, line.astype(np.int32), axis=at)


def _slice(t: Tensor, at: int, first: int, stop: int, step: int = 1) -> Tensor:
    if (first, stop, step) == (0, t.shape[at], 1):
        return t
    return t[(slice(None),) * at + (slice(first, stop, step),)]


def _joined(t: Tensor, new: Tensor, at: int, line: Array) -> Tensor:
    """Put elements between those that stay, along a stored axis."""
    size = t.shape[at]
    source = np.arange(size)
    source[line] = size + np.arange(len(line))
    starts = np.flatnonzero(np.diff(source, prepend=-2) != 1)
    starts = np.union1d(starts, np.flatnonzero(source == size))  # where `new` begins
    if len(starts) > _MOST_PIECES:
        return tf.gather(tf.concat([t, new], at), source.astype(np.int32), axis=at)
    pieces = []
    for first, stop in zip(starts, [*starts[1:], size], strict=True):
        begin, count = int(source[first]), int(stop - first)
        own = begin < size
        begin -= 0 if own else size
        pieces.append(_slice(t if own else new, at, begin, begin + count))
    return pieces[0] if len(pieces) == 1 else tf.concat(pieces, at)
