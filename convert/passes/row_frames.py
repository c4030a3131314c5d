"""Regions of a graph whose values have the same rows in different orders.

A value with a channel axis is a table: one row for each place along the other axes. Linear layers,
layer normalisation and element-wise operators take the rows in any order; reshapes and transposes
that leave the channels together only present them in another one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of
from edgeconv.convert.passes.layout import AXIS_KEEPERS, CHANNEL_OPS
from edgeconv.convert.passes.materialize_shared import DOMAIN
from edgeconv.convert.passes.pattern import number_of
from edgeconv.convert.translate.value import channels_last
from edgeconv.convert.translate.view import View

Rows = npt.NDArray[np.intp]
Shape = tuple[int, ...]

VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that present the same elements in another shape or order."""
_ACROSS_ELEMENTS = frozenset(
    {
        "CenterCropPad", "Concat", "CumSum", "DequantizeLinear", "Expand", "Hardmax", "LogSoftmax",
        "LpNormalization", "MeanVarianceNormalization", "Pad", "QuantizeLinear", "ReverseSequence",
        "Slice", "Softmax", "Split", "SwiGLU", "Tile",
    }
)  # fmt: skip
ELEMENTWISE = AXIS_KEEPERS - _ACROSS_ELEMENTS
"""Operators that compute each element from the elements at the same place."""


def sizes(value: ir.Value | None) -> Shape | None:
    """Return the shape of a value that is computed, or None where it is not all numbers."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return None if constant_of(value) is not None else tuple(value.shape.numpy())


def is_linear(node: ir.Node) -> bool:
    """Tell whether a node multiplies rows by a constant matrix."""
    weight = constant_of(node.inputs[1]) if node.op_type == "MatMul" and not node.domain else None
    return weight is not None and weight.ndim == 2


def viewed(node: ir.Node, view: View) -> View | None:
    """Return the view after a node that is one of `VIEWS`."""
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm")
        return view.transpose(range(len(view.axes))[::-1] if perm is None else perm.as_ints())
    shape = sizes(node.outputs[0])
    return None if shape is None else view.reshape(shape)


def _stored_last(view: View) -> int | None:
    """Return the axis that is stored last, in its own order, or None."""
    count = len(view.sizes)
    for axis, factors in enumerate(view.axes):
        if factors and factors == tuple(range(count - len(factors), count)):
            return axis
    return None


@dataclass(frozen=True, slots=True)
class Link:
    """Two values that have the same rows.

    Attributes:
        node: Reads ``before``, makes ``after``.
        before, after: The values.
    """

    node: ir.Node
    before: ir.Value
    after: ir.Value


class Regions:
    """The values of a graph by region, with the order of each one's rows.

    A disjoint-set forest whose links carry the order in which a value has its parent's rows.

    Args:
        graph: The graph, in topological order.
        images: Names of the values whose second axis is that of the channels.

    Attributes:
        channel: The channel axis of each value that is in a region.
        links: Where rows are handed on.
    """

    def __init__(self, graph: ir.Graph, images: frozenset[str]) -> None:
        self.channel: dict[ir.Value, int] = {}
        self.links: list[Link] = []
        self._parents: dict[ir.Value, tuple[ir.Value, Rows | None]] = {}
        self._images = images
        for value in graph.inputs:
            self._begin(value)
        for node in graph:
            for before in self._handed_on(node):
                self._link(node, before)
            for value in node.outputs:
                self._begin(value)

    def rows(self, value: ir.Value) -> tuple[ir.Value, Rows]:
        """Return a region's first value, and where that one has each row of a value."""
        root, order = self._find(value)
        return root, np.arange(self._count(root)) if order is None else order

    def groups(self) -> Iterator[list[ir.Value]]:
        """Yield the values of each region, in the graph's order."""
        found: dict[ir.Value, list[ir.Value]] = {}
        for value in self.channel:
            found.setdefault(self._find(value)[0], []).append(value)
        yield from found.values()

    def _count(self, value: ir.Value) -> int:
        shape = sizes(value) or ()
        return math.prod(shape) // max(shape[self.channel[value]], 1)

    def made_as(self, value: ir.Value | None) -> View | None:
        """Return the view that a value is, by reshapes and transposes, of what is computed."""
        shape = sizes(value)
        if value is None or shape is None:
            return None
        node = value.producer()
        if node is not None and node.op_type in VIEWS:
            before = self.made_as(node.inputs[0])
            return None if before is None else viewed(node, before)
        image = value.name in self._images or (node is not None and node.op_type in CHANNEL_OPS)
        order = channels_last(len(shape)) if image else tuple(range(len(shape)))
        return View.of(tuple(shape[axis] for axis in order), order)

    def _begin(self, value: ir.Value) -> None:
        """Let a value that is made otherwise begin a region."""
        shape = sizes(value)
        if shape is None or len(shape) < 2 or 0 in shape or value in self.channel:
            return
        node = value.producer()
        if any(is_linear(use.node) and use.idx == 0 for use in value.uses()):
            self.channel[value] = len(shape) - 1
        elif node is None or node.op_type not in VIEWS or node.inputs[0] not in self.channel:
            view = self.made_as(value)
            axis = None if view is None else _stored_last(view)
            if axis is not None:
                self.channel[value] = axis

    def _find(self, value: ir.Value) -> tuple[ir.Value, Rows | None]:
        path = []
        while value in self._parents:
            path.append(value)
            value = self._parents[value][0]
        order: Rows | None = None
        for item in reversed(path):
            order = _composed(self._parents[item][1], order)
            self._parents[item] = (value, order)
        return value, order

    def _link(self, node: ir.Node, before: ir.Value) -> None:
        after = node.outputs[0]
        axis, order = _through(node, sizes(before) or (), sizes(after) or (), self.channel[before])
        if axis is None or self.channel.setdefault(after, axis) != axis:
            return
        root, known = self._find(before)
        other, own = self._find(after)
        order = _composed(order, known)
        if other is not root:
            self._parents[other] = (
                root,
                order if own is None else _composed(np.argsort(own), order),
            )
        elif not _same(own, order):
            return
        self.links.append(Link(node, before, after))

    def _handed_on(self, node: ir.Node) -> Iterator[ir.Value]:
        """Yield the inputs whose rows are the rows of a node's first output."""
        after = sizes(node.outputs[0])
        if after is None or node.domain not in ("", DOMAIN) or 0 in after:
            return
        for value in node.inputs[: None if node.op_type in ELEMENTWISE else 1]:
            if value in self.channel and _keeps_rows(
                node, sizes(value), after, self.channel[value]
            ):
                yield value


