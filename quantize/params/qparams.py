"""From ranges and weights to scales, zero points and stored integers.

Affine quantization, ``real = scale * (stored - zero_point)``, after Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", and
the LiteRT quantization specification: 8-bit activations asymmetric in [-128, 127] with int32
biases, or 16-bit ones symmetric in [-32768, 32767] with int64 biases; weights symmetric in
[-127, 127]; biases in the scale of the products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.tflite.file import QuantizationParametersT

INT8_MIN = -128
INT8_MAX = 127
INT16_MIN = -32768
INT16_MAX = 32767
WEIGHT_MAX = 127
MIN_SCALE = 2.0**-60
"""Scales stay far from float32's subnormal numbers, also when two are multiplied."""

_BIAS_MAX = {8: (1 << 30) - 1, 16: (1 << 38) - 1}
"""Largest bias by the activations' bits. Half of what int32 holds, the other half being left to the
products; and 2^23 steps of an int16 result, beyond which the rescaling loses bits."""


@dataclass(frozen=True, slots=True)
class Range:
    """A closed interval of real numbers that includes zero."""

    low: float
    high: float

    @classmethod
    def of(cls, low: float, high: float) -> Range:
        """Return the smallest range that holds both numbers and zero."""
        return cls(min(low, 0.0), max(high, 0.0))

    @property
    def width(self) -> float:
        """Distance between the ends."""
        return self.high - self.low

    def join(self, other: Range) -> Range:
        """Return the smallest range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))

    def scaled(self, factor: float) -> Range:
        """Return the range with both ends multiplied."""
        return Range(self.low * factor, self.high * factor)

    def meet(self, other: Range) -> Range:
        """Return the largest range that both hold."""
        return Range(max(self.low, other.low), min(self.high, other.high))


@dataclass(frozen=True, slots=True)
class QuantParams:
    """Scale and zero point of one int8 or int16 tensor; the scale is exact in float32."""

    scale: float
    zero_point: int
    bits: int = 8

    @classmethod
    def of(cls, limits: Range, bits: int = 8) -> QuantParams:
        """Return the scale and the nudged zero point that represent a range.

        A range of zero width, which holds zero alone, becomes [0, 1].

        Args:
            limits: The range.
            bits: 8, or 16 for a symmetric scale with zero point 0.
        """
        if bits == 16:
            peak = max(-limits.low, limits.high) or 1.0
            return cls(float(np.float32(max(peak / INT16_MAX, MIN_SCALE))), 0, 16)
        width = limits.width if limits.width > 0 else 1.0
        scale = float(np.float32(max(width / (INT8_MAX - INT8_MIN), MIN_SCALE)))
        zero_point = round(INT8_MIN - limits.low / scale)
        return cls(scale, min(max(zero_point, INT8_MIN), INT8_MAX))

    @classmethod
    def whole(cls, step: float, limits: Range, bits: int = 8) -> QuantParams | None:
        """Return a scale that stores whole multiples of a step exactly; ``None`` if there is none.

        Where there is room, numbers beyond the range can be stored as well, up to twice as many.

        Args:
            step: What all numbers are multiples of.
            limits: The range of the numbers.
            bits: 8, or 16 for a zero point of 0.
        """
        low, high = round(limits.low / step), round(limits.high / step)
        room = INT8_MAX - INT8_MIN if bits == 8 else INT16_MAX
        count = high - low if bits == 8 else max(-low, high)
        if not 0 < count <= room:
            return None
        finer = max(room // (2 * count), 1)
        scale = float(np.float32(step / finer))
        if scale < MIN_SCALE or not math.isclose(scale * finer, step, rel_tol=1e-6):
            return None
        zero_point = 0
        if bits == 8:
            spare = 0 if low == 0 else room - count * finer
            zero_point = INT8_MIN - low * finer + (spare if high == 0 else spare // 2)
        return cls(scale, zero_point, bits)

    @property
    def dtype(self) -> str:
        """The numpy dtype name of what is stored."""
        return f"int{self.bits}"

    @property
    def limits(self) -> Range:
        """The real numbers that the stored extremes stand for."""
        stored = np.iinfo(self.dtype)
        return Range(
            self.scale * (stored.min - self.zero_point), self.scale * (stored.max - self.zero_point)
        )

    def quantize(self, array: Array) -> Array:
        """Return stored values, rounded half to even and saturated."""
        stored = np.iinfo(self.dtype)
        steps: Array = np.rint(array.astype(np.float64) / self.scale) + self.zero_point
        return steps.clip(stored.min, stored.max).astype(self.dtype)

    def dequantize(self, array: Array) -> Array:
        """Return the float64 real numbers that stored values stand for."""
        reals: Array = (array.astype(np.float64) - self.zero_point) * self.scale
        return reals

    def stored(self) -> QuantizationParametersT:
        """Return the flatbuffer's form."""
        return _parameters(np.array([self.scale]), [self.zero_point], 0)


