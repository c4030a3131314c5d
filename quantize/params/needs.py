"""Which part of an input's range can change an operator's int8 result.

Real numbers outside that part saturate to its ends without any effect, so that the input's scale
need not cover them: what RELU cuts off, where LOGISTIC is flat, what a mask of -1e9 adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.quantize.params.qparams import Range
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_INFINITY = math.inf

EVERYTHING = Range(-_INFINITY, _INFINITY)

View = tuple[int, Callable[[Array], Array]]
"""A tensor to look at, and what is to be made of its values."""

_UNARY: dict[str, Range] = {
    # The ends are within a quarter of the output's step of the limit: 1/1024 for LOGISTIC, 1/512
    # for TANH. ELU's and GELU's steps are at least 1/255 of their least values, -1 and -0.17.
    "ELU": Range(-7.0, _INFINITY),
    "GELU": Range(-4.0, _INFINITY),
    "HARD_SWISH": Range(-3.0, _INFINITY),
    "LOGISTIC": Range(-6.93, 6.93),
    "RELU": Range(0.0, _INFINITY),
    "RELU6": Range(0.0, 6.0),
    "RELU_0_TO_1": Range(0.0, 1.0),
    "RELU_N1_TO_1": Range(-1.0, 1.0),
    "TANH": Range(-3.47, 3.47),
}

_UNARY_16: dict[str, Range] = {
    # As above, with steps of 1/32768: saturated gates of recurrent layers must stay exact.
    "ELU": Range(-11.8, _INFINITY),
    "GELU": Range(-5.5, _INFINITY),
    "LOGISTIC": Range(-11.8, 11.8),
    "TANH": Range(-6.3, 6.3),
}
"""What is different for 16 bits."""

CHOOSING_HIGH = ("REDUCE_MAX", "ARG_MAX")
"""Operators to which only the order of low values matters."""

_HIDES_LOW = {"MAX_POOL_2D", "REDUCE_MAX", "ARG_MAX"}
_HIDES_HIGH = {"REDUCE_MIN", "ARG_MIN"}
"""Operators that ignore a low or a high padding value as long as there is another value."""

_SOFTMAX_MARGIN = 8.0
"""A whole row of values that far, and the logarithm of the row's length, below the largest adds
less than a tenth of SOFTMAX's output step, 1/256."""


_SWITCHING = 100.0
"""Factors beyond that scale nothing: they make of 0 and 1 what is seen and hidden."""

HIDDEN, _LOWEST = 5000.0, -1e30
"""A row that far below another, or below that number, is hidden by a mask: all may saturate."""

_GAP = 8.0
"""What a mask hides is that many times lower than all else is large."""

_BELOW = 1 / 64
"""So much of the width of what is seen, what is hidden lies below it: four steps of 8 bits."""


def unary_need(name: str, bits: int = 8) -> Range:
    """Return the part of its only input that an elementwise operator needs.

    Args:
        name: Builtin name of the operator.
        bits: 8 or 16, those of its result.
    """
    found = _UNARY_16.get(name) if bits == 16 else None
    return found or _UNARY.get(name, EVERYTHING)


def term_need(name: str, slot: int, output: Range, other: Range) -> Range:
    """Return the part of one term beyond which an ADD or SUB saturates, whatever the other is.

    Args:
        name: ``ADD`` or ``SUB``.
        slot: The term's input slot.
        output: Range of the result.
        other: Range of the other term.
    """
    if name == "ADD":
        return Range.of(output.low - other.high, output.high - other.low)
    if slot == 0:
        return Range.of(output.low + other.low, output.high + other.high)
    return Range.of(other.low - output.high, other.high - output.low)


def factor_need(output: Range, other_step: float) -> Range:
    """Return the part of one factor beyond which a MUL saturates: the other one is zero or a step.

    Args:
        output: Range of the result.
        other_step: Scale of the other factor.
    """
    peak = max(-output.low, output.high) / other_step
    return Range(-peak, peak)


def scaled_need(output: Range, factor: Array) -> Range:
    """Return the part of what is multiplied by a constant beyond which all products saturate.

    What a mask's -1e9 multiplies is all needed: it is a switch, whose zero must stay exactly that.

    Args:
        output: Range of the products.
        factor: The constant.
    """
    if np.abs(factor).max(initial=0) > _SWITCHING:
        return EVERYTHING
    found = Range(0.0, 0.0)
    for side in (factor[factor > 0], factor[factor < 0]):
        if side.size:
            least = float(side[np.abs(side).argmin()])
            ends = output.low / least, output.high / least
            found = found.join(Range.of(min(ends), max(ends)))
    return found


def softmax_view(operator: OperatorT) -> Callable[[Array], Array]:
    """Return what raises values to where SOFTMAX just turns them into zero, row by row."""
    beta: float = operator.builtinOptions.beta

    def raise_low(values: Array) -> Array:
        margin = (_SOFTMAX_MARGIN + math.log(values.shape[-1])) / beta
        largest = values.max(axis=-1, keepdims=True)
        raised = np.maximum(values, largest - np.float32(margin))
        hidden = largest < max(_LOWEST, values.max(initial=_LOWEST) - HIDDEN)
        seen: Array = np.where(hidden, np.float32(0), raised)
        return seen

    return raise_low


def hides(values: Array) -> bool:
    """Tell whether some of the values are so low beside the others that a mask hides them."""
    low = values <= -HIDDEN
    if not low.any():
        return False
    seen = values[~low]
    return bool(values[low].max() < -_GAP * np.abs(seen).max(initial=0))


def raise_hidden(values: Array) -> Array:
    """Put just below what is seen what a mask hides: all that a maximum needs to know of it."""
    if not hides(values):
        return values
    low = values <= -HIDDEN
    seen = values[~low]
    least, most = float(seen.min(initial=0)), float(seen.max(initial=0))
    raised: Array = np.where(low, np.float32(least - _BELOW * (most - least)), values)
    return raised


def pads(graph: Graph, operator: OperatorT, readers: Sequence[OperatorT]) -> list[float]:
    """Return the constant that a PADV2 pads with, unless its readers never let it through.

    Args:
        graph: The graph.
        operator: Any operator.
        readers: The operators that read its output.
    """
    if graph.op(operator) != "PADV2" or not graph.is_constant(operator.inputs[2]):
        return []
    value = float(graph.value(operator.inputs[2]).reshape(()))
    names = {graph.op(reader) for reader in readers}
    hidden = _HIDES_LOW if value < 0 else _HIDES_HIGH
    return [] if names and names <= hidden else [value]


def stored_range(graph: Graph, index: int) -> Range:
    """Return the range of a constant tensor."""
    value = graph.value(index)
    return Range.of(float(value.min(initial=0)), float(value.max(initial=0)))
