"""How many bytes the weights take on the chip.

The layout was read out of packages of compiled models: output channels lie in groups of 64, a
last group below 64 alone in steps of 16; inputs in steps of 4, and a single one with the pixels of
the kernel; each output channel has 4 bytes of
scale and bias beside its weights, 8 where weights have a scale per channel. In a depthwise filter
each weight takes 4 bytes. On compiled models this is within 1 % of the package; newer compilers add
tables to a softmax over many classes (48 kB for 1001), which are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgeconv.tflite.view import Op, Tensor

CACHE_BYTES = 7_864_320
"""Parameters that fit on the chip. Of its 8 MiB, activations and instructions take between nothing
and one; compilers reported 6.9 to 8.1 MiB. This is 7.5."""

LARGEST_CACHED_ROW = 16_000
"""A fully connected layer of more inputs is streamed even where it would fit."""

_GROUP, _STEP, _INPUTS, _ROW = 64, 16, 4, 64


@dataclass(frozen=True, slots=True)
class Parameters:
    """Estimated bytes of parameters.

    Attributes:
        cached: Loaded once, kept on the chip.
        streamed: Sent with each inference.
    """

    cached: int
    streamed: int


def estimate(ops: Iterable[Op]) -> Parameters:
    """Estimate the parameters of the operators that run on the Edge TPU."""
    cached = streamed = 0
    for op in ops:
        size = parameter_bytes(op)
        if op.name == "FULLY_CONNECTED" and _inputs(op) > LARGEST_CACHED_ROW:
            streamed += size
        else:
            cached += size
    overflow = max(0, cached - CACHE_BYTES)
    return Parameters(cached - overflow, streamed + overflow)


def parameter_bytes(op: Op) -> int:
    """Return the bytes of an operator's parameters on the chip."""
    weight = weight_of(op)
    if weight is None or not weight.shape:
        return 0
    beside = 8 if weight.per_channel else 4
    kernel = int(np.prod(weight.shape[1:-1], dtype=np.int64))
    if op.name == "DEPTHWISE_CONV_2D":
        channels = weight.shape[-1]
        return _up(channels, _STEP) * kernel * _INPUTS + _up(channels * beside, _ROW)
    outputs = weight.shape[0]
    padded = _up(outputs, _STEP) if outputs <= _GROUP else _up(outputs, _GROUP)
    depth = 1 if weight.shape[-1] == 1 else _up(weight.shape[-1], _INPUTS)
    return padded * (_up(kernel * depth, _INPUTS) + beside)


def weight_of(op: Op) -> Tensor | None:
    """Return the stored weight of an operator that has one."""
    if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        return None
    weight = op.input(1)
    return weight if weight is not None and weight.constant else None


def _inputs(op: Op) -> int:
    weight = weight_of(op)
    return weight.shape[-1] if weight is not None and weight.shape else 0


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
