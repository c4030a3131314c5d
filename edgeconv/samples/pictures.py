"""Pictures and sounds out of nothing, with what real ones have: smooth areas, edges, silence.

The spectrum of natural images falls with the frequency (Field 1987, "Relations between the
statistics of natural images and the response properties of cortical cells"), which noise does not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_LAST = 255
_SHAPES = 5
"""At most as many areas lie on the background."""

_GRAIN = 3.0
"""Standard deviation of the grain, in bytes."""

_HARMONICS = 6

_Floats = npt.NDArray[np.float64]
_Bytes = npt.NDArray[np.uint8]


def picture(random: np.random.Generator, height: int, width: int, channels: int) -> _Bytes:
    """Return one picture, ``[height, width, channels]``.

    Args:
        random: Source of randomness.
        height: In pixels.
        width: In pixels.
        channels: 1, 3, or more.
    """
    shade = _smooth(random, height, width, 1)
    tint = _smooth(random, height, width, channels)
    found = shade + 0.4 * tint
    for _ in range(int(random.integers(1, _SHAPES + 1))):
        inside = _area(random, height, width)
        colour = random.uniform(-1, 1) + 0.4 * random.uniform(-1, 1, channels)
        texture = random.uniform(0, 0.5) * _smooth(random, height, width, 1)
        found = np.where(inside[..., np.newaxis], colour + texture, found)
    low, high = float(found.min()), float(found.max())
    found = (found - low) / max(high - low, 1e-9)
    dark, bright = random.uniform(-0.1, 0.35), random.uniform(0.55, 1.1)
    found = (dark + (bright - dark) * found) * _LAST
    grainy = found + random.normal(0, _GRAIN, found.shape)
    return np.rint(grainy).clip(0, _LAST).astype(np.uint8)


def _smooth(random: np.random.Generator, height: int, width: int, channels: int) -> _Floats:
    """Return waves whose amplitude falls with their frequency, about -1 to 1."""
    total = np.zeros((height, width, channels))
    for octave in range(1, 4):
        cells = 1 + 2**octave
        coarse = random.uniform(-1, 1, (cells, cells, channels)) / octave
        total += np.einsum(
            "hi,ijc,wj->hwc", _interpolation(height, cells), coarse, _interpolation(width, cells)
        )
    return total / 1.5


def _interpolation(size: int, cells: int) -> _Floats:
    """Return the matrix that interpolates linearly between cells, ``[size, cells]``."""
    places = np.linspace(0, cells - 1, size)
    weights: _Floats = np.maximum(0.0, 1 - np.abs(places[:, np.newaxis] - np.arange(cells)))
    return weights


def _area(random: np.random.Generator, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return a rectangle or an ellipse, ``[height, width]``."""
    y, x = np.mgrid[0:height, 0:width]
    centre_y, centre_x = random.uniform(0, height), random.uniform(0, width)
    half_y, half_x = random.uniform(0.08, 0.35) * height, random.uniform(0.08, 0.35) * width
    dy, dx = (y - centre_y) / half_y, (x - centre_x) / half_x
    if random.random() < 0.5:
        return np.asarray((np.abs(dy) < 1) & (np.abs(dx) < 1))
    return np.asarray(dy**2 + dx**2 < 1)


def waveform(random: np.random.Generator, length: int) -> npt.NDArray[np.float32]:
    """Return a sound: harmonics under an envelope, a little noise, some of it quiet.

    Args:
        random: Source of randomness.
        length: Number of values, in -1..1.
    """
    time = np.arange(length)
    pitch = random.uniform(0.004, 0.06)
    phases = random.uniform(0, 2 * np.pi, _HARMONICS)
    tone = sum(
        np.sin(2 * np.pi * pitch * k * time + phases[k - 1]) / k for k in range(1, _HARMONICS + 1)
    )
    knots = random.uniform(0, 1, 6) * (random.random(6) < 0.8)
    envelope = np.interp(time, np.linspace(0, length - 1, 6), knots)
    loud = random.uniform(0.05, 0.9)
    sound = loud * envelope * tone / 2.5 + random.normal(0, 0.003, length)
    return np.asarray(np.clip(np.rint(sound * 32767) / 32767, -1, 1), np.float32)
