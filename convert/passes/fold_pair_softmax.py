"""Turn a softmax over pairs of channels into a sigmoid, the difference being in the weights.

Of two numbers a and b, softmax is sigmoid(a - b) and sigmoid(b - a). Attention over two branches
(Li et al. 2019, Selective Kernel Networks, section 3.1; Zhang et al. 2020, ResNeSt, section 3)
computes such pairs with one linear layer and splits its channels by a reshape. Each of its
filters gives way to its difference from the other one of the pair; no axis has to move last.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.channel_order import Order, rename
from edgeconv.convert.passes.graph import constant_of, only_user, replace_constant
from edgeconv.convert.passes.pattern import number_of

_REGROUPING = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_FIRST_OPSET_OVER_ONE_AXIS = 13
_MOST_ELEMENTS = 1 << 20


def fold_pair_softmax(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of softmaxes replaced."""
    if graph.opset_imports.get("", 1) < _FIRST_OPSET_OVER_ONE_AXIS:
        return 0
    return sum(node.op_type == "Softmax" and _fold(graph, node) for node in list(graph))


def _fold(graph: ir.Graph, softmax: ir.Node) -> bool:
    chain = _chain(softmax)
    shape = _sizes(softmax.inputs[0])
    if chain is None or not shape:
        return False
    axis = int(number_of(softmax, "axis", -1)) % len(shape)
    if shape[axis] != 2 or set(shape[axis + 1 :]) <= {1}:
        return False
    linear, *between = chain
    partners = _partners(linear, between, axis)
    if partners is None:
        return False
    for index in range(1, len(linear.inputs)):
        _subtract(graph, linear, index, partners)
    for node in chain:
        rename(node.outputs[0])
    softmax.op_type = "Sigmoid"
    softmax.attributes.clear()
    return True


def _chain(softmax: ir.Node) -> list[ir.Node] | None:
    """Return the nodes from a linear layer to a softmax that regroups its channels, or None."""
    found: list[ir.Node] = []
    value = softmax.inputs[0]
    reader = softmax
    while value is not None and only_user(value) is reader:
        node = value.producer()
        if node is None or node.domain or _sizes(value) is None:
            return None
        found.insert(0, node)
        if node.op_type not in _REGROUPING:
            return found if len(found) > 1 and _is_linear(node) else None
        value, reader = node.inputs[0], node
    return None


def _is_linear(node: ir.Node) -> bool:
    constants = [value is not None and constant_of(value) is not None for value in node.inputs[1:]]
    if node.op_type == "Conv":
        return all(constants) and number_of(node, "group", 1) == 1
    return node.op_type == "Gemm" and all(constants)


def _partners(linear: ir.Node, between: list[ir.Node], axis: int) -> Order | None:
    """Return for each channel the other one of its pair, or None where there are no such pairs."""
    sizes = _sizes(linear.outputs[0])
    if sizes is None or np.prod(sizes) > _MOST_ELEMENTS:
        return None
    start = np.arange(np.prod(sizes)).reshape(sizes)
    places = start
    for node in between:
        if node.op_type == "Transpose":
            order = node.attributes.get("perm")
            places = places.transpose(None if order is None else order.as_ints())
        else:
            places = places.reshape(_sizes(node.outputs[0]) or ())
    other = np.empty_like(start)
    other.ravel()[places.ravel()] = np.flip(places, axis).ravel()
    channel = np.indices(sizes)[1]
    partners: Order = channel.ravel()[other].swapaxes(0, 1).reshape(sizes[1], -1)[:, 0]
    same = start[:, partners] == other
    return partners if bool(np.all(same)) else None


def _subtract(graph: ir.Graph, linear: ir.Node, index: int, partners: Order) -> None:
    """Take from each filter, or bias, its partner's."""
    array = constant_of(linear.inputs[index])
    assert array is not None, "the layers found have constant weights"
    transposed = number_of(linear, "transB") != 0
    axis = 0 if linear.op_type == "Conv" or (index == 1 and transposed) else array.ndim - 1
    if array.ndim == 0 or array.shape[axis] == 1:
        difference = np.zeros_like(array)
    else:
        difference = array - np.take(array, partners, axis)
    replace_constant(graph, linear, index, difference, ("", "pair_weight", "pair_bias")[index])


def _sizes(value: ir.Value | None) -> tuple[int, ...] | None:
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(value.shape.numpy())
