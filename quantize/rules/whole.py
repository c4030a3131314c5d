"""Which tensors hold whole multiples of one step, whatever goes in: whole numbers, halves, pixels.

What FLOOR, CEIL, ROUND and casts of integers make is whole; sums, products, limits and selections
of such, and of constants, have a step again. A scale that divides the step stores them exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.quantize.rules.table import RULES, Scaling
from edgeconv.tflite import file as tflite
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_Combine = Callable[[float | None, float | None], float | None]

_FINEST = 256
"""Constants are taken for multiples of 1/256 at the least."""

_FRACTION = 16
"""Two other steps have a common one if their ratio is a fraction with no larger denominator."""

_MOST_VALUES = 1 << 16
"""Of constants with more elements no step is looked for."""

_AVERAGING = ("AVERAGE_POOL_2D", "RESIZE_BILINEAR")
_ROUNDING = ("FLOOR", "CEIL", "ROUND", "SIGN", "FLOOR_DIV")
_KEEPING = ("ABS", "NEG", "RELU", "SUM", "QUANTIZE", "DEQUANTIZE")
_JOINING = ("ADD", "SUB", "ADD_N", "FLOOR_MOD")
_LIMITS = {"RELU6": 6.0, "RELU_N1_TO_1": 1.0, "RELU_0_TO_1": 1.0}
_FUSED = {0: 0.0, 1: 0.0, 2: 1.0, 3: 6.0}
"""Limits of the fused activations that keep a step: none, RELU, RELU_N1_TO_1, RELU6."""


def steps(graph: Graph) -> dict[int, float]:
    """Return the step of every float activation that has one; 0 where it is always zero.

    Args:
        graph: The float graph, lowered or not, with crossings between precisions or without.
    """
    return _Steps(graph).found


def common(first: float | None, second: float | None) -> float | None:
    """Return the largest step that both are multiples of, ``None`` if there is none."""
    if first is None or second is None:
        return None
    low, high = sorted((abs(first), abs(second)))
    if low == 0:
        return high
    if high / low > 1e9:
        return None
    ratio = Fraction(high / low).limit_denominator(_FRACTION)
    if abs(float(ratio) - high / low) > 1e-6 * high / low:
        return None
    return low / ratio.denominator


def step_of(values: Array) -> float | None:
    """Return the step of a constant's values: 0 where all are zero, ``None`` without one."""
    if values.size > _MOST_VALUES or not np.isfinite(values).all():
        return None
    different = np.unique(np.abs(values.astype(np.float64)))
    fine = different * _FINEST
    if different.max(initial=0) < 2**40 and (fine == np.rint(fine)).all():
        return float(np.gcd.reduce(fine.astype(np.int64), initial=0)) / _FINEST
    return _all(common, [0.0, *different.tolist()]) if different.size <= _FINEST else None


class _Steps:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.found: dict[int, float] = {}
        for operator in graph.operators:
            step = self._of(operator)
            if step is None:
                continue
            for index in filter(graph.is_activation, operator.outputs):
                self.found[index] = step

    def _of(self, operator: OperatorT) -> float | None:
        graph, name = self._graph, self._graph.op(operator)
        if name == "CAST":
            return None if graph.is_float(operator.inputs[0]) else 1.0
        if name in _ROUNDING:
            return 1.0
        inputs = [index for index in operator.inputs if graph.is_float(index)]
        if not inputs:
            return None
        found = self._combined(name, inputs)
        fused = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
        return common(found, _FUSED.get(fused))

    def _combined(self, name: str, inputs: list[int]) -> float | None:
        known = map(self._step, inputs)
        if name in _LIMITS:
            return common(next(known), _LIMITS[name])
        if name in (*_JOINING, *_KEEPING) or _moves(name):
            return _all(common, known)
        if name in ("MUL", "SQUARE", "SQUARED_DIFFERENCE"):
            factors = list(known) if name == "MUL" else [_all(common, known)] * 2
            return _all(_product, factors)
        return self._quotient(inputs) if name == "DIV" else None

    def _quotient(self, inputs: list[int]) -> float | None:
        """Return the step of what is divided by a constant."""
        dividend, divisor = inputs
        value = self._constant(divisor)
        if value is None or not value.all():
            return None
        return _product(self._step(dividend), step_of(1 / value.astype(np.float64)))

    def _step(self, index: int) -> float | None:
        value = self._constant(index)
        return self.found.get(index) if value is None else step_of(value)

    def _constant(self, index: int) -> Array | None:
        graph = self._graph
        if not graph.is_constant(index):
            return None
        return tflite.constant(graph.model, graph.tensors[index])


def _moves(name: str) -> bool:
    """Tell whether an operator copies, picks or limits values as they are."""
    rule = RULES.get(name)
    tied = rule is not None and rule.scaling in (Scaling.SAME, Scaling.SHARED)
    return tied and name not in _AVERAGING


def _product(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first * second


def _all(combine: _Combine, known: Iterable[float | None]) -> float | None:
    return functools.reduce(combine, known)