def _keeps_rows(node: ir.Node, before: Shape | None, after: Shape, channel: int) -> bool:
    assert before is not None, "only values of known shape have a channel axis"
    last = channel == len(before) - 1
    if node.op_type in ELEMENTWISE:
        return before == after
    if is_linear(node):
        return last
    if node.op_type in ("LayerNormalization", "RMSNormalization", "Softmax"):
        axis = int(number_of(node, "axis", -1))
        return last and axis in (-1, len(before) - 1)
    return node.op_type in VIEWS


def _through(
    node: ir.Node, before: Shape, after: Shape, channel: int
) -> tuple[int | None, Rows | None]:
    """Return the channel axis after a node, and the order that the rows have there."""
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm")
        axes = list(range(len(before))[::-1] if perm is None else perm.as_ints())
        return axes.index(channel), _transposed(before, axes, channel)
    if node.op_type not in VIEWS:
        return channel, None
    lead, size = math.prod(before[:channel]), before[channel]
    for axis, other in enumerate(after):
        if other == size and math.prod(after[:axis]) == lead and size > 1:
            return axis, None
    return None, None


def _transposed(shape: Shape, axes: Sequence[int], channel: int) -> Rows | None:
    kept = [axis for axis in range(len(shape)) if axis != channel]
    order = [kept.index(axis) for axis in axes if axis != channel]
    if order == sorted(order):
        return None
    rows = np.arange(math.prod(shape[axis] for axis in kept))
    return rows.reshape([shape[axis] for axis in kept]).transpose(order).ravel()


def _composed(first: Rows | None, second: Rows | None) -> Rows | None:
    """Return the order that takes the rows of a second order in a first one."""
    if first is None or second is None:
        return second if first is None else first
    return second[first]


def _same(first: Rows | None, second: Rows | None) -> bool:
    if first is None or second is None:
        order = second if first is None else first
        return order is None or bool(np.array_equal(order, np.arange(len(order))))
    return bool(np.array_equal(first, second))


def axes_of(order: Rows) -> tuple[Shape, Shape] | None:
    """Return a shape and a permutation that together reorder a range as ``order`` does.

    ``arange(len(order)).reshape(shape).transpose(permutation).ravel()`` is ``order``; None where
    no shape of at most six axes does it.
    """
    strides: list[tuple[int, int]] = []
    done = 1
    while done < len(order):
        step = int(order[done])
        span = len(order) // done
        heads = order[: span * done : done]
        count = next((n for n in range(1, span) if heads[n] != n * step), span)
        if step <= 0 or span % count or len(strides) == _MOST_AXES:
            return None
        strides.append((step, count))
        done *= count
    strides.reverse()
    sorted_strides = sorted(strides, reverse=True)
    shape = tuple(count for _, count in sorted_strides)
    permutation = tuple(sorted_strides.index(stride) for stride in strides)
    if math.prod(shape) != len(order):
        return None
    found = np.arange(len(order)).reshape(shape).transpose(permutation).ravel()
    return (shape, permutation) if np.array_equal(found, order) else None


_MOST_AXES = 6
