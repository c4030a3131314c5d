"""Values of a translation in progress: a stored tensor and the view that ONNX has of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.view import DYNAMIC, Shape, View, product
from edgeconv.core.artifacts import Array

Tensor = Any
"""A ``tf.Tensor`` of the graph being built, or a numpy array for a constant."""


MOST_DIMENSIONS = 5
"""What all kernels that broadcast take."""


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """One ONNX value.

    Attributes:
        tensor: The stored tensor; a numpy array in ONNX's own order where the value is constant.
        view: How the stored tensor presents the ONNX shape.
        nonnegative: No element can be below zero, so zero is as good as minus infinity to a max.
    """

    tensor: Tensor
    view: View
    nonnegative: bool = False

    @classmethod
    def of(cls, tensor: Tensor, permutation: Sequence[int] | None = None) -> Value:
        """Wrap a tensor whose stored axis ``i`` is logical axis ``permutation[i]``."""
        return cls(tensor, View.of(shape_of(tensor), permutation))

    @property
    def shape(self) -> Shape:
        """The ONNX shape, `DYNAMIC` where a dimension is known at run time only."""
        return self.view.shape

    @property
    def rank(self) -> int:
        """Number of ONNX axes."""
        return len(self.view.axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type."""
        dtype = self.tensor.dtype
        return dtype if isinstance(dtype, np.dtype) else np.dtype(dtype.as_numpy_dtype)

    @property
    def constant(self) -> Array | None:
        """The array, in ONNX's layout, where the value is constant."""
        return self.tensor if isinstance(self.tensor, np.ndarray) else None

    def map(self, function: Callable[[Tensor], Tensor], *, nonnegative: bool = False) -> Value:
        """Apply an elementwise function; the view stays."""
        return Value(function(self.tensor), self.view, nonnegative)

    def transpose(self, permutation: Sequence[int]) -> Value:
        """Permute the ONNX axes; no data moves unless the value is constant."""
        if self.constant is not None:
            return Value.of(np.transpose(self.constant, permutation))
        return Value(self.tensor, self.view.transpose(permutation), self.nonnegative)

    def reshape(self, shape: Shape) -> Value:
        """Change the ONNX shape; data moves only where the stored order does not allow it."""
        if self.constant is not None:
            return Value.of(self.constant.reshape(shape))
        view = self.view.reshape(shape)
        if view is not None:
            return Value(self.tensor, view, self.nonnegative)
        flat = arranged(self, range(self.rank), shape)
        return Value(flat, View.of(shape), self.nonnegative)


def shape_of(tensor: Tensor) -> Shape:
    """Return the static shape of a TF tensor or an array, `DYNAMIC` for unknown dimensions."""
    return tuple(DYNAMIC if size is None else int(size) for size in tensor.shape)


def arranged(value: Value, permutation: Sequence[int], shape: Shape | None = None) -> Tensor:
    """Return the tensor with its axes in the order ``permutation`` of the ONNX axes.

    Args:
        value: The value.
        permutation: Axis ``i`` of the result is ONNX axis ``permutation[i]``.
        shape: Final shape of the result, where it differs from the permuted one.
    """
    if value.constant is not None:
        moved = np.transpose(value.constant, permutation)
        return np.asarray(moved if shape is None else moved.reshape(shape), order="C")
    movement = value.view.movement(permutation)
    final = movement.shape if shape is None else shape
    tensor = value.tensor
    if movement.moves:
        for step in movement.steps():
            tensor = tf.transpose(reshaped(tensor, step.split), step.permutation)
    return reshaped(tensor, final)


def reshaped(tensor: Tensor, shape: Shape) -> Tensor:
    """Reshape unless the tensor has that shape already."""
    return tensor if shape_of(tensor) == tuple(shape) else tf.reshape(tensor, shape)


def channels_last(rank: int) -> Shape:
    """Return the permutation that stores ``[N, C, ...]`` as ``[N, ..., C]``."""
    return (0, *range(2, rank), 1) if rank >= 3 else tuple(range(rank))


def canonical(value: Value, prefer: Sequence[int] | None = None) -> tuple[Tensor, Shape]:
    """Return the tensor with one stored axis for each ONNX axis, and their permutation.

    The permutation is one that moves no data where there is one; ``prefer`` breaks ties, and is
    what a value is moved to that has none.
    """
    identity = tuple(range(value.rank))
    first = tuple(prefer) if prefer is not None else identity
    if value.constant is not None:
        return arranged(value, first), first
    candidates = (first, channels_last(value.rank), identity)
    stored = value.view.stored_shape
    exact = [
        candidate
        for candidate in candidates
        if tuple(value.shape[axis] for axis in candidate) == stored
    ]
    permutation = value.view.natural_permutation([*exact, *candidates])
    if permutation is None:
        permutation = _cheapest(value, candidates)
    return arranged(value, permutation), permutation


def _cheapest(value: Value, candidates: Sequence[Shape]) -> Shape:
    """Return the order whose transpose has the fewest axes; the stored order breaks ties."""
    axes = value.view.axes
    follow = sorted(range(value.rank), key=lambda axis: min(axes[axis], default=-1))
    return min(
        (tuple(follow), *candidates),
        key=lambda candidate: len(value.view.movement(candidate).permutation),
    )


