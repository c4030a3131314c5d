"""Fold a zero Pad over spatial axes into the convolution after it."""

from __future__ import annotations

import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of, only_user


def fold_pad(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of pads folded."""
    folded = 0
    for node in list(graph):
        if node.op_type == "Pad" and _fold(graph, node):
            folded += 1
    return folded


def _fold(graph: ir.Graph, pad: ir.Node) -> bool:
    conv = only_user(pad.outputs[0])
    amounts = _spatial_zero_pads(pad)
    if conv is None or conv.op_type != "Conv" or amounts is None:
        return False
    if conv.inputs[0] is not pad.outputs[0] or "pads" not in conv.attributes:
        own = [0] * len(amounts)
    else:
        own = list(conv.attributes["pads"].as_ints())
    auto = conv.attributes.get("auto_pad")
    if auto is not None and auto.as_string() not in ("NOTSET", "VALID"):
        return False
    if conv.inputs[0] is not pad.outputs[0] or len(own) != len(amounts):
        return False
    total = [a + b for a, b in zip(own, amounts, strict=True)]
    conv.attributes.pop("auto_pad", None)
    conv.attributes["pads"] = ir.AttrInt64s("pads", total)
    conv.replace_input_with(0, pad.inputs[0])
    graph.remove(pad, safe=True)
    return True


def _spatial_zero_pads(pad: ir.Node) -> list[int] | None:
    """Return the spatial amounts, starts then ends, or None where the pad does more."""
    mode = pad.attributes.get("mode")
    if mode is not None and mode.as_string() != "constant":
        return None
    if len(pad.inputs) < 2 or (len(pad.inputs) > 3 and pad.inputs[3] is not None):
        return None
    amounts = constant_of(pad.inputs[1])
    if amounts is None or amounts.size % 2 or amounts.size < 6 or amounts.min() < 0:
        return None
    if len(pad.inputs) > 2 and pad.inputs[2] is not None:
        fill = constant_of(pad.inputs[2])
        if fill is None or fill.item() != 0:
            return None
    rank = amounts.size // 2
    before, after = amounts[:rank].tolist(), amounts[rank:].tolist()
    if any((*before[:2], *after[:2])):
        return None
    return [*before[2:], *after[2:]]
