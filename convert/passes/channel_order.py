"""Put a permutation of channels into the weights on either side of a value.

A permutation is an array of channel numbers: place ``i`` holds channel ``order[i]`` afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of, only_user, replace_constant

Order = npt.NDArray[np.intp]

_SAME_FOR_ALL_CHANNELS = frozenset(
    {"Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh"}
)
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})


def makers(value: ir.Value) -> list[ir.Node] | None:
    """Return the nodes that must change with the order of a value's channels, or None.

    They lead from a convolution, whose filters may come in any order, to the value; the values
    between them have no other reader.
    """
    node = value.producer()
    if node is None:
        return None
    if _is_free(node) and _has_constant_weights(node):
        return [node]
    if not _keeps_channels(node):
        return None
    source = node.inputs[0]
    before = makers(source) if source is not None and only_user(source) is node else None
    return None if before is None else [*before, node]


def readers(value: ir.Value, others: frozenset[ir.Node] = frozenset()) -> list[ir.Node] | None:
    """Return the nodes that must change when a value's channels are reordered, or None.

    Every way from the value ends at a convolution that takes its channels in any order.

    Args:
        value: The value.
        others: Readers of the value that count for nothing.
    """
    found: list[ir.Node] = []
    if value.is_graph_output():
        return None
    for use in value.uses():
        node = use.node
        if node in others:
            continue
        if use.idx != 0:
            return None
        if _is_free(node) and constant_of(node.inputs[1]) is not None:
            found.append(node)
        elif _keeps_channels(node):
            rest = readers(node.outputs[0])
            if rest is None:
                return None
            found += [node, *rest]
        else:
            return None
    return found


def reorder_made(graph: ir.Graph, nodes: Sequence[ir.Node], order: Order) -> None:
    """Reorder the channels that `makers` found; values that hold others now get other names."""
    for node in nodes:
        if node.op_type == "Conv":
            _reorder_outputs(graph, node, order)
        rename(node.outputs[0])


def reorder_read(graph: ir.Graph, nodes: Sequence[ir.Node], order: Order) -> None:
    """Let the nodes that `readers` found take reordered channels."""
    for node in nodes:
        if _is_free(node):
            weight = constant_of(node.inputs[1])
            assert weight is not None, "readers have constant weights"
            taken = np.ascontiguousarray(weight[:, order])
            replace_constant(graph, node, 1, taken, "reordered_weight")
            continue
        if node.op_type == "Conv":
            _reorder_outputs(graph, node, order)
        rename(node.outputs[0])


def _reorder_outputs(graph: ir.Graph, conv: ir.Node, order: Order) -> None:
    weight, bias = constant_of(conv.inputs[1]), _bias(conv)
    assert weight is not None, "the convolutions found have constant weights"
    replace_constant(graph, conv, 1, np.ascontiguousarray(weight[order]), "ordered_weight")
    if bias is not None:
        array = constant_of(bias)
        assert array is not None, "the convolutions found have constant weights"
        replace_constant(graph, conv, 2, array[order], "ordered_bias")


def rename(value: ir.Value) -> None:
    """Name a value that is not the model's own any more."""
    value.name = f"{value.name}.ordered"


def _keeps_channels(node: ir.Node) -> bool:
    """Tell whether output channel i comes from input channel i, by weights that can follow."""
    if node.op_type == "Conv":
        return _is_depthwise(node) and _has_constant_weights(node)
    kinds = _SAME_FOR_ALL_CHANNELS | _POOLS
    return node.op_type in kinds and len(node.outputs) == 1


def _is_free(node: ir.Node) -> bool:
    """Tell whether a node is a convolution of all channels with all channels."""
    return node.op_type == "Conv" and not node.domain and _group(node) == 1


def _is_depthwise(node: ir.Node) -> bool:
    weight = constant_of(node.inputs[1])
    return weight is not None and weight.shape[:2] == (_group(node), 1)


def _group(node: ir.Node) -> int:
    group = node.attributes.get("group")
    return 1 if group is None else group.as_int()


def _bias(conv: ir.Node) -> ir.Value | None:
    return conv.inputs[2] if len(conv.inputs) > 2 else None


def _has_constant_weights(conv: ir.Node) -> bool:
    bias = _bias(conv)
    return constant_of(conv.inputs[1]) is not None and (
        bias is None or constant_of(bias) is not None
    )
