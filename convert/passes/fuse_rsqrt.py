"""Multiply by the inverse of a root instead of dividing by the root.

Normalisations that are written out, LayerNorm (Ba et al. 2016, section 3) and RMSNorm (Zhang and
Sennrich 2019, section 4), divide each row by a root. One RSQRT of the small value and a product
take the place of SQRT, reciprocal and product, or of a division of the large one.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.graph import new_constant, only_user
from edgeconv.convert.passes.pattern import produced_by


def fuse_rsqrt(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of roots inverted."""
    return sum(_fuse(graph, node) for node in list(graph) if node.op_type in ("Div", "Reciprocal"))


def _fuse(graph: ir.Graph, node: ir.Node) -> bool:
    divisor = node.inputs[-1]
    root = None if node.domain else produced_by(divisor, "Sqrt")
    if root is None or divisor is None or only_user(divisor) is not node:
        return False
    if divisor.dtype != ir.DataType.FLOAT or root.inputs[0] is None:
        return False
    exponent = new_constant(graph, f"{divisor.name}.exponent", np.array(-0.5, np.float32))
    inverse = ir.node("Pow", [root.inputs[0], exponent], name=f"{node.name}.rsqrt")
    inverse.outputs[0].name = f"{node.outputs[0].name}.rsqrt"
    inverse.outputs[0].type, inverse.outputs[0].shape = divisor.type, divisor.shape
    graph.insert_before(root, inverse)
    if node.op_type == "Reciprocal":
        old, new = node.outputs[0], inverse.outputs[0]
        name = str(old.name)
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        graph.remove([node, root], safe=True)
        new.name = name
        return True
    node.op_type = "Mul"
    node.replace_input_with(1, inverse.outputs[0])
    graph.remove(root, safe=True)
    return True
