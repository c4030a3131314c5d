"""Bound both sides of a quotient of products, as in linear attention, by normalizing the rows.

Linear attention (Katharopoulos et al. 2020, "Transformers are RNNs") divides q (K V) by q (K 1):
how long a row of q is makes no difference to the quotient, but decides how large both sides are.
In 8 bits the rows of large products leave no steps to those of small ones. L2_NORMALIZATION of q
makes all rows equally long, and the quotient stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from ai_edge_litert.schema_py_generated import BuiltinOptions, L2NormOptionsT

from edgeconv.quantize.recovery.base import Candidate
from edgeconv.quantize.rewrite import quotient
from edgeconv.quantize.rewrite.quotient import Quotient
from edgeconv.quantize.rules.precision import Precision
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_VERSION = 2
"""The lowest of L2_NORMALIZATION that takes int8."""

_MOVING = ("RESHAPE", "SLICE", "STRIDED_SLICE", "SQUEEZE", "SPLIT", "SPLIT_V")
"""Operators that hand on values as they are, the rows in their order."""


class Quotients:
    """See the module."""

    name = "quotients"
    worth_db = 0.1
    slack_db = 0.0
    chooses_ranges = False

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield one candidate with the rows of all such quotients normalized."""
        factors = dict.fromkeys(
            rows
            for found in quotient.find(candidate.graph).values()
            if (rows := _rows(candidate.graph, found)) is not None
        )
        if factors:
            graph, precisions = candidate.graph.copy(), list(candidate.precisions)
            for rows in factors:
                _normalize(graph, precisions, rows)
            yield candidate.on(graph, precisions)


def _rows(graph: Graph, found: Quotient) -> int | None:
    """Return the factor whose rows both sides are proportional to, if nothing else reads it."""
    makers, readers = graph.producers(), graph.consumers()
    sides = [_product(graph, makers, index) for index in (found.dividend, found.divisor)]
    if any(side is None for side in sides):
        return None
    first, second = (side.inputs[0] for side in sides if side is not None)
    products = {id(side) for side in sides}
    shared = first == second and first not in graph.outputs
    return first if shared and {id(one) for one in readers[first]} == products else None


def _product(graph: Graph, makers: dict[int, OperatorT], index: int) -> OperatorT | None:
    """Return the BATCH_MATMUL whose values a tensor has, a small constant more at the most."""
    maker = makers.get(index)
    while maker is not None and graph.op(maker) != "BATCH_MATMUL":
        computed = [one for one in maker.inputs if graph.is_activation(one)]
        name = graph.op(maker)
        handed = name in _MOVING or (name in ("ADD", "MAXIMUM") and len(computed) == 1)
        maker = makers.get(computed[0]) if handed and len(computed) == 1 else None
    return None if maker is None or maker.builtinOptions.adjX else maker


def _normalize(graph: Graph, precisions: list[Precision], rows: int) -> None:
    """Put an L2_NORMALIZATION between a tensor and its readers, in place."""
    name = f"{graph.name(rows).partition(';')[0]}/normalized"
    made = graph.add_activation(name, graph.shape(rows), "float32")
    first = min(
        position for position, operator in enumerate(graph.operators) if rows in operator.inputs
    )
    for operator in graph.operators:
        operator.inputs = [made if index == rows else index for index in operator.inputs]
    options = (BuiltinOptions.L2NormOptions, L2NormOptionsT())
    new = graph.operator("L2_NORMALIZATION", _VERSION, (rows,), (made,), options)
    graph.operators.insert(first, new)
    precisions.insert(first, precisions[first])
