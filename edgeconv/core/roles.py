"""What inputs of a model stand for, as far as their shapes, types and names tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from edgeconv.core.artifacts import TensorSpec

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


class Kind(StrEnum):
    """What an input stands for."""

    IMAGE = "pictures"
    SOUND = "sounds"
    INDEX = "indices"
    POSITION = "positions"
    MASK = "masks"
    STATE = "states"
    BITS = "zeros and ones"
    NUMBERS = "normal noise"


@dataclass(frozen=True, slots=True)
class Role:
    """What one input stands for.

    Attributes:
        kind: What it is.
        low: Of a picture what byte 0 is, of each channel or of all.
        high: What byte 255 is.
        size: Number of different indices.
        hides: Whether a mask says what is left out, not what is there.
        output: Of a state the output that it comes from.
    """

    kind: Kind
    low: tuple[float, ...] = (0.0,)
    high: tuple[float, ...] = (1.0,)
    size: int = 2
    hides: bool = False
    output: str | None = None

    def told(self) -> str:
        """Return what reports say."""
        if self.kind is Kind.IMAGE:
            return f"smooth pictures in {min(self.low):.4g}..{max(self.high):.4g}"
        if self.kind in (Kind.INDEX, Kind.POSITION):
            return f"{self.kind.value} below {self.size}"
        if self.kind is Kind.STATE and self.output is not None:
            return f"zeros, and what the model gave as {self.output}"
        return {Kind.STATE: "zeros", Kind.MASK: "masks that hide little or nothing"}.get(
            self.kind, self.kind.value
        )


_NOT_PICTURES = re.compile(
    r"latent|noise|hidden|state|cache|past|mem|key|value|quer|embed|feat|mask", re.IGNORECASE
)
_MASK = re.compile(r"mask", re.IGNORECASE)
_HIDING = re.compile(r"pad", re.IGNORECASE)
POSITION = re.compile(r"position|(^|_)pos(_|$)", re.IGNORECASE)


def role_of(spec: TensorSpec) -> Role:
    """Return what an input stands for by what its name, type and shape tell."""
    kind = np.dtype(spec.dtype).kind
    if _MASK.search(spec.name):
        return Role(Kind.MASK, hides=bool(_HIDING.search(spec.name)))
    picture = channel_axis(spec.source_shape) is not None
    if picture and spec.dtype == "uint8":
        return Role(Kind.IMAGE, high=(255.0,))
    if kind != "f":
        return Role(Kind.BITS)
    if picture and not _NOT_PICTURES.search(spec.name):
        return Role(Kind.IMAGE)
    return Role(Kind.NUMBERS)