def weight_scales(weight: Array, axis: int | None) -> Array:
    """Return the symmetric scales of a weight, one per slice along an axis or one in all.

    Args:
        weight: The float weight.
        axis: Axis with a scale per slice; ``None`` for one scale.

    Returns:
        float32 scales, of shape (slices,) or (1,). A slice of zeros gets 1/127.
    """
    others = tuple(index for index in range(weight.ndim) if index != axis)
    peak = np.abs(weight).max(axis=None if axis is None else others, initial=0.0)
    peaks = np.atleast_1d(peak).astype(np.float64)
    scales = np.where(peaks > 0, peaks, 1.0) / WEIGHT_MAX
    return np.maximum(scales, MIN_SCALE).astype(np.float32)


def scales_beside(
    scales: Array, bias: Array, input_scale: float, axis: int | None, bits: int = 8
) -> Array:
    """Return a weight's scales, enlarged where its bias would not fit into its integers otherwise.

    Args:
        scales: What `weight_scales` returned.
        bias: The float bias, one value per slice.
        input_scale: Scale of the activation that the weight multiplies.
        axis: Axis with a scale per slice; ``None`` for one scale.
        bits: Bits of that activation.
    """
    if not bias.size:
        return scales
    needed = np.abs(bias.astype(np.float64).reshape(-1)) / (_BIAS_MAX[bits] * input_scale)
    least = needed if axis is not None else needed.max()
    return np.maximum(scales, least.astype(np.float32))


def quantize_weight(weight: Array, scales: Array, axis: int | None) -> Array:
    """Return symmetric int8 weights in [-127, 127]."""
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    steps = np.rint(weight / scales.reshape(shape))
    return np.clip(steps, -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)


def quantize_bias(bias: Array, input_scale: float, scales: Array, bits: int = 8) -> Array:
    """Return the bias in the scale of the products: int32 beside int8, int64 beside int16."""
    limits = np.iinfo(np.int32 if bits == 8 else np.int64)
    steps = np.rint(bias.astype(np.float64) / bias_scales(input_scale, scales).astype(np.float64))
    largest = float(limits.max) if bits == 8 else float(_BIAS_MAX[bits])
    return np.clip(steps, -largest, largest).astype(limits.dtype)


def bias_scales(input_scale: float, scales: Array) -> Array:
    """Return the float32 scales of the products of an activation and a weight."""
    products: Array = np.float32(input_scale) * scales.astype(np.float32)
    return products


def symmetric(scales: Array, axis: int | None) -> QuantizationParametersT:
    """Return the flatbuffer's form of per-slice scales with zero points of 0."""
    return _parameters(scales, [0] * scales.size, axis or 0)


def _parameters(scales: Array, zero_points: list[int], axis: int) -> QuantizationParametersT:
    parameters = QuantizationParametersT()
    parameters.scale = scales.astype(np.float32)
    parameters.zeroPoint = np.asarray(zero_points, np.int64)
    parameters.quantizedDimension = axis
    return parameters
