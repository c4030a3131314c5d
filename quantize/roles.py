"""What the inputs of a model stand for, as far as their shapes, types and names tell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from edgeconv.artifacts import TensorSpec
from edgeconv.quantize.image_like import channel_axis


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
_STATE = re.compile(
    r"state|hidden|cell|cache|past|memory|(^|_)mem|carry|context_in|(^|_|\.)[hc]\d*(_|$|t|0)",
    re.IGNORECASE,
)
_DIRECTION = re.compile(
    r"input|output|present|past|prev(ious)?|next|new|old|init(ial)?|curr(ent)?|out|in|[\W_\d]",
    re.IGNORECASE,
)


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


def with_states(
    roles: Mapping[str, Role], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> dict[str, Role]:
    """Return roles with those of states: named like one, and an output has the same shape.

    Args:
        roles: Of each input.
        inputs: The inputs.
        outputs: The outputs; one whose name is like the input's goes first, then their order.
    """
    found, free = dict(roles), list(outputs)
    states = [
        spec
        for spec in inputs
        if np.dtype(spec.dtype).kind == "f" and _STATE.search(spec.name)
        and roles[spec.name].kind in (Kind.NUMBERS, Kind.STATE)
    ]  # fmt: skip
    for alike in (True, False):
        for spec in list(states):
            match = next((one for one in free if _fits(spec, one, alike=alike)), None)
            if match is not None:
                free.remove(match)
                states.remove(spec)
                found[spec.name] = replace(roles[spec.name], kind=Kind.STATE, output=match.name)
    return found | {spec.name: Role(Kind.STATE) for spec in states}


def _fits(state: TensorSpec, output: TensorSpec, *, alike: bool) -> bool:
    """Tell whether an output may be what a state becomes."""
    same = (state.source_shape, state.dtype) == (output.source_shape, output.dtype)
    return same and (not alike or _stem(state.name) == _stem(output.name))


def _stem(name: str) -> str:
    """Return a name without what tells the one end of a state from the other."""
    return _DIRECTION.sub("", name).lower()
