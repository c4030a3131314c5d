"""What a rewrite is, and the hand tools that rewrites share.

A rewrite turns operators of a float TFLite graph that the Edge TPU does not take into ones that it
does, computing the same. It runs before quantization, so that calibration sees the new tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeconv.core.artifacts import Array
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

NONE = schema.ActivationFunctionType.NONE
RELU = schema.ActivationFunctionType.RELU
RELU6 = schema.ActivationFunctionType.RELU6
VALID = schema.Padding.VALID


class Site:
    """An operator under rewriting, and what replaces it.

    Attributes:
        graph: The float graph.
        operator: The operator.
        made: The operators that were emitted so far, in order.
    """

    def __init__(self, graph: Graph, operator: OperatorT) -> None:
        self.graph = graph
        self.operator = operator
        self.made: list[OperatorT] = []

    @property
    def options(self) -> Any:
        """The operator's own options."""
        return self.operator.builtinOptions

    @property
    def inputs(self) -> list[int]:
        """Tensor indices of its inputs."""
        inputs: list[int] = self.operator.inputs
        return inputs

    @property
    def output(self) -> int:
        """Tensor index of its first output."""
        index: int = self.operator.outputs[0]
        return index

    def shape(self, index: int) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self.graph.shape(index)

    def constant(self, value: Any, dtype: str = "float32") -> int:
        """Return a new constant tensor."""
        return self.graph.add_constant(self._name("constant"), np.asarray(value, dtype))

    def emit(
        self,
        builtin: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: str = "",
        *,
        out: int | None = None,
        version: int = 1,
        **fields: Any,
    ) -> int:
        """Emit an operator with one float32 output, and return that.

        Args:
            builtin: Builtin name.
            inputs: Tensor indices.
            shape: Shape of the output.
            options: Name of the schema's options table, ``"MulOptions"``.
            out: An existing tensor that receives the output.
            version: Operator version.
            fields: Fields of the options.
        """
        if out is None:
            out = self.graph.add_activation(self._name(builtin.lower()), shape, "float32")
        self.made.append(
            self.graph.operator(builtin, version, inputs, (out,), make_options(options, **fields))
        )
        return out

    def binary(
        self, builtin: str, left: int, right: int, *, out: int | None = None, activation: int = NONE
    ) -> int:
        """Emit ADD, SUB, MUL, MAXIMUM or MINIMUM with broadcasting."""
        shape = np.broadcast_shapes(self.shape(left), self.shape(right))
        if builtin in ("MAXIMUM", "MINIMUM"):
            return self.emit(builtin, (left, right), shape, "MaximumMinimumOptions", out=out)
        table = f"{builtin.capitalize()}Options"
        return self.emit(
            builtin, (left, right), shape, table, out=out, fusedActivationFunction=activation
        )

    def unary(self, builtin: str, source: int, *, out: int | None = None) -> int:
        """Emit an elementwise operator without options."""
        return self.emit(builtin, (source,), self.shape(source), out=out)

    def reshape(self, source: int, shape: Sequence[int], *, out: int | None = None) -> int:
        """Emit a RESHAPE."""
        target = self.constant(shape, "int32")
        new_shape = np.asarray(shape, np.int32)
        return self.emit(
            "RESHAPE", (source, target), shape, "ReshapeOptions", out=out, newShape=new_shape
        )

    def cut(self, source: int, axis: int, start: int, stop: int, *, out: int | None = None) -> int:
        """Emit a STRIDED_SLICE of stride 1 along one axis."""
        shape = list(self.shape(source))
        starts, stops = [0] * len(shape), list(shape)
        starts[axis], stops[axis] = start, stop
        shape[axis] = stop - start
        operands = (source, *(self.constant(v, "int32") for v in (starts, stops, [1] * len(shape))))
        return self.emit("STRIDED_SLICE", operands, shape, "StridedSliceOptions", out=out)

    def concat(self, parts: Sequence[int], axis: int, *, out: int | None = None) -> int:
        """Emit a CONCATENATION."""
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        return self.emit("CONCATENATION", parts, shape, "ConcatenationOptions", out=out, axis=axis)

    def conv(
        self, source: int, weight: int, bias: int, *, out: int | None = None, activation: int = NONE
    ) -> int:
        """Emit a 1x1 convolution of [1, H, W, C] with weights [outputs, 1, 1, C]."""
        shape = (*self.shape(source)[:3], self.shape(weight)[0])
        return self.emit(
            "CONV_2D", (source, weight, bias), shape, "Conv2DOptions", out=out,
            padding=VALID, strideH=1, strideW=1, fusedActivationFunction=activation,
        )  # fmt: skip

    def _name(self, suffix: str) -> str:
        return f"{self.graph.label(self.operator)}/{suffix}_{len(self.graph.tensors)}"


def make_options(table: str, **fields: Any) -> tuple[int, Any] | None:
    """Return the code of an options table and its object; ``None`` for no table."""
    if not table:
        return None
    options = getattr(schema, f"{table}T")()
    for name, value in fields.items():
        if not hasattr(options, name):
            raise AttributeError(f"{table} has no field {name}")
        setattr(options, name, value)
    return getattr(schema.BuiltinOptions, table), options


def values(graph: Graph, index: int) -> Array | None:
    """Return a constant's value, ``None`` where the tensor is computed."""
    return graph.value(index) if graph.is_constant(index) else None


Change = Callable[[Site], bool | None]
"""Emits what replaces an operator and returns True, or leaves it as it is and returns None."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A named rewrite of single operators.

    Attributes:
        name: What reports call it.
        operators: Builtin names of the operators that it looks at.
        change: Rewrites one of them.
        why: What the Edge TPU or its compiler has against them.
        error: For a rewrite that does not compute exactly the same: how far it is off.
    """

    name: str
    operators: tuple[str, ...]
    change: Change
    why: str
    error: str = ""

    def run(self, graph: Graph) -> list[str]:
        """Rewrite a graph in place.

        Returns:
            The outputs of the operators that were replaced.
        """
        operators: list[OperatorT] = []
        changed: list[str] = []
        for operator in graph.operators:
            site = Site(graph, operator)
            concerned = graph.op(operator) in self.operators and is_float(graph, operator)
            if concerned and self.change(site):
                changed.append(graph.label(operator))
                operators += site.made
            else:
                operators.append(operator)
        graph.subgraph.operators = operators
        return changed


@dataclass(frozen=True, slots=True)
class GraphRewrite:
    """A named rewrite of patterns; see `Rewrite`."""

    name: str
    change: Callable[[Graph], list[str]]
    why: str
    error: str = field(default="")

    def run(self, graph: Graph) -> list[str]:
        """Rewrite a graph in place; see `Rewrite.run`."""
        return self.change(graph)


def is_float(graph: Graph, operator: OperatorT) -> bool:
    """Tell whether an operator's first output is a float32 activation."""
    return bool(operator.outputs) and graph.is_float(operator.outputs[0])
