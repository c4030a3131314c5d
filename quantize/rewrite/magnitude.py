"""Functions of a sum of two squares, such as the magnitudes of a spectrum, as one table.

Eight bits hold a square with half of its dynamic range: whatever is below a sixteenth of the
largest value becomes zero, and a root does not bring it back. So the squares of the stored integers
are added as int32, without any rounding, and the sum gathers the result from a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert.schema_py_generated import (
    AddOptionsT,
    BuiltinOptions,
    GatherOptionsT,
    MulOptionsT,
)

from edgeconv.core.artifacts import Array
from edgeconv.quantize.params.qparams import QuantParams
from edgeconv.quantize.rewrite import casts
from edgeconv.quantize.rules.precision import Precision
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

Function = Callable[[Array], Array]

_NAMED = 8
"""As many operators are named in a note."""

_LAST: dict[str, Function] = {
    "LOG": np.log,
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "SQRT": np.sqrt,
}
_BETWEEN: dict[str, Callable[[Array, float], Array]] = {
    "ADD": np.add,
    "MAXIMUM": np.maximum,
    "MUL": np.multiply,
}


@dataclass(frozen=True, slots=True)
class Magnitude:
    """A function of a sum of squares in a float graph.

    Attributes:
        parts: The two tensors that are squared.
        function: What is applied to the sum, elementwise over float64.
        absorbed: The operators before the last one that nothing else needs.
    """

    parts: tuple[int, int]
    function: Function
    absorbed: tuple[OperatorT, ...]


def find(graph: Graph) -> dict[int, Magnitude]:
    """Return what there is of them in a lowered float graph, by the last operator's output."""
    makers, readers = graph.producers(), graph.consumers()
    found = {}
    for operator in graph.operators:
        if graph.op(operator) in (*_LAST, "POW"):
            magnitude = _match(graph, operator, makers)
            if magnitude is not None and _private(graph, magnitude, readers):
                found[operator.outputs[0]] = magnitude
    return found


def _match(graph: Graph, last: OperatorT, makers: dict[int, OperatorT]) -> Magnitude | None:
    step = _step(graph, last)
    functions: list[Function] = []
    absorbed: list[OperatorT] = []
    while step is not None:
        source, function = step
        functions.insert(0, function)
        maker = makers.get(source)
        if maker is None:
            return None
        absorbed.append(maker)
        squares = [makers.get(index) for index in maker.inputs]
        first, *rest = (_squared(graph, square) for square in squares)
        if graph.op(maker) == "ADD" and first >= 0 and rest and rest[0] >= 0:
            same = graph.shape(first) == graph.shape(rest[0])
            absorbed += [square for square in squares if square is not None]
            chain = _chain(functions)
            return Magnitude((first, rest[0]), chain, tuple(absorbed)) if same else None
        step = _step(graph, maker) if graph.op(maker) in _BETWEEN else None
    return None


def _chain(functions: list[Function]) -> Function:
    def compute(values: Array) -> Array:
        for function in functions:
            values = function(values)
        return values

    return compute


def _step(graph: Graph, operator: OperatorT) -> tuple[int, Function] | None:
    """Return the only computed input of an operator and what it does to it."""
    name = graph.op(operator)
    if name in _LAST:
        return operator.inputs[0], _LAST[name]
    constants = [index for index in operator.inputs if graph.is_constant(index)]
    if len(constants) != 1 or graph.value(constants[0]).size != 1:
        return None
    value = float(graph.value(constants[0]).reshape(()))
    source = next(index for index in operator.inputs if index != constants[0])
    if name == "POW":
        return (source, lambda x: x**value) if source == operator.inputs[0] else None
    if getattr(operator.builtinOptions, "fusedActivationFunction", 0):
        return None
    compute = _BETWEEN[name]
    return source, lambda x: compute(x, value)


