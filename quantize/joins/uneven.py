"""Write what makes values of different ranges side by side as operators of their own, joined again.

``y * [320, 320, 320, 320, 1]``, ``where(mask, boxes, scores)`` and a last layer whose channels are
boxes and scores do what a join does. Written as one, with an operator for each run of positions,
the ranges can be kept apart as those of any join are; see `apart`.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.metrics.parts import divide
from edgeconv.quantize.joins.joins import BINARY, JOINS, UNARY
from edgeconv.quantize.joins.moves import MOVES, data_slot
from edgeconv.quantize.joins.widths import differ, few
from edgeconv.quantize.rules.names import concatenation, slice_of
from edgeconv.quantize.rules.precision import BITS, Precision
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

_SELECTS = ("SELECT", "SELECT_V2")

_LAYERS = ("CONV_2D", "FULLY_CONNECTED")
"""Operators with a row of weights and a bias for each channel, the last axis of the output."""

_LAYER_RATIO = 32.0
"""Channels of one layer may differ by some 8 to 1 by chance; with more a common scale has less than
eight steps for the small ones."""

_MOST = 8
"""A constant whose runs are more is no list of parts: it scales each position in its own way."""


@dataclass(frozen=True, slots=True)
class _Site:
    """An operator with constants that vary along one axis of its output.

    Attributes:
        operator: The operator.
        axis: The axis.
        starts: Where they change along it, 0 included; empty where that is everywhere.
    """

    operator: OperatorT
    axis: int
    starts: tuple[int, ...] = ()


def joined(
    graph: Graph,
    precisions: Sequence[Precision],
    feeds: Sequence[Sequence[Array]],
    given: Collection[int] = (),
    *,
    layers: bool = True,
) -> list[Precision]:
    """Write what leads to the outputs as joins where constants make ranges differ, in place.

    Args:
        graph: The float graph, lowered.
        precisions: The precision of each operator.
        feeds: Per sample the graph's inputs, in the stored form.
        given: Tensors that have a scale already, which their model has learnt to live with.
        layers: Whether layers are taken apart by their channels, too.

    Returns:
        The precision of each operator, as they then are.
    """
    whole = {
        id(operator)
        for operator, precision in zip(graph.operators, precisions, strict=True)
        if precision in BITS and not set(given) & set(operator.outputs)
    }
    sites = [
        site for site in _sites(graph) if id(site.operator) in whole and (layers or site.starts)
    ]
    runs = dict(_apart(graph, sites, feeds)) if sites else {}
    if not runs:
        return list(precisions)
    operators: list[OperatorT] = []
    found: list[Precision] = []
    places = {id(site.operator): site for site in sites if site.operator.outputs[0] in runs}
    for operator, precision in zip(graph.operators, precisions, strict=True):
        site = places.get(id(operator))
        made = [operator] if site is None else _written(graph, site, runs[operator.outputs[0]])
        operators += made
        found += [precision] * len(made)
    graph.subgraph.operators = operators
    return found


def _sites(graph: Graph) -> list[_Site]:
    """Return the sites whose values go to one output each, and meet others in joins alone."""
    producers, readers = graph.producers(), graph.consumers()
    waiting = [index for index in graph.outputs if index not in readers]
    found: list[_Site] = []
    while waiting:
        index = waiting.pop()
        operator = producers.get(index)
        if operator is None or not graph.is_float(index):
            continue
        site = _site(graph, operator)
        found += [] if site is None else [site]
        waiting += [
            source
            for source in _passed(graph, operator, site)
            if len(readers.get(source, ())) == 1 and source not in graph.outputs
        ]
    return found


def _passed(graph: Graph, operator: OperatorT, site: _Site | None) -> list[int]:
    """Return the computed tensors whose values an operator passes on, each by itself."""
    name = graph.op(operator)
    computed = [index for index in operator.inputs if graph.is_activation(index)]
    if name in MOVES:
        return [operator.inputs[data_slot(graph, operator)]]
    if name in JOINS or name in UNARY:
        return computed
    if name in BINARY or name in _SELECTS:
        return computed if len(computed) == 1 or site is not None else []
    return []


def _site(graph: Graph, operator: OperatorT) -> _Site | None:
    """Return an operator with constants along one axis; ``None`` if it has none."""
    name, shape = graph.op(operator), graph.shape(operator.outputs[0])
    if name in _LAYERS:
        return _Site(operator, len(shape) - 1) if _is_layer(graph, operator) else None
    if name in _SELECTS:
        whole = name == "SELECT_V2" or graph.shape(operator.inputs[0]) == shape
        slots = operator.inputs[:1] if whole else []
    else:
        slots = operator.inputs if name in BINARY else []
    for index in slots:
        if graph.is_constant(index) and graph.value(index).size > 1:
            return _varied(operator, np.broadcast_to(graph.value(index), shape))
    return None


def _is_layer(graph: Graph, operator: OperatorT) -> bool:
    """Tell whether each channel of a layer has constants of its own, and reads all of the input."""
    source, weights, *_ = operator.inputs
    if not all(map(graph.is_constant, operator.inputs[1:])):
        return False
    # A convolution in groups has filters of fewer channels than its input.
    grouped = graph.shape(source)[-1:] != graph.shape(weights)[-1:]
    return graph.op(operator) != "CONV_2D" or not grouped


def _varied(operator: OperatorT, value: Array) -> _Site | None:
    """Return the site of a constant in the output's shape; ``None`` where several axes tell."""
    varied = [axis for axis in range(value.ndim) if (value != np.take(value, [0], axis)).any()]
    if len(varied) != 1:
        return None
    row = np.moveaxis(value, varied[0], 0).reshape(value.shape[varied[0]], -1)[:, 0]
    changes = np.flatnonzero(row[1:] != row[:-1]) + 1
    return _Site(operator, varied[0], (0, *changes.tolist()))


