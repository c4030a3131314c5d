"""Look at and change an ONNX graph whose constants are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeconv.core.artifacts import Array

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, OperatorSetIdProto, TensorProto


class Editor:
    """A graph under change.

    Args:
        graph: The graph, its shapes inferred and its weights loaded.
        opsets: The versions of its operators.
    """

    def __init__(self, graph: GraphProto, opsets: Sequence[OperatorSetIdProto]) -> None:
        self._graph = graph
        self._opsets = opsets
        self.nodes: list[NodeProto] = list(graph.node)
        self._tensors: dict[str, TensorProto] = {one.name: one for one in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self._tensors[node.output[0]] = attribute.t
        values = (*graph.input, *graph.value_info, *graph.output)
        self._shapes = {
            value.name: [size.dim_value or 1 for size in value.type.tensor_type.shape.dim]
            for value in values
        }
        self._open = {
            value.name
            for value in values
            for size in value.type.tensor_type.shape.dim[:1]
            if not size.dim_value
        }
        self._before: dict[int, list[NodeProto]] = {}
        self._gone: set[int] = set()
        self._count = 0

    def constant(self, name: str) -> Array | None:
        """Return a constant's value; ``None`` where the value is known at run time only."""
        from onnx import numpy_helper

        tensor = self._tensors.get(name)
        return None if tensor is None else np.asarray(numpy_helper.to_array(tensor))

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return a value's shape, with 1 for what is open; ``None`` where it is not known."""
        found = self._shapes.get(name)
        return None if found is None else tuple(found)

    def attribute(self, node: NodeProto, name: str, default: Any) -> Any:
        """Return an attribute of a node."""
        from onnx import helper

        found = [one for one in node.attribute if one.name == name]
        return helper.get_attribute_value(found[0]) if found else default

    def captured(self, node: NodeProto) -> Iterator[str]:
        """Yield the values that the graphs inside a node read."""
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                for one in inner.node:
                    yield from one.input
                    yield from self.captured(one)

    def consumers(self, name: str) -> list[NodeProto]:
        """Return the nodes that read a value."""
        return [node for node in self.nodes if name in node.input]

    def is_output(self, name: str) -> bool:
        """Tell whether the graph returns a value."""
        return any(output.name == name for output in self._graph.output)

    def add(self, near: str, value: Array, dtype: Any = np.float32) -> str:
        """Add a constant, and return its name."""
        from onnx import numpy_helper

        self._count += 1
        name = f"{near}/folded_{self._count}"
        tensor = numpy_helper.from_array(np.ascontiguousarray(value, dtype), name)
        self._tensors[name] = tensor
        self._graph.initializer.append(tensor)
        return name

    def real(self, node: NodeProto) -> Any:
        """Return the dtype of the first constant of real numbers that a node reads."""
        found = (self.constant(name) for name in node.input)
        return next(
            (one.dtype for one in found if one is not None and one.dtype.kind == "f"), np.float32
        )

    def insert(self, node: NodeProto, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Insert a node before another one, and return what it makes."""
        from onnx import helper

        self._count += 1
        made = f"{node.output[0]}/folded_{self._count}"
        new = helper.make_node(kind, list(inputs), [made], name=made, **attributes)
        self._before.setdefault(id(node), []).append(new)
        return made

    def bypass(self, node: NodeProto, source: str) -> None:
        """Make a node hand on a value as it is."""
        del node.attribute[:]
        del node.input[:]
        node.input.append(source)
        node.op_type = "Identity"

    def evaluate(self, node: NodeProto, known: Mapping[str, Array]) -> list[Array] | None:
        """Return what a node makes of values; ``None`` where its other inputs are not constant."""
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        feeds = dict(known)
        for name in node.input:
            if name and name not in feeds:
                value = self.constant(name)
                if value is None:
                    return None
                feeds[name] = value
        graph = helper.make_graph(
            [node],
            "one",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape
                )
                for name, v in feeds.items()
            ],
            [helper.make_empty_tensor_value_info(name) for name in node.output],
        )
        model = helper.make_model(graph, opset_imports=list(self._opsets))
        return [np.asarray(one) for one in ReferenceEvaluator(model).run(None, feeds)]

    def pads(self, node: NodeProto, rank: int) -> list[tuple[int, int]] | None:
        """Return how much a Pad adds at both ends of each axis; ``None`` for what is not known."""
        flat = self.attribute(node, "pads", None)
        if flat is None:
            value = self.constant(node.input[1]) if len(node.input) > 1 else None
            if value is None:
                return None
            flat = value.reshape(-1).tolist()
        axes = list(range(rank))
        if len(node.input) > 3 and node.input[3]:
            chosen = self.constant(node.input[3])
            if chosen is None:
                return None
            axes = [int(axis) % rank for axis in chosen.reshape(-1)]
        found = [(0, 0)] * rank
        for place, axis in enumerate(axes):
            found[axis] = (int(flat[place]), int(flat[place + len(axes)]))
        return found

    def pad_value(self, node: NodeProto) -> float | None:
        """Return what a Pad of constants pads with; ``None`` where it is not known."""
        if len(node.input) > 2 and node.input[2]:
            value = self.constant(node.input[2])
            return None if value is None else float(value.reshape(()))
        return float(self.attribute(node, "value", 0.0))

    def pad_with(self, node: NodeProto, pads: list[tuple[int, int]], values: Array) -> None:
        """Make a Pad of one that pads each channel with a value of its own.

        Args:
            node: The Pad.
            pads: How much it adds at both ends of each axis.
            values: ``[1, C, 1, ...]``.
        """
        made = self.padded(node, node.input[0], pads, values)
        self.bypass(node, made)

    def padded(
        self, node: NodeProto, source: str, pads: list[tuple[int, int]], values: Array
    ) -> str:
        """Insert what pads each channel of a value, before a node that is to read that.

        Args:
            node: The node.
            source: What is padded.
            pads: How much to add at both ends of each axis; none along the first two.
            values: ``[1, C, 1, ...]``.

        Returns:
            The padded value.
        """
        ends = [low for low, _ in pads] + [high for _, high in pads]
        how = self.add(node.output[0], np.asarray(ends), np.int64)
        if np.unique(values).size == 1:
            fill = self.add(node.output[0], np.asarray(values.reshape(-1)[0]))
            return self.insert(node, "Pad", [source, how, fill])
        if source in self._open or self.shape(source) is None:
            return self._by_channel(node, source, how, values)
        shape = list(self.shape(source) or ())
        for axis in range(2, len(shape)):
            parts = [source]
            for place, size in enumerate(pads[axis]):
                if size:
                    edge = [*shape[:axis], size, *shape[axis + 1 :]]
                    name = self.add(node.output[0], np.broadcast_to(values, edge))
                    parts.insert(0 if place == 0 else len(parts), name)
            shape[axis] += sum(pads[axis])
            if len(parts) > 1:
                source = self.insert(node, "Concat", parts, axis=axis)
        return source

    def _by_channel(self, node: NodeProto, source: str, how: str, values: Array) -> str:
        """Insert what pads channel by channel, whatever the batch is."""
        parts = []
        axis = self.add(node.output[0], np.asarray([1]), np.int64)
        for channel, value in enumerate(values.reshape(-1).tolist()):
            first, last = (
                self.add(node.output[0], np.asarray([end]), np.int64)
                for end in (channel, channel + 1)
            )
            part = self.insert(node, "Slice", [source, first, last, axis])
            fill = self.add(node.output[0], np.asarray(value))
            parts.append(self.insert(node, "Pad", [part, how, fill]))
        return self.insert(node, "Concat", parts, axis=1)

    def finish(self) -> None:
        """Put the inserted nodes in their places, and take out constants that nothing reads."""
        ordered = [one for node in self.nodes for one in (*self._before.get(id(node), ()), node)]
        del self._graph.node[:]
        self._graph.node.extend(ordered)
        read = {name for node in ordered for name in (*node.input, *self.captured(node))}
        kept = [one for one in self._graph.initializer if one.name in read]
        kept = [type(one).FromString(one.SerializeToString()) for one in kept]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
