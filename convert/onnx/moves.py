"""Elements followed back through the operators of ONNX that only move them.

A value's elements carry numbers, -1 for those that are of no interest. `moved_back` says which
numbers the elements of the operator's inputs have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeconv.convert.onnx.facts import Facts, attributes

if TYPE_CHECKING:
    from onnx import NodeProto

Numbers = npt.NDArray[np.int32]
"""The number of each element of a value, -1 for none."""


@dataclass(frozen=True, slots=True)
class Moved:
    """An input of an operator.

    Attributes:
        value: Its name.
        numbers: The number that each of its elements has.
    """

    value: str
    numbers: Numbers


def moved_back(facts: Facts, node: NodeProto, value: str, numbers: Numbers) -> list[Moved] | None:
    """Return what the elements of a value were before a node moved them.

    Args:
        facts: The graph.
        node: The node that makes the value.
        value: The value's name.
        numbers: The numbers of its elements, in its shape.

    Returns:
        The inputs that have some of the numbers; ``None`` where the node does more than moving, or
        where it is not known to which place.
    """
    rule = _RULES.get(node.op_type)
    return None if rule is None else rule(facts, node, value, numbers)


def _reshape(facts: Facts, node: NodeProto, _: str, numbers: Numbers) -> list[Moved] | None:
    shape = facts.shape(node.input[0])
    if shape is None or int(np.prod(shape)) != numbers.size:
        return None
    return [Moved(node.input[0], numbers.reshape(shape))]


def _transpose(_: Facts, node: NodeProto, __: str, numbers: Numbers) -> list[Moved]:
    order = attributes(node).get("perm", range(numbers.ndim)[::-1])
    return [Moved(node.input[0], numbers.transpose(np.argsort(order)))]


def _concat(facts: Facts, node: NodeProto, _: str, numbers: Numbers) -> list[Moved] | None:
    axis = int(attributes(node)["axis"])
    shapes = [facts.shape(name) for name in node.input]
    if any(shape is None or len(shape) != numbers.ndim for shape in shapes):
        return None
    ends = np.cumsum([shape[axis] for shape in shapes if shape is not None])
    if ends[-1] != numbers.shape[axis]:
        return None
    pieces = np.split(numbers, ends[:-1], axis=axis)
    return [Moved(name, piece) for name, piece in zip(node.input, pieces, strict=True)]


def _split(facts: Facts, node: NodeProto, value: str, numbers: Numbers) -> list[Moved] | None:
    axis = int(attributes(node).get("axis", 0))
    shape = facts.shape(node.input[0])
    shapes = [facts.shape(name) for name in node.output]
    if shape is None or None in shapes:
        return None
    before = list(node.output).index(value)
    start = sum(item[axis] for item in shapes[:before] if item is not None)
    place = [slice(None)] * numbers.ndim
    place[axis] = slice(start, start + numbers.shape[axis])
    return _put(node.input[0], shape, tuple(place), numbers)


def _slice(facts: Facts, node: NodeProto, _: str, numbers: Numbers) -> list[Moved] | None:
    shape = facts.shape(node.input[0])
    given = _slice_inputs(facts, node)
    if shape is None or given is None:
        return None
    starts, ends, axes, steps = given
    place = [slice(None)] * numbers.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop: int | None = end
        if step < 0 and end < -shape[axis]:
            stop = None
        place[axis] = slice(start, stop, step)
    return _put(node.input[0], shape, tuple(place), numbers)


def _slice_inputs(facts: Facts, node: NodeProto) -> list[list[int]] | None:
    """Return starts, ends, axes and steps; ``None`` where they are not constants."""
    if len(node.input) == 1:
        given = attributes(node)
        known = [list(given.get(name, [])) for name in ("starts", "ends", "axes")]
    else:
        found = [facts.integers(name) if name else [] for name in node.input[1:]]
        if None in found:
            return None
        known = [item or [] for item in found]
    known += [[]] * (4 - len(known))
    count = len(known[0])
    return [known[0], known[1], known[2] or list(range(count)), known[3] or [1] * count]


def _gather(facts: Facts, node: NodeProto, _: str, numbers: Numbers) -> list[Moved] | None:
    shape, indices = facts.shape(node.input[0]), facts.array(node.input[1])
    if shape is None or indices is None:
        return None
    axis = int(attributes(node).get("axis", 0)) % len(shape)
    flat = indices.reshape(-1).astype(np.int64) % shape[axis]
    if np.unique(flat).size != flat.size:
        return None
    moved = numbers.reshape((*shape[:axis], flat.size, *shape[axis + 1 :]))
    return _put(node.input[0], shape, (slice(None),) * axis + (flat,), moved)


def _pad(facts: Facts, node: NodeProto, _: str, numbers: Numbers) -> list[Moved] | None:
    shape = facts.shape(node.input[0])
    given = attributes(node)
    pads = given.get("pads") if len(node.input) == 1 else facts.integers(node.input[1])
    mode = given.get("mode", b"constant")
    if shape is None or pads is None or mode != b"constant":
        return None
    axes = facts.integers(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    axes = list(range(len(shape))) if axes is None else axes
    before = dict(zip(axes, pads, strict=False))
    if min(pads) < 0:
        return None
    places = tuple(
        slice(start, start + size)
        for start, size in ((before.get(axis, 0), size) for axis, size in enumerate(shape))
    )
    padding = numbers.copy()
    padding[places] = -1
    return [Moved(node.input[0], numbers[places]), Moved("", padding)]


def _expand(facts: Facts, node: NodeProto, _: str, numbers: Numbers) -> list[Moved] | None:
    shape = facts.shape(node.input[0])
    if shape is None or int(np.prod(shape)) != numbers.size:
        return None
    return [Moved(node.input[0], numbers.reshape(shape))]


def _scatter_nd(facts: Facts, node: NodeProto, _: str, numbers: Numbers) -> list[Moved] | None:
    indices = facts.array(node.input[1])
    if indices is None or attributes(node).get("reduction", b"none") != b"none":
        return None
    place = tuple(np.moveaxis(indices.astype(np.int64), -1, 0))
    return _scattered(node, numbers, place)


def _scatter_elements(
    facts: Facts, node: NodeProto, _: str, numbers: Numbers
) -> list[Moved] | None:
    indices = facts.array(node.input[1])
    given = attributes(node)
    if indices is None or given.get("reduction", b"none") != b"none":
        return None
    axis = int(given.get("axis", 0)) % numbers.ndim
    place = list(np.indices(indices.shape))
    place[axis] = indices.astype(np.int64) % numbers.shape[axis]
    return _scattered(node, numbers, tuple(place))


def _scattered(node: NodeProto, numbers: Numbers, place: tuple[object, ...]) -> list[Moved]:
    kept = numbers.copy()
    kept[place] = -1  # type: ignore[index]  # arrays of indices and slices
    return [
        Moved(node.input[0], kept),
        Moved(node.input[2], numbers[place]),  # type: ignore[index]
    ]


def _where(facts: Facts, node: NodeProto, _: str, numbers: Numbers) -> list[Moved] | None:
    mask = facts.array(node.input[0])
    if mask is None or any(facts.shape(name) != numbers.shape for name in node.input[1:]):
        return None
    chosen = np.broadcast_to(mask.astype(np.bool_), numbers.shape)
    return [
        Moved(node.input[1], np.where(chosen, numbers, -1)),
        Moved(node.input[2], np.where(chosen, -1, numbers)),
    ]


def _put(
    value: str, shape: tuple[int, ...], place: tuple[object, ...], numbers: Numbers
) -> list[Moved] | None:
    """Return the input whose elements at a place the numbers are."""
    full = np.full(shape, -1, np.int32)
    if full[place].shape != numbers.shape:  # type: ignore[index]
        return None
    full[place] = numbers  # type: ignore[index]
    return [Moved(value, full)]


_Rule = Callable[[Facts, "NodeProto", str, Numbers], "list[Moved] | None"]

_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Expand": _expand,
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter_elements,
    "Where": _where,
}
