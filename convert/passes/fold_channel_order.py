"""Fold the channel order of a pixel shuffle into the convolution before it.

DepthToSpace in mode CRD is mode DCR after its channels are reordered; TFLite has DCR only. Where
the channels come from a convolution with constant weights, its filters are reordered instead.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.channel_order import makers, reorder_made
from edgeconv.convert.passes.graph import only_user


def fold_channel_order(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of orders folded."""
    return sum(node.op_type == "DepthToSpace" and _fold(graph, node) for node in list(graph))


def _fold(graph: ir.Graph, shuffle: ir.Node) -> bool:
    mode = shuffle.attributes.get("mode")
    source = shuffle.inputs[0]
    if mode is None or mode.as_string() != "CRD" or source is None:
        return False
    nodes = makers(source) if only_user(source) is shuffle else None
    if nodes is None or source.shape is None or not isinstance(source.shape[1], int):
        return False
    block = shuffle.attributes["blocksize"].as_int() ** 2
    order = np.arange(source.shape[1]).reshape(-1, block).T.ravel()
    reorder_made(graph, nodes, order)
    shuffle.attributes["mode"] = ir.AttrString("mode", "DCR")
    return True
