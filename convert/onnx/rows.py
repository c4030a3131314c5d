"""Which outputs of an ONNX file are rows that an operator chose and ordered.

TopK (as which ArgSort is exported, too) and NonMaxSuppression give rows an order that noise may
change. From such an operator the graph is followed forward. Of each value it is known along which
axes it has one slice for each row: whatever order the rows have, those slices have the same. What
mixes rows in a way that depends on their order ends that, as a convolution over them does;
attention does not. Outputs that have such an axis, of the same operator, are a set of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeconv.convert.onnx.facts import BINARY, UNARY, Facts, attributes
from edgeconv.metrics.parts import RowSet

if TYPE_CHECKING:
    from onnx import NodeProto

Axes = frozenset[int]
"""Axes of a value along which it has a slice for each row; none where rows have no part in it."""

_FREE: Axes = frozenset()
_CHOOSING = ("TopK", "NonMaxSuppression")
_REDUCING = frozenset(
    {"ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"}
    | {"ReduceProd", "ReduceSum", "ReduceSumSquare"}
)


@dataclass(slots=True)
class _Rows:
    """What is known of the values after one operator that chooses rows.

    Attributes:
        facts: The graph.
        axes: Of each value that rows have a part in; ``None`` where their order matters.
    """

    facts: Facts
    axes: dict[str, Axes | None]

    def of(self, value: str) -> Axes | None:
        """Return the axes of a value."""
        return self.axes.get(value, _FREE)

    def rank(self, value: str) -> int | None:
        """Return the number of a value's axes, where it is known."""
        shape = self.facts.shape(value)
        return None if shape is None else len(shape)


def row_sets(facts: Facts) -> tuple[RowSet, ...]:
    """Return the sets of rows among the outputs: of each output the last that chose them."""
    chosen = {
        place: axes
        for place, node in enumerate(facts.nodes)
        if node.op_type in _CHOOSING and (axes := _followed(facts, place))
    }
    last = {name: place for place, axes in chosen.items() for name in axes}
    sets = (
        RowSet(
            facts.nodes[place].op_type,
            tuple((name, axis) for name, axis in axes.items() if last[name] == place),
        )
        for place, axes in chosen.items()
    )
    return tuple(item for item in sets if item.axes)


def _followed(facts: Facts, place: int) -> dict[str, int]:
    """Return the axis of rows in each output that the node at a place has chosen them of."""
    node = facts.nodes[place]
    axis = 0
    if node.op_type == "TopK":
        shape = facts.shape(node.output[0]) or facts.shape(node.input[0])
        if shape is None:
            return {}
        axis = int(attributes(node).get("axis", -1)) % len(shape)
    rows = _Rows(facts, {name: frozenset({axis}) for name in node.output if name})
    for later in facts.nodes[place + 1 :]:
        if any(rows.of(name) != _FREE for name in later.input if name):
            found = _after(rows, later)
            rows.axes.update({name: found for name in later.output if name})
    return {
        name: next(iter(axes))
        for name in facts.outputs
        if (axes := rows.of(name)) is not None and len(axes) == 1
    }


def _after(rows: _Rows, node: NodeProto) -> Axes | None:
    """Return the axes of what a node makes; ``None`` where the order of the rows matters to it."""
    if any(rows.of(name) is None for name in node.input if name):
        return None
    if node.op_type in UNARY:
        return rows.of(node.input[0])
    if node.op_type in BINARY or node.op_type == "Where":
        return _aligned(rows, node)
    rule = _RULES.get(node.op_type)
    return None if rule is None else rule(rows, node)


