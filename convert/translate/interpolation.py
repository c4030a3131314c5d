"""Which input elements a resized axis takes, and how much of each.

Source of the semantics: ONNX operator spec, Resize. An axis of a resize is a matrix [out, in]
whose rows sum to one; every mode differs only in that matrix.

Coordinates are float32, step by step as onnxruntime computes them: which element is nearest, and
how many there are, depends on how 17 / 1.7 is rounded. A length is a number of elements, whatever
``scale * size`` is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeconv.convert.translate.registry import Unsupported
from edgeconv.core.artifacts import Array


@dataclass(frozen=True, slots=True)
class Interpolation:
    """The attributes of a Resize that say how to interpolate; named as ONNX names them.

    Before opset 11 the nearest element has no attribute; it is onnxruntime's: ``"simple"``, which
    rounds down, and up where an axis shrinks.
    """

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False


@dataclass(frozen=True, slots=True)
class Resizing:
    """How one axis is resized.

    Attributes:
        size: Elements of the input.
        out: Elements of the output.
        scale: What coordinates are divided by, a float32 number; not exactly ``out / size`` where
            ONNX gives scales.
        roi: Start and end of the region of mode tf_crop_and_resize, as shares of the axis.
    """

    size: int
    out: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def by_scale(cls, size: int, scale: float) -> Resizing:
        """Return the resizing by a factor."""
        factor = np.float32(scale)
        return cls(size, int(np.float32(size) * factor), float(factor))

    @classmethod
    def by_size(cls, size: int, out: int) -> Resizing:
        """Return the resizing to a number of elements."""
        return cls(size, out, float(np.float32(out) / np.float32(size)))

    @property
    def changes(self) -> bool:
        """Tell whether the output differs from the input."""
        return self.size != self.out or self.scale != 1 or self.roi != (0.0, 1.0)


def source_positions(axis: Resizing, mode: str) -> Array:
    """Return for each output element the input coordinate that it shows, float32.

    Raises:
        Unsupported: The coordinate transformation is not one of ONNX's.
    """
    if mode not in _COORDINATES:
        raise Unsupported(f"coordinate_transformation_mode {mode}")
    # A Python number takes the array's float32; so does all arithmetic below.
    return _COORDINATES[mode](axis, np.arange(axis.out, dtype=np.float32))


def _align_corners(axis: Resizing, y: Array) -> Array:
    return y if axis.out == 1 else y * (axis.size - 1) / (axis.out - 1)


def _half_pixel(axis: Resizing, y: Array) -> Array:
    return (y + 0.5) / axis.scale - 0.5


def _pytorch_half_pixel(axis: Resizing, y: Array) -> Array:
    return y - 0.5 if axis.out == 1 else _half_pixel(axis, y)


def _half_pixel_symmetric(axis: Resizing, y: Array) -> Array:
    adjustment = np.float32(axis.out) / (np.float32(axis.scale) * np.float32(axis.size))
    return np.float32(axis.size / 2) * (1 - adjustment) + _half_pixel(axis, y)


def _crop(axis: Resizing, y: Array) -> Array:
    start, end = map(np.float32, axis.roi)
    last = np.float32(axis.size - 1)
    if axis.out == 1:
        return np.full(1, np.float32(0.5) * (start + end) * last)
    return start * last + y * (end - start) * last / (axis.out - 1)


_COORDINATES: dict[str, Callable[[Resizing, Array], Array]] = {
    "align_corners": _align_corners,
    "asymmetric": lambda axis, y: y / axis.scale,
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "tf_crop_and_resize": _crop,
    "tf_half_pixel_for_nn": lambda axis, y: (y + 0.5) / axis.scale,
}


def nearest_elements(axis: Resizing, how: Interpolation) -> Array:
    """Return for each output element the input element that mode nearest takes, int32.

    Raises:
        Unsupported: The rounding is not one of ONNX's.
    """
    x = source_positions(axis, how.coordinates).astype(np.float64)  # where halves are exact
    mode = how.nearest_mode
    if mode == "simple":
        mode = "ceil" if axis.scale < 1 else "floor"
    if mode not in _ROUNDINGS:
        raise Unsupported(f"nearest_mode {mode}")
    return _ROUNDINGS[mode](x).clip(0, axis.size - 1).astype(np.int32)


_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
}


def weights(axis: Resizing, how: Interpolation) -> Array:
    """Return the matrix [out, in] of an axis, float64.

    Raises:
        Unsupported: A mode that is not one of ONNX's.
    """
    if how.mode == "nearest":
        return np.eye(axis.size)[nearest_elements(axis, how)]
    x = source_positions(axis, how.coordinates).astype(np.float64)
    shrink = min(axis.scale, 1.0) if how.antialias else 1.0
    kernel, radius = _kernel(how)
    reach = math.ceil(radius / shrink)
    first = np.floor(x).astype(np.int64)[:, None] + 1 - reach
    taken = first + np.arange(2 * reach)
    share = kernel((taken - x[:, None]) * shrink)
    if how.antialias:
        share = share / share.sum(1, keepdims=True)
    if how.exclude_outside:
        share = np.where((taken >= 0) & (taken < axis.size), share, 0)
        share = share / share.sum(1, keepdims=True)
    matrix = np.zeros((axis.out, axis.size))
    rows = np.arange(axis.out)[:, None]
    np.add.at(matrix, (rows, taken.clip(0, axis.size - 1)), share)
    return matrix


def _kernel(how: Interpolation) -> tuple[Callable[[Array], Array], int]:
    """Return the weight by distance, and the distance from which it is zero."""
    if how.mode == "linear":
        return lambda x: np.maximum(1 - np.abs(x), 0), 1
    if how.mode == "cubic":
        return lambda x: _cubic(np.abs(x), how.cubic_coeff_a), 2
    raise Unsupported(f"mode {how.mode}")


def _cubic(x: Array, a: float) -> Array:
    """Keys' cubic convolution kernel. Source: Keys 1981, IEEE TASSP 29(6), equation 15."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def outside(axis: Resizing, how: Interpolation) -> Array:
    """Return for each output element whether it shows nothing of the input."""
    if how.coordinates != "tf_crop_and_resize":
        return np.zeros(axis.out, np.bool_)
    x = source_positions(axis, how.coordinates)
    return (x < 0) | (x > axis.size - 1)
