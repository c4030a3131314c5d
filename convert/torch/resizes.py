"""Let an exported ONNX file resize as PyTorch does.

PyTorch multiplies by the reciprocal of a factor where ONNX's runtimes divide by the factor, and
takes the size of the result in float64 where they take it in float32: of common factors and sizes
one in twenty picks another nearest element, or makes one more. The exporter also drops the factors
of antialiased resizing. PyTorch itself is asked here which elements it takes, and what differs in
the file is written as what it is: a choice of elements, or a product with the matrix of an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeconv.convert.translate.interpolation import (
    Interpolation,
    Resizing,
    nearest_elements,
    weights,
)
from edgeconv.core.artifacts import Array

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch.export import ExportedProgram
    from torch.fx import Node

_SAME_WEIGHT = 1e-4  # far above what float32 costs, far below what another factor changes
_LARGEST = 2048  # elements of an axis up to which PyTorch is asked


def as_torch(model: ir.Model, program: ExportedProgram) -> None:
    """Replace each Resize of a file that differs from the call that it was made from.

    Args:
        model: What the exporter made; changed in place. Its values have the names of the nodes.
        program: The program that it was made from, decomposed as the file is.
    """
    calls = {node.name: node for node in program.graph.nodes if "upsample_" in str(node.target)}
    for resize in list(model.graph):
        name = resize.outputs[0].name
        if resize.op_type == "Resize" and name in calls:
            axes = _axes(resize, calls[name])
            if any(axis.differs for axis in axes):
                _replace(model.graph, resize, axes)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One spatial axis of a resize.

    Attributes:
        place: Its place among all axes.
        nearest: Whether each element of the result is one of the input.
        torch: The matrix [out, in] that PyTorch multiplies by, float32.
        onnx: The one that the file states.
    """

    place: int
    nearest: bool
    torch: Array
    onnx: Array

    @property
    def differs(self) -> bool:
        """Tell whether the file computes something else than PyTorch."""
        if self.torch.shape != self.onnx.shape:
            return True
        return bool(np.abs(self.torch - self.onnx).max(initial=0) > _SAME_WEIGHT)


def _axes(resize: ir.Node, call: Node) -> list[_Axis]:
    """Return the spatial axes; nothing where one of them is open or too long to ask for."""
    source = call.all_input_nodes[0].meta["val"].shape
    result = call.meta["val"].shape
    how = Interpolation(
        mode=_attribute(resize, "mode", "nearest"),
        coordinates=_attribute(resize, "coordinate_transformation_mode", "half_pixel"),
        nearest_mode=_attribute(resize, "nearest_mode", "round_prefer_floor"),
        cubic_coeff_a=_attribute(resize, "cubic_coeff_a", -0.75),
        antialias=bool(_attribute(resize, "antialias", 0)),
        exclude_outside=bool(_attribute(resize, "exclude_outside", 0)),
    )
    sizes = [*source[2:], *result[2:]]
    if not all(isinstance(size, int) and size <= _LARGEST for size in sizes):
        return []
    stated, found = _stated(resize, len(source)), []
    for place in range(2, len(source)):
        size = source[place]
        scale, wanted = stated[place]
        axis = Resizing.by_scale(size, scale) if wanted is None else Resizing.by_size(size, wanted)
        torch_matrix = _torch_matrix(call, place - 2, size, len(source) - 2)
        nearest = how.mode == "nearest"
        onnx = np.eye(size)[nearest_elements(axis, how)] if nearest else weights(axis, how)
        found.append(_Axis(place, nearest, torch_matrix, onnx))
    return found


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    found = node.attributes.get(name)
    return default if found is None else found.value


def _stated(resize: ir.Node, rank: int) -> list[tuple[float, int | None]]:
    """Return for each axis the factor, or the size instead of it."""
    scales, sizes = (_constant(resize, place) for place in (2, 3))
    if sizes is not None and sizes.size:
        return [(0.0, int(size)) for size in sizes]
    return [(float(scale), None) for scale in ([1.0] * rank if scales is None else scales)]


