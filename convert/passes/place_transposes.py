"""Decide over whole regions where rows are put into another order.

The translator moves data as late as it can, at the operator that cannot do without. In a region
whose operators take rows in any order it is often cheaper elsewhere: windows of attention are
merged where the heads are merged anyway, and cut before one linear layer triples the channels. A
minimum cut, weighted by the bytes moved, finds the places; a `Materialize` node is put there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of, new_constant
from edgeconv.convert.passes.layout import CHANNEL_OPS, image_values
from edgeconv.convert.passes.materialize_shared import DOMAIN
from edgeconv.convert.passes.min_cut import Energy, minimise
from edgeconv.convert.passes.row_frames import (
    ELEMENTWISE,
    VIEWS,
    Link,
    Regions,
    Rows,
    Shape,
    axes_of,
    is_linear,
    sizes,
    viewed,
)
from edgeconv.convert.translate.value import channels_last
from edgeconv.convert.translate.view import View
from edgeconv.convert.translate.view_cut import cut_of, resized

_MOST_ORDERS = 12
_MOST_ROWS = 1 << 18
_WORTH = 0.999  # of the cost before; sums of floats differ in their last bits


def place_transposes(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of movements placed."""
    images = image_values(graph)
    regions = Regions(graph, images)
    links: dict[ir.Value, list[Link]] = {}
    for link in regions.links:
        links.setdefault(regions.rows(link.after)[0], []).append(link)
    placed = 0
    for values in regions.groups():
        root, rows = regions.rows(values[0])
        worth = any(is_linear(link.node) for link in links.get(root, ()))
        if worth and len(rows) <= _MOST_ROWS:
            placed += _Region(graph, regions, values, links[root], images).place()
    return placed


@dataclass(frozen=True, slots=True)
class _Order:
    """How the rows of one value are stored: its row axes split, then permuted."""

    shape: Shape
    permutation: Shape


