"""How each TFLite operator is quantized: one table, read by the engine and the tests.

Scales and zero points follow the LiteRT quantization specification; versions are the lowest that
accept int8 or int16, as in LiteRT's ``op_version.cc``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Scaling(Enum):
    """Where the scale of an operator's float outputs comes from."""

    FREE = "free"
    """Calibrated; the kernel rescales between any input and output scales."""

    SAME = "same"
    """The first float input's: the kernel copies, picks or averages values as they are stored.
    Further float inputs (a padding value) are stored in that scale, saturated."""

    SHARED = "shared"
    """One for all float inputs and outputs, set by the output's range. An input beyond that range
    may saturate: for the operators marked so, that changes no result."""

    FIXED = "fixed"
    """Prescribed by the specification."""

    TABLE = "table"
    """Calibrated; there is no int8 kernel, and the engine emits a lookup table instead."""

    CAST = "cast"
    """Between real numbers and integers or booleans; the engine emits what the types need."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one operator is quantized.

    Attributes:
        version: Lowest operator version that accepts int8.
        scaling: Where the output scale comes from.
        fixed: Scale and zero point of the outputs where ``scaling`` is ``FIXED``.
        weight: Input slot of a constant weight, stored symmetrically.
        axis: Axis of the weight that has a scale per slice; ``None`` for one scale in all.
        bias: Input slot of the int32 bias.
        dynamic_weight: Whether the kernel also accepts a computed weight.
    """

    version: int = 1
    scaling: Scaling = Scaling.FREE
    fixed: tuple[float, int] | None = None
    weight: int | None = None
    axis: int | None = None
    bias: int | None = None
    dynamic_weight: bool = False


def _same(version: int = 1) -> Rule:
    return Rule(version, Scaling.SAME)


def _shared(version: int = 1) -> Rule:
    return Rule(version, Scaling.SHARED)


def _fixed(version: int, scale: float, zero_point: int) -> Rule:
    return Rule(version, Scaling.FIXED, fixed=(scale, zero_point))


_TABLE = Rule(1, Scaling.TABLE)

RULES: dict[str, Rule] = {
    # Weighted.
    "CONV_2D": Rule(3, weight=1, axis=0, bias=2),
    "DEPTHWISE_CONV_2D": Rule(3, weight=1, axis=3, bias=2),
    "FULLY_CONNECTED": Rule(4, weight=1, axis=0, bias=2, dynamic_weight=True),
    "TRANSPOSE_CONV": Rule(2, weight=1, axis=0, bias=3),
    # Arithmetic.
    "ADD": Rule(2),
    "SUB": Rule(2),
    "MUL": Rule(2),
    "SQUARED_DIFFERENCE": Rule(2),
    "BATCH_MATMUL": Rule(2),
    # Elementwise.
    "ABS": Rule(2),
    "ELU": Rule(1),
    "EXP": Rule(2),
    "GELU": Rule(2),
    "HARD_SWISH": Rule(1),
    "LEAKY_RELU": Rule(1),
    "LOG": Rule(2),
    "PRELU": Rule(1),
    "RELU": Rule(2),
    "RELU6": Rule(2),
    "RELU_N1_TO_1": Rule(1),
    "RSQRT": Rule(2),
    "SQRT": Rule(2),
    # Elementwise without an int8 kernel.
    "CEIL": _TABLE,
    "COS": _TABLE,
    "FLOOR": _TABLE,
    "FLOOR_DIV": _TABLE,
    "FLOOR_MOD": _TABLE,
    "POW": _TABLE,
    "RELU_0_TO_1": _TABLE,
    "ROUND": _TABLE,
    "SIGN": _TABLE,
    "SIN": _TABLE,
    # Prescribed output scale.
    "L2_NORMALIZATION": _fixed(2, 1 / 128, 0),
    "LOG_SOFTMAX": _fixed(2, 16 / 256, 127),
    "LOGISTIC": _fixed(2, 1 / 256, -128),
    "SOFTMAX": _fixed(2, 1 / 256, -128),
    "TANH": _fixed(2, 1 / 128, 0),
    # Reductions.
    "MEAN": Rule(2),
    "SUM": Rule(2),
    "REDUCE_MAX": _same(2),
    "REDUCE_MIN": _same(2),
    # Pooling and resizing.
    "AVERAGE_POOL_2D": _same(2),
    "MAX_POOL_2D": _same(2),
    "RESIZE_BILINEAR": _same(2),
    "RESIZE_NEAREST_NEIGHBOR": _same(2),
    # Moving values.
    "BATCH_TO_SPACE_ND": _same(2),
    "BROADCAST_TO": _same(3),
    "DEPTH_TO_SPACE": _same(2),
    "EXPAND_DIMS": _same(),
    "FILL": _same(3),
    "GATHER": _same(2),
    "GATHER_ND": _same(),
    "MIRROR_PAD": _same(2),
    "PAD": _same(2),
    "PADV2": _same(2),
    "RESHAPE": _same(),
    "REVERSE_V2": _same(3),
    "SLICE": _same(2),
    "SPACE_TO_BATCH_ND": _same(2),
    "SPACE_TO_DEPTH": _same(2),
    "SPLIT": _same(2),
    "SPLIT_V": _same(2),
    "SQUEEZE": _same(),
    "STRIDED_SLICE": _same(2),
    "TILE": _same(),  # version 3 names int8, which the kernel has always taken
    "TOPK_V2": _same(2),
    "TRANSPOSE": _same(2),
    "UNPACK": _same(2),
    # Joining values.
    "CONCATENATION": _shared(2),
    "DYNAMIC_UPDATE_SLICE": _shared(),
    "MAXIMUM": _shared(2),
    "MINIMUM": _shared(2),
    "PACK": _shared(2),
    "SELECT": _shared(2),
    "SELECT_V2": _shared(),
    # To integers and booleans.
    "ARG_MAX": Rule(2),
    "ARG_MIN": Rule(2),
    "EQUAL": Rule(2),
    "GREATER": Rule(2),
    "GREATER_EQUAL": Rule(2),
    "LESS": Rule(2),
    "LESS_EQUAL": Rule(2),
    "NOT_EQUAL": Rule(2),
    "RANK": Rule(1),
    "SHAPE": Rule(1),
    "CAST": Rule(1, Scaling.CAST),
}
"""Rule of every operator that takes part in an int8 model, by builtin name."""

