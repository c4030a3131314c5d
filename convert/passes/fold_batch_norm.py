"""Fold a BatchNormalization into the convolution before it.

Source: Ioffe and Szegedy 2015, section 3.1: at inference the normalisation is an affine map per
channel, which a convolution with constant weights absorbs.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of, only_user, replace_constant
from edgeconv.core.artifacts import Array

_FOLDABLE = {"Conv": 0, "ConvTranspose": 1}  # weight axis of the output channels per group


def fold_batch_norm(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of normalisations folded."""
    folded = 0
    for node in list(graph):
        if node.op_type == "BatchNormalization" and _fold(graph, node):
            folded += 1
    return folded


def _fold(graph: ir.Graph, norm: ir.Node) -> bool:
    source = norm.inputs[0]
    conv = source.producer() if source is not None else None
    if conv is None or conv.op_type not in _FOLDABLE or only_user(conv.outputs[0]) is not norm:
        return False
    parameters = [constant_of(value) for value in norm.inputs[1:5]]
    weight = constant_of(conv.inputs[1])
    biased = len(conv.inputs) > 2 and conv.inputs[2] is not None
    bias = constant_of(conv.inputs[2]) if biased else np.zeros(1, np.float32)
    known = [array for array in (*parameters, weight, bias) if array is not None]
    training = norm.attributes.get("training_mode")
    if len(known) < 6 or (training is not None and training.value):
        return False
    scale, shift, mean, variance, weight, bias = (array.astype(np.float64) for array in known)
    epsilon = norm.attributes.get("epsilon")
    factor = scale / np.sqrt(variance + (1e-5 if epsilon is None else float(epsilon.value)))
    group = conv.attributes.get("group")
    scaled = _scale_weight(conv.op_type, weight, factor, 1 if group is None else int(group.value))
    replace_constant(graph, conv, 1, scaled.astype(np.float32), "folded_weight")
    offset = (shift + (bias - mean) * factor).astype(np.float32)
    replace_constant(graph, conv, 2, offset, "folded_bias")
    ir.convenience.replace_all_uses_with(
        norm.outputs[0], conv.outputs[0], replace_graph_outputs=True
    )
    conv.outputs[0].name = norm.outputs[0].name
    graph.remove(norm, safe=True)
    return True


def _scale_weight(kind: str, weight: Array, factor: Array, group: int) -> Array:
    """Scale output channels: w is [M, C/g, ...] for Conv, [C, M/g, ...] for ConvTranspose."""
    tail = (1,) * (weight.ndim - 2)
    if kind == "Conv":
        scaled: Array = weight * factor.reshape(-1, 1, *tail)
        return scaled
    grouped = weight.reshape(group, -1, *weight.shape[1:])
    return (grouped * factor.reshape(group, 1, -1, *tail)).reshape(weight.shape)
