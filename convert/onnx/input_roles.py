"""What the inputs of an ONNX model stand for, as its graph tells by what it does with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgeconv.convert.onnx.light import load_light
from edgeconv.core.artifacts import Array, Artifact, TensorSpec
from edgeconv.core.roles import POSITION, Kind, Role, role_of

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

_MOVES = frozenset(
    ("Cast", "Expand", "Flatten", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze",
     "Tile", "Transpose", "Unsqueeze")
)  # fmt: skip
"""Operators whose outputs are values of their first input."""

_LOGIC = frozenset(("And", "Or", "Where", "Clip", "Max", "Min", "Concat", "Mul"))
"""Operators that hand indices or masks on among others."""

_LOOKUPS = ("Gather", "GatherElements", "ScatterElements")
"""Operators whose second input has indices along an axis of the first."""

_SHORTEST = 256
"""A row of fewer values is a vector of features, not a sound."""

_BYTES = 100.0
"""A picture that is divided by more than this, or less than that is subtracted, holds bytes."""

_HIDDEN = -1e3
"""What a mask puts in where nothing is to be seen is below this."""


def input_roles(model: Artifact) -> dict[str, Role]:
    """Return what each input of an ONNX model stands for.

    Args:
        model: The model; files beside it with its weights are not read.
    """
    graph = _Graph(load_light(model.path).graph)
    return {spec.name: _role(graph, spec) for spec in model.inputs}


def _role(graph: _Graph, spec: TensorSpec) -> Role:
    role = role_of(spec)
    kind = np.dtype(spec.dtype).kind
    readers = list(graph.readers(spec.name))
    if role.kind is Kind.BITS and kind in "iu":
        sizes = [size for reader in readers if (size := graph.table(reader)) is not None]
        if sizes:
            position = bool(POSITION.search(spec.name))
            return Role(Kind.POSITION if position else Kind.INDEX, size=max(1, min(sizes)))
    if role.kind is Kind.MASK or kind == "b":
        return _mask(graph, role, readers)
    if role.kind is Kind.IMAGE and kind == "f" and any(map(graph.takes_bytes, readers)):
        return replace(role, high=(255.0,))
    if role.kind is Kind.NUMBERS and _is_row(spec) and any(map(_convolves, readers)):
        return Role(Kind.SOUND)
    return role


def _mask(graph: _Graph, role: Role, readers: list[_Reader]) -> Role:
    """Return a mask that hides nothing, by what takes the place of what it does not show."""
    for reader in readers:
        if reader.node.op_type == "Where" and reader.slot == 0:
            for slot in (1, 2):
                value = graph.constant(reader.node.input[slot])
                if value is not None and value.size and float(value.min()) <= _HIDDEN:
                    return Role(Kind.MASK, hides=(slot == 1) is not reader.negated)
    return role if role.kind is Kind.MASK else Role(Kind.BITS)


def _is_row(spec: TensorSpec) -> bool:
    *others, length = [size or 1 for size in spec.source_shape] or [1]
    return length >= _SHORTEST and all(size == 1 for size in others)


def _convolves(reader: _Reader) -> bool:
    return reader.node.op_type in ("Conv", "STFT", "DFT")


@dataclass(frozen=True, slots=True)
class _Reader:
    """An operator that does more with an input's values than to move them.

    Attributes:
        node: The operator.
        slot: Which of its inputs they are.
        offset: What was added to them on the way.
        negated: Whether they were negated on the way.
    """

    node: NodeProto
    slot: int
    offset: float = 0.0
    negated: bool = False


class _Graph:
    """The part of an ONNX graph that tells of its inputs."""

    def __init__(self, graph: GraphProto) -> None:
        self._nodes = list(graph.node)
        self._tensors: dict[str, TensorProto] = {one.name: one for one in graph.initializer}
        self._tensors |= {
            node.output[0]: attribute.t
            for node in graph.node
            if node.op_type == "Constant"
            for attribute in node.attribute
            if attribute.name == "value"
        }
        values = (*graph.input, *graph.value_info, *graph.output)
        self._shapes = {
            value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in values
        }

    def readers(self, name: str) -> Iterator[_Reader]:
        """Yield what reads an input, through operators that only move, add or negate."""
        known: dict[str, tuple[float, bool]] = {name: (0.0, False)}
        for node in self._nodes:
            for slot, source in enumerate(node.input):
                if source not in known:
                    continue
                offset, negated = known[source]
                yield _Reader(node, slot, offset, negated)
                if node.op_type in _MOVES and slot == 0:
                    known |= dict.fromkeys(node.output, (offset, negated))
                elif node.op_type == "Not":
                    known[node.output[0]] = (offset, not negated)
                elif node.op_type == "Add":
                    other = self.constant(node.input[1 - slot])
                    if other is not None and other.size == 1:
                        known[node.output[0]] = (offset + float(other.reshape(())), negated)
                elif node.op_type in _LOGIC:
                    # Of negative indices that are made positive, those that are so count.
                    earlier, _ = known.get(node.output[0], (math.inf, False))
                    known[node.output[0]] = (min(offset, earlier, key=abs), negated)

    def constant(self, name: str) -> Array | None:
        """Return a small constant that is in the file; ``None`` for others."""
        from onnx import external_data_helper, numpy_helper

        tensor = self._tensors.get(name)
        if tensor is None or external_data_helper.uses_external_data(tensor):
            return None
        if int(np.prod(tensor.dims)) > 4096:
            return None
        return np.asarray(numpy_helper.to_array(tensor))

    def shape(self, name: str) -> list[int]:
        """Return a tensor's shape, 0 for what is not known."""
        tensor = self._tensors.get(name)
        return list(tensor.dims) if tensor is not None else self._shapes.get(name, [])

    def table(self, reader: _Reader) -> int | None:
        """Return how many rows the table has that a reader looks values up in."""
        node = reader.node
        axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
        if node.op_type in _LOOKUPS and reader.slot == 1:
            shape = self.shape(node.input[0])
        elif node.op_type in ("GatherND", "ScatterND") and reader.slot == 1:
            shape, axis = self.shape(node.input[0]), 0
        elif node.op_type == "OneHot" and reader.slot == 0:
            depth = self.constant(node.input[1])
            shape, axis = ([] if depth is None else [int(depth.reshape(()))]), 0
        else:
            return None
        if not -len(shape) <= axis < len(shape) or shape[axis] <= 0:
            return None
        return shape[axis] - round(reader.offset)

    def takes_bytes(self, reader: _Reader) -> bool:
        """Tell whether a reader scales or shifts pictures as one does with bytes."""
        if len(reader.node.input) < 2 or reader.slot != 0:
            return False
        other = self.constant(reader.node.input[1])
        if other is None or not other.size or other.dtype.kind not in "fiu":
            return False
        peak = float(np.abs(other.astype(np.float64)).max())
        return {
            "Div": peak >= _BYTES,
            "Mul": 0 < peak <= 1 / _BYTES,
            "Sub": peak >= _BYTES,
            "Add": float(other.min()) <= -_BYTES,
        }.get(reader.node.op_type, False)
