"""Which channels the operators take that only hand channels on: concat, split, slice, shuffle.

A channel shuffle is a reshape, a transpose and a reshape. Source: Zhang et al. 2018, ShuffleNet,
section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.channel_order import Order
from edgeconv.convert.passes.graph import constant_of, only_user
from edgeconv.convert.passes.pattern import produced_by


@dataclass(frozen=True, eq=False, slots=True)
class Route:
    """Nodes that together hand channels on.

    Attributes:
        nodes: The nodes, in order; the last one makes the outputs.
        inputs: What they read.
        outputs: What they make.
        picks: For each output the places of its channels among those of all inputs in a row.
    """

    nodes: tuple[ir.Node, ...]
    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    picks: tuple[Order, ...]

    @property
    def shuffles(self) -> bool:
        """Tell whether this is a channel shuffle."""
        return len(self.nodes) > 1


def route_of(node: ir.Node) -> Route | None:
    """Return the route that ends at a node, or None."""
    if node.domain:
        return None
    if node.op_type == "Reshape":
        return _shuffle(node)
    values = list(node.inputs if node.op_type == "Concat" else node.inputs[:1])
    inputs = tuple(value for value in values if value is not None and channels(value))
    if len(inputs) < len(values) or not all(channels(value) for value in node.outputs):
        return None
    picks = tuple(_picks(node, np.arange(sum(channels(value) for value in inputs))))
    return Route((node,), inputs, tuple(node.outputs), picks) if picks else None


def channels(value: ir.Value | None) -> int:
    """Return the number of channels of an image that is computed; 0 for anything else."""
    if value is None or value.const_value is not None or value.shape is None:
        return 0
    size = value.shape[1] if len(value.shape) == 4 else 0
    return size if isinstance(size, int) else 0


def _picks(node: ir.Node, places: Order) -> Iterator[Order]:
    axis = node.attributes.get("axis")
    along = (0 if axis is None else axis.as_int()) in (1, -3)
    if node.op_type == "Concat" and along:
        yield places
    elif node.op_type == "Split" and along:
        sizes = [channels(value) for value in node.outputs]
        yield from np.split(places, np.cumsum(sizes)[:-1])
    elif node.op_type == "Gather" and along:
        index = constant_of(node.inputs[1])
        if index is not None and index.ndim == 1:
            yield places[index]
    elif node.op_type == "Slice" and len(node.inputs) > 3:
        bounds = [constant_of(value) for value in node.inputs[1:]]
        whole = [array for array in bounds if array is not None and array.size == 1]
        if len(whole) == len(bounds) and whole[2].item() in (1, -3):
            step = whole[3].item() if len(whole) > 3 else 1
            yield places[whole[0].item() : whole[1].item() : step]


def _shuffle(last: ir.Node) -> Route | None:
    middle = produced_by(last.inputs[0], "Transpose")
    first = None if middle is None else produced_by(middle.inputs[0], "Reshape")
    if middle is None or first is None or "perm" not in middle.attributes:
        return None
    source, split, merged = first.inputs[0], first.outputs[0], last.outputs[0]
    if any(only_user(value) is None for value in (split, middle.outputs[0])):
        return None
    count = channels(source)
    if source is None or source.shape is None or split.shape is None or merged.shape is None:
        return None
    batch, rest = list(source.shape[:1]), list(source.shape[2:])
    groups = split.shape[1] if len(split.shape) == 5 else 0
    if not count or not isinstance(groups, int) or groups == 0 or count % groups:
        return None
    shapes = list(split.shape), list(merged.shape), list(middle.attributes["perm"].as_ints())
    five, four = [*batch, groups, count // groups, *rest], [*batch, count, *rest]
    if shapes != (five, four, [0, 2, 1, 3, 4]):
        return None
    order = np.arange(count).reshape(groups, -1).T.ravel()
    return Route((first, middle, last), (source,), (merged,), (order,))
