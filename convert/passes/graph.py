"""Small questions that passes ask of a graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeconv.core.artifacts import Array


def constant_of(value: ir.Value | None) -> Array | None:
    """Return the array of a constant value, or None."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def only_user(value: ir.Value) -> ir.Node | None:
    """Return the one node that reads a value, or None if it has others or is an output."""
    users = [use.node for use in value.uses()]
    return users[0] if len(users) == 1 and not value.is_graph_output() else None


def replace_constant(
    graph: ir.Graph, node: ir.Node, index: int, array: Array, purpose: str
) -> None:
    """Give a node a new constant input, named after its first output."""
    value = new_constant(graph, f"{node.outputs[0].name}.{purpose}", array)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def new_constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Add a constant to a graph."""
    value = ir.Value(
        name=name,
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        shape=ir.Shape(array.shape),
        const_value=ir.tensor(array, name=name),
    )
    graph.register_initializer(value)
    return value