def _constant(node: ir.Node, place: int) -> Array | None:
    value = node.inputs[place] if place < len(node.inputs) else None
    return None if value is None or value.const_value is None else value.const_value.numpy()


def _torch_matrix(call: Node, axis: int, size: int, axes: int) -> Array:
    """Return what PyTorch makes of the unit vectors along one axis, [out, in]."""
    import torch

    names = [argument.name for argument in call.target._schema.arguments]  # type: ignore[union-attr]
    given = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
    given.pop(names[0])
    other = (axis + 1) % axes  # numbers the vectors, where there is one: it stays as it is
    sizes = [size if place in (axis, other) else 1 for place in range(axes)]
    for name, kept in (("output_size", sizes), ("scale_factors", [1.0] * axes)):
        if given.get(name) is not None:
            given[name] = [*kept[:axis], given[name][axis], *kept[axis + 1 :]]
    for place, name in enumerate(_FACTORS[axes]):  # one argument each
        if place != axis and given.get(name) is not None:
            given[name] = 1.0
    vectors = torch.eye(size).reshape(1, size if axes == 1 else 1, *sizes)
    with torch.no_grad():
        y = call.target(vectors, **given)  # type: ignore[operator]
    y = y.reshape(size, -1) if axes == 1 or other < axis else y.reshape(-1, size).T
    found: Array = y.numpy().T
    return found


_FACTORS = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}


def _replace(graph: ir.Graph, resize: ir.Node, axes: Sequence[_Axis]) -> None:
    """Put nodes for each axis that changes in the place of a resize."""
    import onnx_ir as ir

    result, source = resize.outputs[0], resize.inputs[0]
    assert source is not None
    nodes: list[ir.Node] = []
    for axis in axes:
        if not np.array_equal(axis.torch, np.eye(*axis.torch.shape)):
            made = _along(graph, source, axis, len(axes), f"{result.name}_axis{axis.place}")
            nodes += made
            source = made[-1].outputs[0]
    nodes = nodes or [ir.node("Identity", [source])]
    for node in nodes:
        node.name = f"{resize.name}_{node.op_type}_{node.outputs[0].name}"
        node.metadata_props.update(resize.metadata_props)
    last = nodes[-1].outputs[0]
    ir.convenience.replace_nodes_and_values(graph, resize, [resize], nodes, [result], [last])


def _along(graph: ir.Graph, source: ir.Value, axis: _Axis, axes: int, name: str) -> list[ir.Node]:
    """Return the nodes that resize one axis, the last of which has the result."""

    def constant(array: Array, what: str) -> ir.Value:
        return _initializer(graph, array, f"{name}_{what}")

    if axis.nearest:
        picks = constant(axis.torch.argmax(1).astype(np.int64), "elements")
        return [_node("Gather", [source, picks], name, axis=axis.place)]
    behind = axes + 1 - axis.place
    if behind == 0:
        return [_node("MatMul", [source, constant(axis.torch.T, "weights")], name)]
    matrix = constant(axis.torch, "weights")
    if behind == 1:
        return [_node("MatMul", [matrix, source], name)]
    order = [place for place in range(axes + 2) if place != axis.place]
    order.insert(axes, axis.place)
    there = _node("Transpose", [source], f"{name}_moved", perm=order)
    product = _node("MatMul", [matrix, there.outputs[0]], f"{name}_product")
    back = [order.index(place) for place in range(axes + 2)]
    return [there, product, _node("Transpose", [product.outputs[0]], name, perm=back)]


def _node(op_type: str, inputs: Sequence[ir.Value], name: str, **attributes: Any) -> ir.Node:
    import onnx_ir as ir

    return ir.node(op_type, inputs, attributes, outputs=[ir.Value(name=name)])


def _initializer(graph: ir.Graph, array: Array, name: str) -> ir.Value:
    import onnx_ir as ir

    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value
