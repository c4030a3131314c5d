"""Inputs for models that nobody gave data for: of the kind that the model takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgeconv.core.artifacts import Array, Arrays, TensorSpec
from edgeconv.core.roles import Kind, Role, channel_axis, role_of
from edgeconv.samples.pictures import picture, waveform

_SHOWN = 0.5
"""The least share of a sequence that a mask leaves."""


def generate_arrays(
    inputs: Sequence[TensorSpec], count: int, seed: int, roles: Mapping[str, Role]
) -> Arrays:
    """Return samples of inputs, ``[sample, *input shape]`` by name.

    Args:
        inputs: The model's inputs.
        count: Number of samples.
        seed: Seed of what is random.
        roles: What the inputs stand for; by `role_of` where nothing is said.
    """
    random = np.random.default_rng(seed)
    arrays: Arrays = {}
    for spec in inputs:
        role = roles.get(spec.name) or role_of(spec)
        shape = tuple(int(size) for size in spec.source_shape if size is not None)
        made = _MAKERS[role.kind](random, role, (count, *shape))
        arrays[spec.name] = np.ascontiguousarray(made.astype(spec.dtype, copy=False))
    return arrays


def _pictures(random: np.random.Generator, role: Role, shape: tuple[int, ...]) -> Array:
    axis = channel_axis(shape[1:])
    assert axis is not None
    count, *rest = shape
    channels = rest.pop(axis)
    *others, height, width = rest
    frames = int(np.prod(others))
    stills = [picture(random, height, width, channels) for _ in range(count)]
    # Frames of a film pan over one picture.
    films = [[np.roll(still, shift, axis=1) for shift in range(frames)] for still in stills]
    bytes_ = np.array(films).reshape(count, *rest, channels)
    low, high = (np.asarray(ends, np.float64) for ends in (role.low, role.high))
    real = low + (high - low) * (bytes_ / 255)
    return np.moveaxis(real, -1, axis + 1)


def _sounds(random: np.random.Generator, _: Role, shape: tuple[int, ...]) -> Array:
    number = int(np.prod(shape[:-1]))
    return np.stack([waveform(random, shape[-1]) for _ in range(number)]).reshape(shape)


def _indices(random: np.random.Generator, role: Role, shape: tuple[int, ...]) -> Array:
    found = random.integers(0, role.size, shape)
    found.reshape(-1)[:2] = (0, role.size - 1)[: found.size]
    return found


def _positions(_: np.random.Generator, role: Role, shape: tuple[int, ...]) -> Array:
    """Count along the last axis; a single position goes through all of them over the samples."""
    if shape[-1:] in ((), (1,)) or len(shape) == 1:
        steps = np.linspace(0, role.size - 1, shape[0]).astype(np.int64)
        return np.broadcast_to(steps.reshape(-1, *[1] * (len(shape) - 1)), shape).copy()
    return np.broadcast_to(np.minimum(np.arange(shape[-1]), role.size - 1), shape).copy()


def _masks(random: np.random.Generator, role: Role, shape: tuple[int, ...]) -> Array:
    """Show everything; where a mask has one row, every other sample ends early."""
    shown = np.ones(shape, np.int64)
    single = len(shape) > 1 and shape[-1] > 1 and int(np.prod(shape[1:-1])) == 1
    if single:
        for number in range(1, shape[0], 2):
            length = int(np.ceil(shape[-1] * random.uniform(_SHOWN, 1)))
            shown[number, ..., length:] = 0
    return 1 - shown if role.hides else shown


def _zeros(_: np.random.Generator, __: Role, shape: tuple[int, ...]) -> Array:
    return np.zeros(shape)


def _bits(random: np.random.Generator, _: Role, shape: tuple[int, ...]) -> Array:
    return random.integers(0, 2, shape)


def _numbers(random: np.random.Generator, _: Role, shape: tuple[int, ...]) -> Array:
    return random.standard_normal(shape, np.float32)


_MAKERS: dict[Kind, Callable[[np.random.Generator, Role, tuple[int, ...]], Array]] = {
    Kind.IMAGE: _pictures,
    Kind.SOUND: _sounds,
    Kind.INDEX: _indices,
    Kind.POSITION: _positions,
    Kind.MASK: _masks,
    Kind.STATE: _zeros,
    Kind.BITS: _bits,
    Kind.NUMBERS: _numbers,
}
