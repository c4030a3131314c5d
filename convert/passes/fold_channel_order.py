"""Fold the channel order of a pixel shuffle into the convolution before it.

DepthToSpace in mode CRD is mode DCR after its channels are reordered; TFLite has DCR only. Where
the channels come from a convolution with constant weights, its filters are reordered instead.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of, only_user, replace_constant

_SAME_FOR_ALL_CHANNELS = frozenset(
    {"Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh"}
)


def fold_channel_order(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of orders folded."""
    return sum(node.op_type == "DepthToSpace" and _fold(graph, node) for node in list(graph))


def _fold(graph: ir.Graph, shuffle: ir.Node) -> bool:
    mode = shuffle.attributes.get("mode")
    conv = _convolution(shuffle)
    if mode is None or mode.as_string() != "CRD" or conv is None:
        return False
    weight = constant_of(conv.inputs[1])
    biased = len(conv.inputs) > 2 and conv.inputs[2] is not None
    bias = constant_of(conv.inputs[2]) if biased else None
    if weight is None or (biased and bias is None):
        return False
    block = shuffle.attributes["blocksize"].as_int() ** 2
    order = np.arange(weight.shape[0]).reshape(-1, block).T.ravel()
    replace_constant(graph, conv, 1, np.ascontiguousarray(weight[order]), "ordered_weight")
    if bias is not None:
        replace_constant(graph, conv, 2, bias[order], "ordered_bias")
    shuffle.attributes["mode"] = ir.AttrString("mode", "DCR")
    return True


def _convolution(node: ir.Node) -> ir.Node | None:
    """Return the convolution that a node reads, through functions alike for all channels."""
    source = node.inputs[0]
    producer = None if source is None else source.producer()
    if source is None or producer is None or only_user(source) is not node:
        return None
    if producer.op_type in _SAME_FOR_ALL_CHANNELS:
        return _convolution(producer)
    group = producer.attributes.get("group")
    alone = group is None or group.as_int() == 1
    return producer if producer.op_type == "Conv" and alone else None
