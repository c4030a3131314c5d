"""Interpolation of an image at points computed at run time.

The image becomes a table of pixels. For every point, the taps along each axis are combined to the
numbers of the pixels around it, one gather fetches them all, and their weighted sum is the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.value import Tensor, shape_of
from edgeconv.core.artifacts import Array

_CUBIC_A = -0.75  # of torch's and ONNX's grid sampling
_CUBIC = np.array(
    [
        [0, 1, 0, 0],
        [_CUBIC_A, 0, -_CUBIC_A, 0],
        [-2 * _CUBIC_A, -(_CUBIC_A + 3), 2 * _CUBIC_A + 3, _CUBIC_A],
        [_CUBIC_A, _CUBIC_A + 2, -(_CUBIC_A + 2), -_CUBIC_A],
    ],
    np.float32,
)
"""Weights of the taps at -1, 0, 1, 2 as polynomials of the position between 0 and 1; a row a
power. Source: Keys 1981, IEEE TASSP 29(6), equation 15."""


@dataclass(frozen=True, slots=True)
class Taps:
    """The elements of each axis that a point is computed from.

    Attributes:
        index: int32 [B, P, axes, K], inside the bounds.
        weight: [B, P, axes, K]; None where the one tap is the result.
    """

    index: Tensor
    weight: Tensor | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """First and last element of each axis that may be taken, [axes] in float32.

    With ``margin`` a border of zeros of one element is part of it.
    """

    first: Array
    last: Array
    margin: int

    @classmethod
    def of(cls, sizes: Sequence[int], *, zeros: bool) -> Bounds:
        """Return the bounds of an image, with a margin of zeros or without."""
        margin = int(zeros)
        last = np.array(sizes, np.float32) - 1
        return cls(np.full(len(sizes), -margin, np.float32), last + margin, margin)

    def clip(self, points: Tensor, beyond: int = 0) -> Tensor:
        """Move points inside the bounds, or no more than ``beyond`` outside them."""
        return tf.minimum(tf.maximum(points, self.first - beyond), self.last + beyond)


def nearest_taps(points: Tensor, bounds: Bounds) -> Taps:
    """Return the tap that is nearest to each point [B, P, axes]; halves go to the even one."""
    return Taps(tf.cast(bounds.clip(tf.round(points)), tf.int32)[..., None], None)


def linear_taps(points: Tensor, bounds: Bounds) -> Taps:
    """Return the two taps around each point [B, P, axes]."""
    inside = bounds.clip(points)
    low = tf.minimum(tf.floor(inside), np.maximum(bounds.last - 1, bounds.first))
    share = inside - low
    high = low + 1
    if np.any(bounds.last == bounds.first):
        high = tf.minimum(high, bounds.last)
    index = tf.stack([low, high], axis=-1)
    return Taps(tf.cast(index, tf.int32), tf.stack([1 - share, share], axis=-1))


def cubic_taps(points: Tensor, bounds: Bounds, reflect: Reflection | None = None) -> Taps:
    """Return the four taps around each point [B, P, axes]; taps outside go to the bounds."""
    if reflect is None:
        points = bounds.clip(points, beyond=2)
    low = tf.floor(points)
    share = points - low
    index = low[..., None] + np.arange(-1, 3, dtype=np.float32)
    if reflect is not None:
        index = reflect(index, axes_last=False)
    index = tf.minimum(tf.maximum(index, bounds.first[:, None]), bounds.last[:, None])
    square = share * share
    powers = tf.stack([tf.ones_like(share), share, square, square * share], axis=-1)
    count = math.prod(shape_of(share))
    weight = tf.reshape(tf.matmul(tf.reshape(powers, (count, 4)), _CUBIC), shape_of(powers))
    return Taps(tf.cast(index, tf.int32), weight)


@dataclass(frozen=True, slots=True)
class Reflection:
    """Mirrors points at both ends of each axis until they are between them.

    Attributes:
        first: The mirrors at the starts, [axes].
        last: The mirrors at the ends.
    """

    first: Array
    last: Array

    @classmethod
    def of(cls, sizes: Sequence[int], *, align_corners: bool) -> Reflection:
        """Mirror at the centres of the outermost elements, or at their outer edges."""
        beyond = np.float32(0 if align_corners else 0.5)
        last = np.array(sizes, np.float32) - 1
        return cls(np.zeros_like(last) - beyond, last + beyond)

    def __call__(self, points: Tensor, *, axes_last: bool = True) -> Tensor:
        """Mirror points [B, P, axes], or [B, P, axes, K]."""
        first, last = (
            (self.first, self.last) if axes_last else (self.first[:, None], self.last[:, None])
        )
        span = np.maximum(last - first, 1e-6)
        away = tf.math.floormod(tf.abs(points - first), 2 * span)
        return span + first - tf.abs(away - span)


def pixels_at(image: Tensor, taps: Taps, base: Tensor, bounds: Bounds) -> tuple[Tensor, Tensor]:
    """Fetch the pixels that points are computed from.

    Args:
        image: [B, spatial..., C].
        taps: Taps along each spatial axis.
        base: For each point the number of its image's first pixel, to broadcast to [B, P, 1].
        bounds: Bounds of the taps; their margin is added to the image here.

    Returns:
        The pixels [B, P, K ** axes, C], and their weights [B, P, K ** axes] or None.
    """
    margin = bounds.margin
    if margin:
        axes = len(image.shape) - 2
        image = tf.pad(image, [(0, 0), *[(margin, margin)] * axes, (0, 0)])
    sizes = shape_of(image)[1:-1]
    number, weight = taps.index[:, :, 0], None if taps.weight is None else taps.weight[:, :, 0]
    for axis in range(1, len(sizes)):
        number = _outer(number * sizes[axis], taps.index[:, :, axis], tf.add)
        if taps.weight is not None:
            weight = _outer(weight, taps.weight[:, :, axis], tf.multiply)
    start = margin * sum(math.prod(sizes[axis + 1 :]) for axis in range(len(sizes)))
    offset = base + start
    if not isinstance(offset, np.ndarray) or np.any(offset):
        number = number + offset
    table = tf.reshape(image, (-1, image.shape[-1]))
    return tf.gather(table, number), weight


def _outer(left: Tensor, right: Tensor, combine: object) -> Tensor:
    """Combine [B, P, K] with [B, P, L] to [B, P, K * L]."""
    batch, points, count = shape_of(left)
    grid = combine(left[..., :, None], right[..., None, :])  # type: ignore[operator]
    return tf.reshape(grid, (batch, points, count * right.shape[-1]))


def first_pixels(batch: int, sizes: Sequence[int], bounds: Bounds) -> Array:
    """Return the number of each image's first pixel in a table of all images, [B, 1, 1]."""
    count = math.prod(size + 2 * bounds.margin for size in sizes)
    return (np.arange(batch, dtype=np.int32) * count).reshape(batch, 1, 1)


def weighted_sum(pixels: Tensor, weight: Tensor | None) -> Tensor:
    """Return [B, P, C] from what `pixels_at` returns."""
    if weight is None:
        return tf.squeeze(pixels, 2)
    return tf.reduce_sum(pixels * weight[..., None], axis=2)
