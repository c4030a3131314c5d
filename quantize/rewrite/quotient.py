"""Quotients of two computed tensors, without a reciprocal of 8 bits.

LiteRT divides int32, uint8 and float32, not int8. A reciprocal has a far larger range than what it
is the reciprocal of: in 8 bits, one divisor near zero leaves nothing of all others. So a table of
256 reciprocals has 16 bits, and only the quotient is rounded to 8: CAST, ADD and GATHER for the
divisor, QUANTIZE for the dividend, MUL, QUANTIZE. What goes in and comes out is int8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.quantize.params.qparams import INT16_MAX, QuantParams
from edgeconv.quantize.rewrite import tables
from edgeconv.quantize.rewrite.edges import QUANTIZE_VERSION
from edgeconv.quantize.rules.table import version
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_FINER = 64
"""Steps of the 16-bit quotient in an 8-bit one, of which it holds 255 on both sides of zero."""


@dataclass(frozen=True, slots=True)
class Quotient:
    """A division in a float graph, lowered to a product with a reciprocal.

    Attributes:
        dividend: The tensor that is divided.
        divisor: By what.
        absorbed: The operator that makes the reciprocal, which nothing else reads.
    """

    dividend: int
    divisor: int
    absorbed: OperatorT


def find(graph: Graph) -> dict[int, Quotient]:
    """Return the quotients of a lowered float graph, by the result's tensor."""
    makers, readers = graph.producers(), graph.consumers()
    found = {}
    for operator in graph.operators:
        if graph.op(operator) != "MUL":
            continue
        for slot, index in enumerate(operator.inputs):
            maker, dividend = makers.get(index), operator.inputs[1 - slot]
            private = index not in graph.outputs and readers[index] == [operator]
            computed = index != dividend and graph.is_activation(dividend)
            if maker is not None and private and computed and _inverts(graph, maker):
                found[operator.outputs[0]] = Quotient(dividend, maker.inputs[0], maker)
    return found


def _inverts(graph: Graph, operator: OperatorT) -> bool:
    if graph.op(operator) != "POW" or not graph.is_constant(operator.inputs[1]):
        return False
    exponent = graph.value(operator.inputs[1])
    return graph.is_activation(operator.inputs[0]) and bool((exponent == -1).all())


def divide(
    graph: Graph, operator: OperatorT, found: Quotient, affine: Mapping[int, QuantParams]
) -> Iterator[OperatorT]:
    """Yield the operators that compute a quotient of two int8 tensors.

    Args:
        graph: The graph under rewriting.
        operator: The product with the reciprocal, which is changed.
        found: What is divided.
        affine: Scale and zero point of the int8 dividend, divisor and result.
    """
    (output,) = operator.outputs
    values, inverse = reciprocals(affine[found.divisor])
    # 8 bits with the zero point taken off: exact.
    wide = QuantParams(affine[found.dividend].scale, 0, 16)
    fine = QuantParams(float(np.float32(affine[output].scale / _FINER)), 0, 16)
    like = {"dividend": (found.dividend, wide), "reciprocal": (found.divisor, inverse)}
    like["quotient"] = (output, fine)
    left, right, product = (
        graph.add_activation(
            f"{graph.name(output)}/{label}", graph.shape(index), "int16", form.stored()
        )
        for label, (index, form) in like.items()
    )
    operator.inputs, operator.outputs = [left, right], [product]
    graph.set_version(operator, version("MUL", 16))
    casting = QUANTIZE_VERSION[16]
    yield from tables.lookup(graph, found.divisor, values, right)
    yield graph.operator("QUANTIZE", casting, (found.dividend,), (left,))
    yield operator
    yield graph.operator("QUANTIZE", casting, (product,), (output,))


def reciprocals(divisor: QuantParams) -> tuple[Array, QuantParams]:
    """Return the 256 int16 reciprocals of an int8 tensor's values, and their scale.

    What is rounded to zero lies within half a step of it: its reciprocal is that of half a step,
    with the sign of the longer side of the range.

    Args:
        divisor: The int8 tensor's scale and zero point.
    """
    codes = np.arange(-128, 128)
    limits = divisor.limits
    half = divisor.scale / 2 * (1 if limits.high >= -limits.low else -1)
    exact = 1 / np.where(codes == divisor.zero_point, half, divisor.dequantize(codes))
    scale = QuantParams(float(np.float32(np.abs(exact).max() / INT16_MAX)), 0, 16)
    return scale.quantize(exact), scale
