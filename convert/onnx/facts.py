"""What is known of the values of an ONNX file without running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeconv.convert.onnx.light import load_light
from edgeconv.convert.onnx.origin import module_of
from edgeconv.convert.onnx.tensors import is_external
from edgeconv.core.artifacts import Array

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto

UNARY = frozenset(
    """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh
    DequantizeLinear Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish HardTanh Identity IsInf
    IsNaN LeakyRelu Log Mish Neg Not PRelu QuantizeLinear Reciprocal Relu Round Selu Shrink
    Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu""".split()  # noqa: SIM905
)
"""Operators that work on each element of their first input alone."""

BINARY = frozenset(
    "Add And Div Equal Greater Less Max Mean Min Mod Mul Or Pow Sub Sum Xor".split()  # noqa: SIM905
)
"""Operators that work on the elements of all inputs at the same place."""

_STATIC = frozenset({"Shape", "Size"})
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike"}
)


@dataclass(slots=True)
class Facts:
    """An ONNX graph, by its values.

    Attributes:
        inputs: Names of the inputs.
        outputs: Names of the outputs, in order.
        nodes: The nodes in the file's order.
        constant: Values that no input has a part in.
        makers: The node that makes each value.
        shapes: Shapes as the file declares them.
        tensors: The constants that the file holds.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[NodeProto, ...]
    constant: set[str]
    makers: Mapping[str, NodeProto]
    shapes: Mapping[str, tuple[int, ...] | None]
    tensors: Mapping[str, TensorProto]

    def node(self, value: str) -> NodeProto | None:
        """Return the node that makes a value; ``None`` for inputs and initializers."""
        return self.makers.get(value)

    def shape(self, value: str) -> tuple[int, ...] | None:
        """Return the shape of one sample, an open batch being 1; ``None`` where it is not known."""
        tensor = self.tensors.get(value)
        return tuple(tensor.dims) if tensor is not None else self.shapes.get(value)

    def array(self, value: str) -> Array | None:
        """Return a constant's values; ``None`` where they are computed, or in another file."""
        import onnx

        tensor = self.tensors.get(value)
        if tensor is None or is_external(tensor):
            return None
        return np.asarray(onnx.numpy_helper.to_array(tensor))

    def integers(self, value: str) -> list[int] | None:
        """Return the values of a constant of integers; ``None`` where they are not known."""
        array = self.array(value) if value else None
        if array is None or array.dtype.kind not in "iu":
            return None
        return [int(item) for item in array.reshape(-1)]

    def elementwise(self, node: NodeProto) -> list[str]:
        """Return what a node reads, where it works on each element alone; nothing where not."""
        if node.op_type in UNARY:
            return [node.input[0]]
        return [name for name in node.input if name] if node.op_type in BINARY else []

    def is_constant(self, node: NodeProto) -> bool:
        """Tell whether a node computes from constants and known shapes alone."""
        if any(item.HasField("g") for item in node.attribute):
            return False
        if node.op_type in _STATIC and self.shape(node.input[0]) is not None:
            return True
        return node.op_type not in _RANDOM and all(
            name in self.constant for name in node.input if name
        )

    def made_by(self, node: NodeProto) -> str:
        """Return the last name of the module that a node is of, else its operator."""
        names = module_of(node).split(".")
        numbered = names[-1].isdigit()  # of a list of modules, which has the name
        return ".".join(names[-1 - numbered :]) or str(node.op_type)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Return the attributes of a node by name."""
    import onnx

    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def read_facts(path: Path) -> Facts:
    """Read the facts of an ONNX file that has been checked, the weights left where they are."""
    return facts_of(load_light(path).graph)


def facts_of(graph: GraphProto) -> Facts:
    """Return the facts of a graph."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        tensors.update(_constant(node))
    declared = (*graph.value_info, *graph.input, *graph.output)
    facts = Facts(
        inputs=tuple(value.name for value in graph.input if value.name not in tensors),
        outputs=tuple(value.name for value in graph.output),
        nodes=tuple(graph.node),
        constant=set(tensors),
        makers={name: node for node in graph.node for name in node.output if name},
        shapes={value.name: _shape(value) for value in declared},
        tensors=tensors,
    )
    for node in graph.node:
        if facts.is_constant(node):
            facts.constant.update(name for name in node.output if name)
    return facts


def _constant(node: NodeProto) -> Iterator[tuple[str, TensorProto]]:
    if node.op_type != "Constant":
        return
    for item in node.attribute:
        if item.name == "value":
            yield node.output[0], item.t
        elif item.name in ("value_int", "value_ints", "value_float", "value_floats"):
            import onnx

            value = onnx.helper.get_attribute_value(item)
            dtype = np.int64 if "int" in item.name else np.float32
            yield node.output[0], onnx.numpy_helper.from_array(np.asarray(value, dtype))


def _shape(value: ValueInfoProto) -> tuple[int, ...] | None:
    """Return the declared shape; an open first dimension is the batch, of one sample."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    sizes = [
        dim.dim_value if dim.HasField("dim_value") else None
        for dim in value.type.tensor_type.shape.dim
    ]
    if sizes and sizes[0] is None:
        sizes[0] = 1
    return None if None in sizes else tuple(int(size) for size in sizes if size is not None)


def simulates_quantization(path: Path) -> bool:
    """Tell whether an ONNX file computes with 8-bit steps, by QuantizeLinear."""
    return any(node.op_type == "QuantizeLinear" for node in load_light(path).graph.node)
