"""Recognise quantization that is simulated: QuantizeLinear and DequantizeLinear in a row.

On an activation the two become one FakeQuantize, whose range the integer model will have; on a
constant they become the constant that they make of it. Source: ONNX operator specification.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of
from edgeconv.convert.passes.pattern import produced_by, replace
from edgeconv.core.artifacts import Array

_SIMULATED = ("int8", "uint8")
_FOLDED = ("int8", "uint8", "int16", "uint16", "int32")


def fuse_quantization(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of places changed."""
    found = 0
    for node in list(graph):
        if node.op_type != "DequantizeLinear" or node.domain:
            continue
        found += _fold(graph, node) or _fuse(graph, node)
    return found


def _fold(graph: ir.Graph, dequantize: ir.Node) -> bool:
    """Replace the dequantization of a constant by the constant that it makes."""
    stored = _stored(dequantize.inputs[0])
    parameters = _parameters(dequantize)
    if stored is None or parameters is None or stored.dtype.name not in _FOLDED:
        return False
    scale, zero = _spread(dequantize, stored, parameters)
    if scale is None:
        return False
    array = ((stored.astype(np.float64) - zero) * scale).astype(np.float32)
    old = dequantize.outputs[0]
    name = old.name
    new = ir.Value(
        name=name,
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(array.shape),
        const_value=ir.tensor(array, name=name),
    )
    if old.is_graph_output():
        return False
    ir.convenience.replace_all_uses_with(old, new)
    graph.remove(dequantize, safe=True)
    graph.register_initializer(new)
    return True


def _stored(value: ir.Value | None) -> Array | None:
    """Return the integers of a constant, or of the quantization of one."""
    array = _constant(value)
    if array is not None:
        return array
    quantize = produced_by(value, "QuantizeLinear")
    reals = None if quantize is None else _constant(quantize.inputs[0])
    parameters = None if quantize is None else _parameters(quantize)
    if quantize is None or reals is None or parameters is None:
        return None
    scale, zero = _spread(quantize, reals, parameters)
    if scale is None:
        return None
    limits = np.iinfo(parameters[1].dtype)
    steps = np.rint(reals.astype(np.float32) / scale.astype(np.float32)) + zero
    return np.asarray(np.clip(steps, limits.min, limits.max), parameters[1].dtype)


def _constant(value: ir.Value | None) -> Array | None:
    """Return a constant, also one that exporters pass on through Identity."""
    while (identity := produced_by(value, "Identity")) is not None:
        value = identity.inputs[0]
    return constant_of(value)


def _fuse(graph: ir.Graph, dequantize: ir.Node) -> bool:
    """Replace the simulated quantization of an activation by one node."""
    quantize = produced_by(dequantize.inputs[0], "QuantizeLinear")
    if quantize is None or quantize.inputs[0] is None:
        return False
    first, second = _parameters(quantize), _parameters(dequantize)
    if first is None or second is None or first[0].size != 1 or first[1].size != 1:
        return False
    if any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True)):
        return False
    scale, zero = first
    if zero.dtype.name not in _SIMULATED:
        return False
    limits = np.iinfo(zero.dtype)
    step, offset = float(scale.item()), int(zero.item())
    low, high = step * (limits.min - offset), step * (limits.max - offset)
    attributes = [ir.AttrFloat32("low", low), ir.AttrFloat32("high", high)]
    replace(graph, dequantize.outputs[0], "FakeQuantize", [quantize.inputs[0]], attributes)
    if not quantize.outputs[0].uses() and not quantize.outputs[0].is_graph_output():
        graph.remove(quantize, safe=True)
    return True


def _parameters(node: ir.Node) -> tuple[Array, Array] | None:
    """Return the scale and the zero point of a node where both are constant."""
    scale = _constant(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None or scale.dtype != np.float32:
        return None
    if given is None:
        dtype = np.uint8 if node.op_type == "QuantizeLinear" else _dtype(node.inputs[0])
        return None if dtype is None else (scale, np.zeros(scale.shape, dtype))
    zero = _constant(given)
    return None if zero is None else (scale, zero)


def _dtype(value: ir.Value | None) -> np.dtype[np.generic] | None:
    return None if value is None or value.dtype is None else np.dtype(value.dtype.numpy())


def _spread(
    node: ir.Node, array: Array, parameters: tuple[Array, Array]
) -> tuple[Array | None, Array]:
    """Return scale and zero point in the array's rank; ``None`` where they are in blocks."""
    scale, zero = (item.astype(np.float64) for item in parameters)
    if scale.size == 1:
        return scale.reshape(()), zero.reshape(-1)[:1].reshape(())
    attribute = node.attributes.get("axis")
    axis = (1 if attribute is None else attribute.as_int()) % array.ndim
    if scale.ndim != 1 or scale.size != array.shape[axis]:
        return None, zero
    shape = [1] * array.ndim
    shape[axis] = -1
    return scale.reshape(shape), zero.reshape(shape)