def _apart(
    graph: Graph, sites: Sequence[_Site], feeds: Sequence[Sequence[Array]]
) -> Iterable[tuple[int, list[int]]]:
    """Yield by output where runs start whose ranges one scale cannot hold together."""
    seen: dict[int, list[Array]] = {site.operator.outputs[0]: [] for site in sites}
    runner = Runner(graph, seen)
    for feed in few(feeds):
        runner.show(feed, lambda index, values: seen[index].append(values.copy()))
    for site in sites:
        index = site.operator.outputs[0]
        values = np.stack(seen[index])
        starts = _runs(values, site) if site.starts else _kinds(values, site.axis)
        if 1 < len(starts) <= _MOST:
            yield index, starts


def _runs(values: Array, site: _Site) -> list[int]:
    """Return the starts of runs of constants, of values ``[sample, *output shape]``."""
    rows = np.moveaxis(values, site.axis + 1, 0).reshape(values.shape[site.axis + 1], -1)
    wide = rows.max(axis=1).clip(0) - rows.min(axis=1).clip(None, 0)
    return _merged(site.starts, np.maximum.reduceat(wide, site.starts).tolist())


def _kinds(values: Array, axis: int) -> list[int]:
    """Return the starts of kinds of channels, as parity sees them; none where they are no runs."""
    parts = divide(values)
    slices = [part.slices[0] for part in parts]
    whole = all(one.axis == axis and one.block == one.step for one in slices)
    peaks = [float(np.abs(part.select(values)).max()) for part in parts]
    kept = whole and peaks and min(peaks) * _LAYER_RATIO < max(peaks)
    return sorted(one.start for one in slices) if kept else []


def _merged(starts: Sequence[int], wide: Sequence[float]) -> list[int]:
    """Return the starts of neighbours taken together as far as one scale holds them."""
    found: list[int] = []
    run: list[float] = []
    for start, width in zip(starts, wide, strict=True):
        if not found or differ([*run, width]):
            found.append(start)
            run = []
        run.append(width)
    return found


def _written(graph: Graph, site: _Site, starts: Sequence[int]) -> list[OperatorT]:
    """Return the operators on runs and their join, in the place of one operator."""
    output = site.operator.outputs[0]
    ends = [*starts[1:], graph.shape(output)[site.axis]]
    made: list[OperatorT] = []
    parts = [_part(graph, site, run, made) for run in zip(starts, ends, strict=True)]
    return [*made, concatenation(graph, parts, site.axis, output)]


def _part(graph: Graph, site: _Site, run: tuple[int, int], made: list[OperatorT]) -> int:
    """Add what computes a run of positions; return where it is."""
    operator, shape = site.operator, list(graph.shape(site.operator.outputs[0]))
    shape[site.axis] = run[1] - run[0]
    if graph.op(operator) in _SELECTS:
        mask = _constant(graph, operator.inputs[0], site, run)
        if mask.all() or not mask.any():
            branch = operator.inputs[1 if mask.all() else 2]
            taken = _taken(graph, branch, site, run, made)
            if graph.shape(taken) == tuple(shape):
                return taken
    one = copy.copy(operator)
    one.builtinOptions = copy.copy(operator.builtinOptions)
    one.inputs = [_taken(graph, index, site, run, made) for index in operator.inputs]
    name = f"{graph.name(operator.outputs[0])}/run_{run[0]}"
    one.outputs = [graph.add_activation(name, shape, "float32")]
    made.append(one)
    return int(one.outputs[0])


def _own_axis(graph: Graph, index: int, site: _Site) -> int | None:
    """Return an operand's axis that has the runs; ``None`` where all take the whole of it."""
    if not site.starts:
        return 0 if graph.is_constant(index) else None
    rank = len(graph.shape(site.operator.outputs[0]))
    axis = site.axis - rank + len(graph.shape(index))
    return axis if axis >= 0 and graph.shape(index)[axis] > 1 else None


def _constant(graph: Graph, index: int, site: _Site, run: tuple[int, int]) -> Array:
    axis = _own_axis(graph, index, site)
    value = graph.value(index)
    return value if axis is None else np.take(value, range(*run), axis)


def _taken(
    graph: Graph, index: int, site: _Site, run: tuple[int, int], made: list[OperatorT]
) -> int:
    """Return a run of an operand, which is added where it has to be cut out."""
    axis = _own_axis(graph, index, site) if index >= 0 else None
    if axis is None:
        return index
    if graph.is_constant(index):
        name = f"{graph.name(index)}/run_{run[0]}_{len(graph.tensors)}"
        return graph.add_constant(name, _constant(graph, index, site, run))
    begin, sizes = [0] * len(graph.shape(index)), list(graph.shape(index))
    begin[axis], sizes[axis] = run[0], run[1] - run[0]
    made.append(slice_of(graph, index, begin, sizes))
    return int(made[-1].outputs[0])
