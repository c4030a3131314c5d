"""Padding arithmetic shared by convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from edgeconv.convert.translate.registry import Unsupported
from edgeconv.convert.translate.value import Tensor
from edgeconv.convert.translate.view import DYNAMIC, Shape

Pads = tuple[tuple[int, int], ...]
"""For each spatial axis: elements added before and after; negative ones are cut off."""


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window over the spatial axes, all fields by axis."""

    size: Shape
    strides: Shape
    dilations: Shape

    @classmethod
    def of(
        cls, size: Sequence[int], strides: Sequence[int] | None, dilations: Sequence[int] | None
    ) -> Window:
        """Fill in the ONNX defaults."""
        rank = len(size)
        return cls(tuple(size), tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank))

    @property
    def extent(self) -> Shape:
        """Input elements from the window's first to its last, inclusive."""
        return tuple(
            (size - 1) * dilation + 1
            for size, dilation in zip(self.size, self.dilations, strict=True)
        )


def resolve_pads(auto_pad: str, pads: Sequence[int] | None, spatial: Shape, window: Window) -> Pads:
    """Return explicit pads for ONNX's ``auto_pad`` and ``pads``.

    Source: ONNX operator spec, Conv and MaxPool, "output spatial shape".

    Raises:
        Unsupported: ``auto_pad`` depends on a size known at run time only.
    """
    rank = len(spatial)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        if DYNAMIC in spatial:
            raise Unsupported("auto_pad SAME with a spatial size known at run time only")
        return tuple(
            _same(size, extent, stride, lower=auto_pad == "SAME_LOWER")
            for size, extent, stride in zip(spatial, window.extent, window.strides, strict=True)
        )
    flat = [0] * (2 * rank) if auto_pad == "VALID" or pads is None else list(pads)
    return tuple((flat[axis], flat[axis + rank]) for axis in range(rank))


def seen_pads(pads: Pads, spatial: Shape, window: Window, *, ceil_mode: bool = False) -> Pads:
    """Return the part of the padding that some window covers.

    With ``ceil_mode`` the end grows until the last, partial window fits; a last window that would
    start in the end padding is dropped. Source: ONNX operator spec, MaxPool.
    """
    return tuple(
        _seen(pair, size, extent, stride, ceil_mode=ceil_mode)
        for pair, size, extent, stride in zip(
            pads, spatial, window.extent, window.strides, strict=True
        )
    )


def _seen(
    pair: tuple[int, int], size: int, extent: int, stride: int, *, ceil_mode: bool
) -> tuple[int, int]:
    before, after = pair
    if size == DYNAMIC or after < 0:
        return pair
    span = size + before + after - extent
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + before:
        count -= 1
    return before, max((count - 1) * stride + extent - size - before, 0)


def _same(size: int, extent: int, stride: int, *, lower: bool = False) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def is_same(pads: Pads, spatial: Shape, window: Window) -> bool:
    """Tell whether TensorFlow's SAME padding is exactly ``pads``."""
    pairs = []
    for size, extent, stride in zip(spatial, window.extent, window.strides, strict=True):
        if size == DYNAMIC and stride != 1:
            return False
        pairs.append(_same(extent if size == DYNAMIC else size, extent, stride))
    return tuple(pairs) == pads


def pad_spatial(x: Tensor, pads: Pads) -> Tensor:
    """Pad the spatial axes of a channels-last tensor with zeros; negative pads cut off."""
    if any(side < 0 for pair in pads for side in pair):
        starts = [0, *(max(-before, 0) for before, _ in pads), 0]
        stops = [None, *(min(after, 0) or None for _, after in pads), None]
        x = x[tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))]
    positive = [(max(before, 0), max(after, 0)) for before, after in pads]
    if any(side for pair in positive for side in pair):
        x = tf.pad(x, [(0, 0), *positive, (0, 0)])
    return x


def pad_or_same(x: Tensor, pads: Pads, spatial: Shape, window: Window) -> tuple[Tensor, str]:
    """Return the tensor and TensorFlow's padding mode that together give exactly ``pads``."""
    if not any(side for pair in pads for side in pair):
        return x, "VALID"
    if is_same(pads, spatial, window):
        return x, "SAME"
    return pad_spatial(x, pads), "VALID"