def loose(
    value: Value, permutation: Sequence[int], axes: Sequence[int], shape: Shape | None = None
) -> tuple[Tensor, View, dict[int, Array | None]]:
    """Arrange a value whose elements along some axes may come in any order.

    Args:
        value: The value.
        permutation: Wanted order of the axes.
        axes: ONNX axes whose elements need not be in ONNX's order.
        shape: Final shape of the tensor, where it differs from the permuted one.

    Returns:
        The tensor; the view of the reordered value; and for each loose axis the ONNX index held
        at each stored position, or None where the order is ONNX's.
    """
    if value.constant is not None or value.view.is_stored_as(permutation):
        order = dict.fromkeys(axes)
        return arranged(value, permutation, shape), value.view, order
    view = value.view.sort_axes(axes)
    if not view.is_stored_as(permutation):
        return arranged(value, permutation, shape), value.view, dict.fromkeys(axes)
    elements: dict[int, Array | None] = {}
    for axis in axes:
        index = value.view.axis_elements(axis)
        elements[axis] = None if np.array_equal(index, np.arange(len(index))) else index
    return arranged(Value(value.tensor, view), permutation, shape), view, elements


def broadcast_shape(shapes: Sequence[Shape]) -> Shape:
    """Return the shape that the shapes broadcast to by ONNX's (numpy's) rules."""
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(
        next((size for size in sizes if size not in (1, DYNAMIC)), min(sizes))
        for sizes in zip(*padded, strict=True)
    )


def aligned(values: Sequence[Value]) -> tuple[list[Tensor], View]:
    """Bring the operands of an elementwise op to one stored order.

    Constants follow for free; among the others the order that moves the fewest elements wins.

    Returns:
        Tensors that broadcast against each other, and the view of the op's result.
    """
    shape = broadcast_shape([value.shape for value in values])
    kept = _aligned_to_lead(values, shape)
    if kept is not None:
        return kept
    rank = len(shape)
    expanded = [_expanded(value, rank) for value in values]
    permutation = _vote([value for value in expanded if value.constant is None], rank)
    tensors = [
        _without_leading_ones(arranged(value, permutation))
        if value.constant is not None
        else arranged(value, permutation)
        for value in expanded
    ]
    return tensors, View.of(tuple(shape[axis] for axis in permutation), permutation)


def _aligned_to_lead(values: Sequence[Value], shape: Shape) -> tuple[list[Tensor], View] | None:
    """Keep the stored form of one full-size operand, if the others take it without moving."""
    lead = next((v for v in values if v.constant is None and v.shape == shape), None)
    if lead is None:
        return None
    tensors = []
    for value in values:
        if value.constant is not None:
            tensors.append(_constant_like(value.constant, lead.view))
        elif value.view == lead.view:
            tensors.append(value.tensor)
        elif _is_stored_alike(value.view, lead.view):
            tensors.append(reshaped(value.tensor, lead.view.stored_shape))
        else:
            return None
    return tensors, lead.view


def _is_stored_alike(view: View, lead: View) -> bool:
    """Tell whether the elements have the same order, in dimensions that all kernels take."""
    alike = (view.sizes, view.axes) == (lead.sizes, lead.axes)
    return alike and len(lead.stored) <= MOST_DIMENSIONS


def _constant_like(array: Array, view: View) -> Array:
    """Store a constant that broadcasts to ``view.shape`` so that it broadcasts to the tensor."""
    rank = len(view.axes)
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    sizes = view.sizes
    split: list[int] = []
    for axis, size in zip(view.axes, array.shape, strict=True):
        split += [1 if size == 1 else sizes[factor] for factor in axis]
    order = view.order(range(rank))
    factors = array.reshape(split).transpose([order.index(n) for n in range(len(order))])
    shape: list[int] = []
    full: list[int] = []
    number = 0
    for dimension in view.stored:
        present = factors.shape[number : number + len(dimension)]
        whole = all(size == 1 for size in present)
        full += [1] * len(dimension) if whole else list(dimension)
        shape.append(1 if whole else product(dimension))
        number += len(dimension)
    return _without_leading_ones(np.broadcast_to(factors, full).reshape(shape))


def _without_leading_ones(array: Array) -> Array:
    keep = next((axis for axis, size in enumerate(array.shape) if size != 1), array.ndim)
    return np.asarray(array.reshape(array.shape[keep:]), order="C")


def _expanded(value: Value, rank: int) -> Value:
    return value.reshape((1,) * (rank - value.rank) + value.shape)


def _vote(values: Sequence[Value], rank: int) -> Shape:
    """Choose the axis order that moves the fewest elements; the largest operand breaks ties."""
    ranked = sorted(values, key=lambda value: -abs(math.prod(value.shape)))
    candidates = [canonical_permutation(value) for value in ranked]
    candidates += [channels_last(rank), tuple(range(rank))]

    def cost(permutation: Shape) -> int:
        return sum(
            abs(math.prod(value.shape))
            for value in ranked
            if value.view.movement(permutation).moves
        )

    return min(candidates, key=cost)


def canonical_permutation(value: Value) -> Shape:
    """Return the permutation that `canonical` would choose."""
    stored = value.view.stored_shape
    candidates = (channels_last(value.rank), tuple(range(value.rank)))
    exact = [
        candidate
        for candidate in candidates
        if tuple(value.shape[axis] for axis in candidate) == stored
    ]
    return value.view.natural_permutation([*exact, *candidates]) or tuple(range(value.rank))