def _aligned(rows: _Rows, node: NodeProto) -> Axes | None:
    """Return the axes of work on elements of all inputs at the same place, broadcast."""
    ranks = [rows.rank(name) for name in node.input]
    if None in ranks:
        return rows.of(node.input[0]) if len(set(map(rows.of, node.input))) == 1 else None
    whole = max(rank for rank in ranks if rank is not None)
    found: set[int] = set()
    for name, rank in zip(node.input, ranks, strict=True):
        axes = rows.of(name)
        assert axes is not None
        assert rank is not None
        found |= {axis + whole - rank for axis in axes}
    for name in node.input:
        shape, axes = rows.facts.shape(name), rows.of(name)
        assert shape is not None
        assert axes is not None
        for axis in found:
            own = axis - whole + len(shape)
            if own >= 0 and own not in axes and shape[own] != 1:
                return None  # a value for each place, whatever row is there
    return frozenset(found)


def _reshape(rows: _Rows, node: NodeProto) -> Axes | None:
    axes = rows.of(node.input[0])
    before, after = rows.facts.shape(node.input[0]), rows.facts.shape(node.output[0])
    if axes is None or before is None or after is None:
        return None
    return _renumbered(axes, before, after)


def _renumbered(axes: Axes, before: Sequence[int], after: Sequence[int]) -> Axes | None:
    """Return where axes are after a reshape; ``None`` where one is joined with others, or split."""
    places = {(_product(after[:axis]), size): axis for axis, size in enumerate(after)}
    found = [places.get((_product(before[:axis]), before[axis])) for axis in axes]
    return None if None in found else frozenset(axis for axis in found if axis is not None)


