"""Find the bytes that samples were made of: pixels divided by 255, shifted and scaled.

Bytes that went through ``(x / 255 - mean) / std`` lie on a grid of at most 256 values with one
distance. Samples that do, but for the rounding of float32, come from a camera or an image file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeconv.core.artifacts import Array

LAST = 255
"""The largest byte."""

_OFF = 2e-3
"""The farthest that a value may be from the grid, in steps: what float32 rounds away."""

_SURE = 32
"""So many different values on one grid are no chance."""

_ENOUGH = 8
"""So many are none where the input has the shape of an image."""

_SAMPLED = 1 << 16
_BLOCK = 1 << 20

_Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grid:
    """What bytes 0 and 255 became.

    Attributes:
        low: What byte 0 became.
        high: What byte 255 became.
        anchored: Whether both are known; otherwise the samples have neither, and lie in the middle.
    """

    low: float
    high: float
    anchored: bool = True

    @property
    def step(self) -> float:
        """The distance of neighbours."""
        return (self.high - self.low) / LAST

    def same(self, other: Grid) -> bool:
        """Tell whether two grids are one."""
        far = max(abs(self.low - other.low), abs(self.high - other.high))
        return far <= 0.1 * self.step

    def bytes_of(self, values: Array) -> _Vector:
        """Return what values were before, as real numbers."""
        return (values.astype(np.float64) - self.low) / self.step

    def holds(self, values: Array) -> bool:
        """Tell whether all values are on the grid, but for rounding, and within it."""
        rounding = 4 * float(np.finfo(np.float32).eps) * max(abs(self.low), abs(self.high))
        off = max(_OFF, rounding / self.step)
        for part in _blocks(values):
            found = self.bytes_of(part)
            whole = np.rint(found)
            if np.abs(found - whole).max() > off or whole.min() < 0 or whole.max() > LAST:
                return False
        return True


UNIT = Grid(0.0, 1.0)
WHOLE = Grid(0.0, float(LAST))
SIGNED = Grid(-1.0, 1.0)

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_KNOWN: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
    _IMAGENET,
    (_IMAGENET[0][::-1], _IMAGENET[1][::-1]),
    ((0.5,), (0.5,)),
    ((0.5,), (128 / 255,)),
    ((128 / 255,), (128 / 255,)),
    ((0.1307,), (0.3081,)),
    ((0.2860,), (0.3530,)),
    ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    (tuple(value / 255 for value in (123.68, 116.779, 103.939)), (1 / 255,)),
    (tuple(value / 255 for value in (103.939, 116.779, 123.68)), (1 / 255,)),
)
"""Means and standard deviations in use, of values in 0..1: ImageNet in both orders of the channels,
torchvision's, MobileNet's, MNIST, Fashion-MNIST, CIFAR-10 twice, CIFAR-100, CLIP, and Caffe's."""


def normalised(mean: float, std: float) -> Grid:
    """Return the grid of bytes that were scaled to 0..1, then normalised."""
    return Grid(-mean / std, (1 - mean) / std)


def find(values: Array, *, image: bool, known: Sequence[Grid] = ()) -> Grid | None:
    """Return the grid that values of one channel, or of all, lie on; ``None`` for no grid.

    Args:
        values: float values of any shape.
        image: Whether the values have the shape of an image, so that less evidence will do.
        known: Grids to try first.
    """
    some = np.unique(_sampled(values)).astype(np.float64)
    least = _ENOUGH if image else _SURE
    for grid in (*known, UNIT, WHOLE):
        if grid.holds(some) and _convinces(grid, some, least, image=image):
            return grid if grid.holds(values) else None
    found = _fitted(some, least)
    return found if found is not None and found.holds(values) else None


def channel_grids(channels: Sequence[Array]) -> list[Grid | None]:
    """Return the grid of each channel of an image, of all together where there is one.

    Args:
        channels: The values of each channel.
    """
    count = len(channels)
    for mean, std in _KNOWN:
        if {len(mean), len(std)} <= {1, count}:
            places = range(count)
            grids = [normalised(mean[i % len(mean)], std[i % len(std)]) for i in places]
            if _fit(grids, channels):
                return list(grids)
    together = find(np.stack(channels), image=True)
    if together is not None:
        return [together] * count
    return [find(channel, image=True) for channel in channels]


def _fit(grids: Sequence[Grid], channels: Sequence[Array]) -> bool:
    """Tell whether each channel is on its grid, and enough of it."""
    some = [np.unique(_sampled(channel)) for channel in channels]
    on_it = all(grid.holds(one) for grid, one in zip(grids, some, strict=True))
    if not on_it or max(one.size for one in some) < _ENOUGH:
        return False
    return all(grid.holds(channel) for grid, channel in zip(grids, channels, strict=True))


def _convinces(grid: Grid, values: _Vector, least: int, *, image: bool) -> bool:
    """Tell whether different values on a grid tell that they come from bytes.

    Few may be there by chance, such as the multiples of 0.2, or small whole numbers.
    """
    steps = np.unique(np.rint(grid.bytes_of(values)))
    if steps.size >= least:
        return bool(steps[-1] > LAST / 2) or (steps.size >= _SURE and grid != WHOLE)
    return image and grid == UNIT and steps.tolist() in ([0.0, LAST], [float(LAST)])


def _fitted(values: _Vector, least: int) -> Grid | None:
    """Return the grid of sorted different values, by their smallest distance and least squares."""
    if values.size < least:
        return None
    span = float(values[-1] - values[0])
    gaps = np.diff(values)
    gaps = gaps[gaps > span / LAST / 16]
    if not gaps.size or span / gaps.min() > LAST + 0.5:
        return None
    steps = np.rint((values - values[0]) / gaps.min())
    if np.unique(steps).size < least:
        return None
    step, low = np.polyfit(steps, values, 1)
    last = int(steps[-1])
    if last <= LAST // 2 or not Grid(low, low + LAST * step).holds(values):
        return None
    below = (LAST - last) // 2
    low -= below * step
    return Grid(float(low), float(low + LAST * step), anchored=last == LAST)


def _sampled(values: Array) -> Array:
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // _SAMPLED)]


def _blocks(values: Array) -> Iterator[Array]:
    flat = values.reshape(-1)
    for start in range(0, max(flat.size, 1), _BLOCK):
        yield flat[start : start + _BLOCK]