class _Region:
    """One region: the orders that its values may have, and what each costs."""

    def __init__(
        self,
        graph: ir.Graph,
        regions: Regions,
        values: Sequence[ir.Value],
        links: Sequence[Link],
        images: frozenset[str],
    ) -> None:
        self._graph, self._regions, self._values = graph, regions, values
        self._links, self._images = links, images
        self._numbers = {value: number for number, value in enumerate(values)}
        self._labels: list[Rows] = []
        self._made = {link.after for link in links}
        self._own = [self._label(self._stored(value)) for value in values]
        for value in values:
            for use in value.uses():
                self._add_demand(value, use.node)

    def _label(self, rows: Rows) -> int:
        for number, known in enumerate(self._labels):
            if np.array_equal(known, rows):
                return number
        self._labels.append(rows)
        return len(self._labels) - 1

    def _stored(self, value: ir.Value) -> Rows:
        """Return the order that a value's rows have if nothing moves them."""
        rows = self._regions.rows(value)[1]
        view = None if value in self._made else self._regions.made_as(value)
        if view is None or not view.axes[self._regions.channel[value]]:
            return rows
        channel = view.axes[self._regions.channel[value]]
        if max(channel) < len(view.sizes) - 1:
            return rows
        factors = [n for number, axis in enumerate(view.axes) for n in axis if n not in channel]
        places = np.arange(len(rows)).reshape([view.sizes[factor] for factor in factors])
        return rows[places.transpose(np.argsort(factors)).ravel()]

    def _add_demand(self, value: ir.Value, node: ir.Node) -> None:
        """Consider the order in which reshapes and transposes lead to an image."""
        shape, channel = sizes(value) or (), self._regions.channel[value]
        view: View | None = View.of(shape)
        while view is not None and node.op_type in VIEWS and node.outputs[0].uses():
            view, node = viewed(node, view), next(iter(node.outputs[0].uses())).node
        if view is None or node.op_type not in CHANNEL_OPS:
            return
        wanted = view.order(channels_last(len(view.axes)))
        inside = _within(view.sizes, shape, channel)
        rows = [factor for factor in wanted if factor not in inside]
        if not inside or wanted[len(rows) :] != inside:
            return
        places = np.arange(math.prod(shape) // shape[channel])
        places = places.reshape([view.sizes[factor] for factor in sorted(rows)])
        order = places.transpose(np.argsort(np.argsort(rows))).ravel()
        self._label(self._regions.rows(value)[1][order])

    def place(self) -> int:
        """Put movements where they cost least; return their number."""
        if not 1 < len(self._labels) <= _MOST_ORDERS:
            return 0
        unary = [
            [self._cost(value, label) for label in range(len(self._labels))]
            for value in self._values
        ]
        energy = Energy(unary, self._groups())
        start = self._lazy()
        chosen = minimise(energy, start)
        if energy.of(chosen) > _WORTH * energy.of(start) or not self._can_insert(chosen):
            return 0
        return self._insert(chosen)

    def _can_insert(self, chosen: Sequence[int]) -> bool:
        """Tell whether every value that is moved can be, as axes that are split and permuted."""
        return all(
            self._order(link.before, chosen[self._numbers[link.after]]) is not None
            for link in self._links
            if chosen[self._numbers[link.after]] != chosen[self._numbers[link.before]]
        )

    def _groups(self) -> list[tuple[list[int], float]]:
        readers: dict[ir.Value, list[int]] = {}
        for link in self._links:
            readers.setdefault(link.before, []).append(self._numbers[link.after])
        return [
            ([self._numbers[value], *numbers], _bytes(value)) for value, numbers in readers.items()
        ]

    def _lazy(self) -> list[int]:
        """Return the orders that come of moving data as late as possible."""
        found = list(self._own)
        for link in reversed(self._links):  # the first operand counts
            found[self._numbers[link.after]] = -1
        for link in self._links:
            after = self._numbers[link.after]
            if found[after] < 0:
                found[after] = found[self._numbers[link.before]]
        return found

    def _order(self, value: ir.Value, label: int) -> _Order | None:
        """Return how a value is stored whose rows have the order of a label."""
        places = np.argsort(self._regions.rows(value)[1])
        axes = axes_of(places[self._labels[label]])
        shape, channel = sizes(value) or (), self._regions.channel[value]
        if axes is None:
            return None
        split, permutation = axes
        lead = math.prod(shape[:channel])
        cut = next((n for n in range(len(split) + 1) if math.prod(split[:n]) == lead), None)
        if cut is None:
            return None
        moved = tuple(axis + (axis >= cut) for axis in permutation)
        return _Order((*split[:cut], shape[channel], *split[cut:]), (*moved, cut))

    def _cost(self, value: ir.Value, label: int) -> float:
        """Return what is moved outside the region if a value is stored in an order."""
        order = self._order(value, label)
        if order is None:
            return math.inf if label != self._own[self._numbers[value]] else 0.0
        steps: float = 0 if value in self._made else self._steps_to(value, order)
        stored = View.of(tuple(order.shape[axis] for axis in order.permutation), order.permutation)
        view = stored.reshape(sizes(value) or ())
        if view is None:
            return math.inf
        linked = {id(link.node) for link in self._links if link.before is value}
        for use in value.uses():
            if id(use.node) not in linked:
                steps += _steps_from(use.node, use.idx, view)
        if value.is_graph_output():
            steps += _steps(view, self._kept(value))
        return steps * _bytes(value)

    def _kept(self, value: ir.Value) -> Shape:
        rank = len(sizes(value) or ())
        return channels_last(rank) if value.name in self._images else tuple(range(rank))

    def _steps_to(self, value: ir.Value, order: _Order) -> int:
        """Count the movements from what a value is made of to an order."""
        view = self._regions.made_as(value)
        split = None if view is None else view.reshape(order.shape)
        if split is None:
            return 1
        return _steps(split, order.permutation)

    def _insert(self, chosen: Sequence[int]) -> int:
        """Store values in the chosen orders where the translator would not by itself."""
        moved: dict[tuple[ir.Value, int], ir.Value] = {}
        for value in self._values:
            number = self._numbers[value]
            if value not in self._made and chosen[number] != self._own[number]:
                self._move(moved, value, chosen[number], [use.node for use in value.uses()])
        for link in self._links:
            label = chosen[self._numbers[link.after]]
            if label != chosen[self._numbers[link.before]]:
                self._move(moved, link.before, label, [link.node])
        return len(moved)

    def _move(
        self,
        moved: dict[tuple[ir.Value, int], ir.Value],
        value: ir.Value,
        label: int,
        readers: Sequence[ir.Node],
    ) -> None:
        source = moved.get((value, self._own[self._numbers[value]]), value)
        if (value, label) not in moved:
            order = self._order(value, label)
            assert order is not None, "an order without axes costs infinitely much"
            moved[value, label] = _materialized(self._graph, value, order, f"order{label}")
        for node in readers:
            for index, operand in enumerate(node.inputs):
                if operand is source or operand is value:
                    node.replace_input_with(index, moved[value, label])


def _within(factors: Sequence[int], shape: Shape, axis: int) -> Shape:
    """Return the numbers of the factors that an axis of a plain tensor has; none if they differ."""
    start, stop = math.prod(shape[:axis]), math.prod(shape[: axis + 1])
    done, found = 1, []
    for number, size in enumerate(factors):
        if start <= done < stop:
            found.append(number)
        done *= size
    whole = math.prod(factors[number] for number in found) == shape[axis]
    return tuple(found) if whole else ()


def _bytes(value: ir.Value) -> float:
    dtype = value.dtype
    return math.prod(sizes(value) or ()) * (4 if dtype is None else dtype.itemsize)


def _steps(view: View, permutation: Sequence[int]) -> int:
    movement = view.movement(permutation)
    return len(movement.steps()) if movement.moves else 0


def _steps_from(node: ir.Node, index: int, view: View | None) -> float:
    """Count the movements that an operator outside the region needs of a value, whole or in parts.

    What is moved after a split counts with its share of the bytes.
    """
    if view is None:
        return 1
    rank = len(view.axes)
    if node.op_type in VIEWS:
        after = viewed(node, view)
        uses = node.outputs[0].uses()
        if _is_cut_first(node):
            return 1 if after is None else _steps(after, range(len(after.axes)))
        return max((_steps_from(use.node, use.idx, after) for use in uses), default=0)
    if node.op_type in ELEMENTWISE and _is_scaled(node):
        return max((_steps_from(u.node, u.idx, view) for u in node.outputs[0].uses()), default=0)
    if node.op_type == "Split" and _splits_stored(node, view):
        return _steps_from_parts(node, view)
    if node.op_type in CHANNEL_OPS and index == 0:
        return _steps(view, channels_last(rank))
    if node.op_type == "MatMul" and rank > 1:
        if constant_of(node.inputs[1]) is not None:
            return 0 if view.as_rows() is not None else 1
        swapped = (*range(rank - 2), rank - 1, rank - 2)
        return min(_steps(view, range(rank)), _steps(view, swapped))
    if node.op_type == "Einsum" and (orders := _matrix_orders(node, index)):
        return min(_steps(view, order) for order in orders)
    return 0 if view.natural_permutation() is not None else 1


def _matrix_orders(node: ir.Node, index: int) -> list[Shape]:
    """Return the orders in which a product of batches of matrices takes an operand."""
    terms = node.attributes["equation"].as_string().replace(" ", "").replace("->", ",").split(",")
    if len(terms) != 3 or any(len(set(term)) != len(term) or "." in term for term in terms):
        return []
    own, other = terms[index], terms[1 - index]
    batch = [letter for letter in own if letter in other and letter in terms[2]]
    inner = [letter for letter in own if letter in other and letter not in terms[2]]
    lone = [letter for letter in own if letter not in other]
    return [
        tuple(own.index(letter) for letter in letters)
        for letters in (batch + lone + inner, batch + inner + lone)
    ]


def _is_scaled(node: ir.Node) -> bool:
    """Tell whether an element-wise operator has one operand, and beside it only numbers."""
    others = [constant_of(value) for value in node.inputs]
    return sum(other is None or other.size != 1 for other in others) == 1


def _split_axis(node: ir.Node, rank: int) -> int:
    axis = node.attributes.get("axis")
    return 0 if axis is None else axis.as_int() % rank


def _splits_stored(node: ir.Node, view: View) -> bool:
    """Tell whether a split cuts its operand as it is stored, so that only the parts are moved."""
    known = all(sizes(output) is not None for output in node.outputs)
    return known and cut_of(view, _split_axis(node, len(view.axes))) is not None


def _steps_from_parts(node: ir.Node, view: View) -> float:
    axis = _split_axis(node, len(view.axes))
    total = 0.0
    for output in node.outputs:
        size = (sizes(output) or view.shape)[axis]
        part = resized(view, axis, size)
        steps = (_steps_from(use.node, use.idx, part) for use in output.uses())
        total += max(steps, default=0) * size / view.shape[axis]
    return total


def _is_cut_first(node: ir.Node) -> bool:
    """Tell whether a transposed value is cut along its first axis, which moves it as a whole."""
    kinds = {use.node.op_type for use in node.outputs[0].uses()}
    return node.op_type == "Transpose" and bool(kinds) and kinds <= {"Gather", "Slice", "Split"}


def _materialized(graph: ir.Graph, value: ir.Value, order: _Order, suffix: str) -> ir.Value:
    """Add nodes that store a value in another order and present it as it was."""
    shape = sizes(value)
    assert shape is not None, "values in regions have known shapes"
    back = tuple(int(axis) for axis in np.argsort(order.permutation))
    stored = tuple(order.shape[axis] for axis in order.permutation)
    name = f"{value.name}.{suffix}"
    nodes = [
        _reshape(graph, value, order.shape, f"{name}.split"),
        ir.node("Transpose", [value], {"perm": list(order.permutation)}),
        ir.node("Materialize", [value], domain=DOMAIN),
        ir.node("Transpose", [value], {"perm": list(back)}),
        _reshape(graph, value, shape, name),
    ]
    names = (f"{name}.split", f"{name}.moved", f"{name}.stored", f"{name}.back", name)
    shapes = (order.shape, stored, stored, order.shape, shape)
    before = value
    for node, output, sizes_ in zip(nodes, names, shapes, strict=True):
        node.replace_input_with(0, before)
        node.name = output
        before = node.outputs[0]
        before.name, before.type, before.shape = output, value.type, ir.Shape(sizes_)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], nodes)
    else:
        graph.insert_after(producer, nodes)
    return before


def _reshape(graph: ir.Graph, value: ir.Value, shape: Shape, name: str) -> ir.Node:
    constant = new_constant(graph, f"{name}.shape", np.array(shape, np.int64))
    return ir.node("Reshape", [value, constant])