def _squared(graph: Graph, operator: OperatorT | None) -> int:
    """Return what an operator squares, -1 if it does not."""
    if operator is None or graph.op(operator) != "MUL" or len({*operator.inputs}) != 1:
        return -1
    return -1 if operator.builtinOptions.fusedActivationFunction else operator.inputs[0]


def _private(graph: Graph, found: Magnitude, readers: dict[int, list[OperatorT]]) -> bool:
    """Tell whether nothing else reads what is absorbed."""
    made = [operator.outputs[0] for operator in found.absorbed]
    return not any(index in graph.outputs or len(readers[index]) != 1 for index in made)


def in_float(graph: Graph, precisions: Sequence[Precision]) -> tuple[list[Precision], list[str]]:
    """Keep such functions in float that would have 16 bits throughout.

    Sixteen bits hold a square with half of its dynamic range, too, and int32 sums of their squares
    are too many for a table.

    Args:
        graph: A lowered float graph.
        precisions: The precision of each operator.

    Returns:
        The precision of each operator, and a note if that is another one.
    """
    positions = {id(operator): place for place, operator in enumerate(graph.operators)}
    makers = graph.producers()
    changed, names = list(precisions), []
    for output, found in find(graph).items():
        places = [positions[id(one)] for one in (*found.absorbed, makers[output])]
        if all(precisions[place] == "int16" for place in places):
            for place in places:
                changed[place] = "float"
            names.append(graph.name(output).partition(";")[0])
    if not names:
        return changed, []
    what = "roots and logarithms of sums of two squares compute in float32"
    first = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return changed, [f"{what}, for int16 holds a square with half of its range: {first}"]


def lookup(
    graph: Graph,
    parts: tuple[int, int],
    common: QuantParams,
    found: Magnitude,
    output: int,
    to: QuantParams,
) -> list[OperatorT]:
    """Return the operators that compute it from two int8 tensors of a common scale.

    Args:
        graph: The graph under rewriting.
        parts: The int8 tensors.
        common: Their scale and zero point.
        found: What is computed.
        output: The int8 tensor that receives the result.
        to: Its scale and zero point.
    """
    name, shape = graph.name(output), graph.shape(output)
    operators: list[OperatorT] = []

    def step(kind: str, label: str, inputs: tuple[int, ...]) -> int:
        made = graph.add_activation(f"{name}/{label}", shape, "int32")
        options = MulOptionsT() if kind == "MUL" else AddOptionsT()
        code = getattr(BuiltinOptions, f"{kind.capitalize()}Options")
        operators.append(graph.operator(kind, 1, inputs, (made,), (code, options)))
        return made

    squares = []
    for label, part in zip(("first", "second"), parts, strict=True):
        wide = graph.add_activation(f"{name}/{label}", graph.shape(part), "int32")
        operators.append(casts.cast(graph, part, wide, ("int8", "int32"), 3))
        if common.zero_point:
            zero = np.array(-common.zero_point, np.int32)
            offset = graph.add_constant(f"{name}/{label}/offset", zero)
            wide = step("ADD", f"{label}/centred", (wide, offset))
        squares.append(step("MUL", f"{label}/square", (wide, wide)))
    total = step("ADD", "sum", (squares[0], squares[1]))
    values = graph.add_constant(f"{name}/table", table(common, found.function, to))
    options = (BuiltinOptions.GatherOptions, GatherOptionsT())
    return [*operators, graph.operator("GATHER", 2, (values, total), (output,), options)]


def table(common: QuantParams, function: Function, to: QuantParams) -> Array:
    """Return the int8 result for every sum of two squared integers; undefined ones saturate."""
    stored = np.iinfo(common.dtype)
    largest = max(stored.max - common.zero_point, common.zero_point - stored.min)
    sums = np.arange(2 * largest**2 + 1) * common.scale**2
    with np.errstate(all="ignore"):
        results = np.asarray(function(sums), np.float64)
    limits = to.limits
    return to.quantize(np.nan_to_num(results, nan=0.0, posinf=limits.high, neginf=limits.low))