def _product(sizes: Sequence[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _transpose(rows: _Rows, node: NodeProto) -> Axes | None:
    axes, rank = rows.of(node.input[0]), rows.rank(node.input[0])
    if axes is None or rank is None:
        return None
    order = list(attributes(node).get("perm", range(rank)[::-1]))
    return frozenset(order.index(axis) for axis in axes)


def _along_one(rows: _Rows, node: NodeProto) -> Axes | None:
    """Return the axes after what works along one axis, where rows are not on that one."""
    rank = rows.rank(node.output[0])
    axes = {rows.of(name) for name in node.input if rows.rank(name) == rank}
    if rank is None or len(axes) != 1:
        return None
    (found,) = axes
    axis = int(attributes(node).get("axis", 0)) % rank
    return None if found is None or axis in found else found


def _softmax(rows: _Rows, node: NodeProto) -> Axes | None:
    return rows.of(node.input[0])  # along rows, too: each is divided by the sum over all


def _slice(rows: _Rows, node: NodeProto) -> Axes | None:
    axes = rows.of(node.input[0])
    before, after = rows.facts.shape(node.input[0]), rows.facts.shape(node.output[0])
    if axes is None or before is None or after is None:
        return None
    steps = rows.facts.integers(node.input[4]) if len(node.input) > 4 else [1]
    same = all(before[axis] == after[axis] for axis in axes)
    return axes if same and steps is not None and min(steps) > 0 else None


def _gather(rows: _Rows, node: NodeProto) -> Axes | None:
    data, indices = rows.of(node.input[0]), rows.of(node.input[1])
    rank, width = rows.rank(node.input[0]), rows.rank(node.input[1])
    if data is None or indices is None:
        return None
    axis = int(attributes(node).get("axis", 0))
    if rank is None or width is None:
        # Of unknown size are rows of NonMaxSuppression; columns are picked by a single index.
        array = rows.facts.array(node.input[1])
        single = array is not None and array.ndim == 0
        return data if single and axis == 1 and data == frozenset({0}) else None
    axis %= rank
    if axis in data:
        return None
    moved = {item if item < axis else item + width - 1 for item in data}
    return frozenset(moved | {axis + item for item in indices})


def _gather_elements(rows: _Rows, node: NodeProto) -> Axes | None:
    data, rank = rows.of(node.input[0]), rows.rank(node.input[0])
    if data is None or rank is None:
        return None
    axis = int(attributes(node).get("axis", 0)) % rank
    indices = rows.of(node.input[1])
    if axis in data or (data and data != indices):
        return None
    return indices


def _gather_nd(rows: _Rows, node: NodeProto) -> Axes | None:
    data, indices, width = rows.of(node.input[0]), rows.of(node.input[1]), rows.rank(node.input[1])
    if data != _FREE or indices is None or width is None or width - 1 in indices:
        return None
    return indices


def _matmul(rows: _Rows, node: NodeProto) -> Axes | None:
    first, second = rows.of(node.input[0]), rows.of(node.input[1])
    ranks = rows.rank(node.input[0]), rows.rank(node.input[1])
    if first is None or second is None or None in ranks:
        return None
    left, right = (rank for rank in ranks if rank is not None)
    if min(left, right) < 2:
        return None
    if (left - 1 in first) != (right - 2 in second):
        return None  # a sum over rows with a weight for each place
    whole = max(left, right)
    found = {axis + whole - left for axis in first if axis != left - 1}
    found |= {axis + whole - right for axis in second if axis != right - 2}
    batch = {axis for axis in found if axis < whole - 2}
    same = {axis + whole - left for axis in first if axis < left - 2} == {
        axis + whole - right for axis in second if axis < right - 2
    }
    return frozenset(found) if not batch or same else None


def _gemm(rows: _Rows, node: NodeProto) -> Axes | None:
    others = [rows.of(name) for name in node.input[1:]]
    first = rows.of(node.input[0])
    known = first == frozenset({0}) and all(axes == _FREE for axes in others)
    return first if known and not attributes(node).get("transA", 0) else None


def _layer_norm(rows: _Rows, node: NodeProto) -> Axes | None:
    first, rank = rows.of(node.input[0]), rows.rank(node.input[0])
    if first is None or rank is None:
        return None
    axis = int(attributes(node).get("axis", -1)) % rank
    return first if all(item < axis for item in first) else None


def _reduce(rows: _Rows, node: NodeProto) -> Axes | None:
    axes, rank = rows.of(node.input[0]), rows.rank(node.input[0])
    given = attributes(node)
    over = given.get("axes")
    if len(node.input) > 1 and node.input[1]:
        over = rows.facts.integers(node.input[1])
    if axes is None or rank is None or over is None:
        return None
    gone = {int(axis) % rank for axis in over}
    return _without(axes - gone, gone, keep=bool(given.get("keepdims", 1)))


def _arg_max(rows: _Rows, node: NodeProto) -> Axes | None:
    axes, rank = rows.of(node.input[0]), rows.rank(node.input[0])
    given = attributes(node)
    if axes is None or rank is None:
        return None
    axis = int(given.get("axis", 0)) % rank
    if axis in axes:
        return None
    return _without(axes, {axis}, keep=bool(given.get("keepdims", 1)))


def _without(axes: Axes, gone: set[int], *, keep: bool) -> Axes:
    """Return the axes after others are gone."""
    return axes if keep else frozenset(axis - sum(item < axis for item in gone) for axis in axes)


def _expand(rows: _Rows, node: NodeProto) -> Axes | None:
    axes = rows.of(node.input[0])
    before, after = rows.facts.shape(node.input[0]), rows.facts.shape(node.output[0])
    if axes is None or before is None or after is None:
        return None
    moved = {axis: axis + len(after) - len(before) for axis in axes}
    same = all(before[axis] == after[place] for axis, place in moved.items())
    return frozenset(moved.values()) if same else None


def _grid_sample(rows: _Rows, node: NodeProto) -> Axes | None:
    grid = rows.of(node.input[1])
    if rows.of(node.input[0]) != _FREE or grid is None or not grid <= {1, 2}:
        return None
    return frozenset(axis + 1 for axis in grid)


_RULES: dict[str, Callable[[_Rows, NodeProto], Axes | None]] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Concat", "Split"), _along_one),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(_REDUCING, _reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg_max),
    **dict.fromkeys(("Expand", "Tile"), _expand),
    "Transpose": _transpose,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "GridSample": _grid_sample,
}
