"""Tell which inputs have the shape of an image."""

from __future__ import annotations

from collections.abc import Sequence

CHANNELS = (1, 3, 4)
"""Grey, colours, colours with an opacity or a depth."""

_LEAST = 4
"""An image is no smaller, in pixels."""


def channel_axis(shape: Sequence[int | None]) -> int | None:
    """Return the axis of an image's channels, ``None`` where a shape is none of an image.

    Args:
        shape: ``NCHW``, ``NHWC``, ``NCTHW``, ``NTCHW``, and without N where the channels are more
            than one, so that nothing else can be meant; ``None`` for an open dimension.
    """
    rank = len(shape)
    candidates = {3: (0, 2), 4: (1, 3), 5: (1, 2, 4)}.get(rank, ())
    allowed = CHANNELS if rank > 3 else CHANNELS[1:]
    for axis in candidates:
        if shape[axis] in allowed and _spacious(shape, axis):
            return axis
    return None


def _spacious(shape: Sequence[int | None], axis: int) -> bool:
    """Tell whether the two dimensions of a picture are large enough to be some."""
    rest = [size for place, size in enumerate(shape) if place != axis]
    return all(size is None or size >= _LEAST for size in rest[-2:])