COMPARISONS = ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL")
"""Operators whose int8 kernel takes the inputs' scales for fractions below one."""

INT16_VERSIONS: dict[str, int] = {
    # Weighted: int8 weights, int64 biases.
    "CONV_2D": 4,
    "DEPTHWISE_CONV_2D": 5,
    "FULLY_CONNECTED": 7,
    "TRANSPOSE_CONV": 3,
    "BATCH_MATMUL": 3,
    "ADD": 3,
    "SUB": 5,
    "MUL": 4,
    "ABS": 3,
    "EXP": 2,
    "LEAKY_RELU": 2,
    "LOG": 2,
    "RELU": 3,
    "RELU6": 3,
    "RSQRT": 3,
    "SQRT": 2,
    "LOGISTIC": 3,
    "SOFTMAX": 3,
    "TANH": 3,
    "MEAN": 3,
    "SUM": 2,
    "REDUCE_MAX": 3,
    "REDUCE_MIN": 3,
    "AVERAGE_POOL_2D": 3,
    "MAX_POOL_2D": 3,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "BATCH_TO_SPACE_ND": 4,
    "BROADCAST_TO": 3,
    "EXPAND_DIMS": 1,
    "FILL": 3,
    "GATHER": 4,
    "GATHER_ND": 3,
    "MIRROR_PAD": 3,
    "PAD": 3,
    "PADV2": 3,
    "RESHAPE": 1,
    "SLICE": 4,
    "SPACE_TO_BATCH_ND": 4,
    "SPLIT": 4,
    "SPLIT_V": 2,
    "SQUEEZE": 1,
    "STRIDED_SLICE": 4,
    "TRANSPOSE": 5,
    "UNPACK": 4,
    "CONCATENATION": 3,
    "DYNAMIC_UPDATE_SLICE": 4,
    "MAXIMUM": 4,
    "MINIMUM": 4,
    "PACK": 3,
    "SELECT": 1,
    "SELECT_V2": 1,
    "EQUAL": 5,
    "GELU": 2,
    "GREATER": 2,
    "GREATER_EQUAL": 3,
    "LESS": 3,
    "LESS_EQUAL": 2,
    "NOT_EQUAL": 4,
    "RANK": 1,
    "REVERSE_V2": 3,
    "SHAPE": 1,
    "TILE": 3,
    "TOPK_V2": 3,
}
"""Version of every operator whose kernel takes int16 activations."""

INT16_FIXED: dict[str, tuple[float, int]] = {
    "LOGISTIC": (1 / 32768, 0),
    "SOFTMAX": (1 / 32768, 0),
    "TANH": (1 / 32768, 0),
}
"""Prescribed scale and zero point of int16 outputs."""


def version(name: str, bits: int) -> int:
    """Return the lowest version of an operator that takes activations of 8 or 16 bits."""
    return INT16_VERSIONS[name] if bits == 16 else RULES[name].version


def fixed(name: str, bits: int) -> tuple[float, int] | None:
    """Return the prescribed scale and zero point of an operator's outputs."""
    if bits == 16:
        return INT16_FIXED.get(name)
    rule = RULES.get(name)
    return rule.fixed if rule is not None else None
