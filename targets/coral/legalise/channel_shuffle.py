"""Channel shuffles folded into the weights around them.

A shuffle only renames channels. Between the convolutions that make channels and those that read
them, this follows each channel through concatenations, splits and shuffles. A convolution takes its
inputs in any order, if its weights follow; one that makes channels can make them in any order. So
each reader is given slices of what its channels come from, and each maker puts those side by side
that are read together: no channel is moved on its own. Where a channel is not read by convolutions,
the shuffle stays a transpose, which becomes slices where there are few groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgeconv.targets.coral.legalise.moves import canonical
from edgeconv.targets.coral.legalise.rewrite import NONE, GraphRewrite, Site, values
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

Channel = tuple[int, int]
"""A channel of a tensor that is not moved: the tensor and the place in it."""

_MOST_SLICES = 16
_CHANNELWISE = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "RELU", "RELU6", "PAD")


@dataclass(slots=True)
class _Flow:
    """Where channels come from.

    Attributes:
        origin: The channels of each tensor that concatenations, splits and shuffles make.
        shuffled: The tensors among them that a shuffle had a part in.
        moving: The operators that only move channels, by identity.
    """

    origin: dict[int, list[Channel]]
    shuffled: set[int]
    moving: set[int]

    def of(self, graph: Graph, index: int) -> list[Channel]:
        """Return the channels of any tensor."""
        width = graph.shape(index)[-1]
        return self.origin.get(index) or [(index, place) for place in range(width)]


def _follow(graph: Graph) -> _Flow:
    flow = _Flow({}, set(), set())
    readers = graph.consumers()
    for operator in graph.operators:
        sources = [index for index in operator.inputs if graph.is_activation(index)]
        shuffle = _shuffle(graph, operator, readers)
        if shuffle:
            (source,), out, groups = sources, shuffle[-1].outputs[0], _groups(graph, shuffle)
            channels = flow.of(graph, source)
            width = len(channels) // groups
            flow.origin[out] = [
                channels[g * width + c] for c in range(width) for g in range(groups)
            ]
            flow.shuffled.add(out)
            flow.moving |= {id(part) for part in shuffle}
        elif _moves(graph, operator):
            channels = [channel for index in sources for channel in flow.of(graph, index)]
            for out in operator.outputs:
                width = graph.shape(out)[-1]
                flow.origin[out], channels = channels[:width], channels[width:]
                flow.shuffled |= {out} if flow.shuffled.intersection(sources) else set()
            flow.moving.add(id(operator))
    return flow


def _moves(graph: Graph, operator: OperatorT) -> bool:
    name = graph.op(operator)
    if name == "CONCATENATION":
        options, index = operator.builtinOptions, operator.outputs[0]
        rank = len(graph.shape(index))
        last = rank == 4 and options.axis % rank == rank - 1
        return last and options.fusedActivationFunction == NONE and graph.is_float(index)
    if name == "SPLIT":
        axis = values(graph, operator.inputs[0])
        rank = len(graph.shape(operator.inputs[1]))
        return axis is not None and rank == 4 and int(axis.reshape(())) % rank == rank - 1
    return False


def _shuffle(
    graph: Graph, operator: OperatorT, readers: dict[int, list[OperatorT]]
) -> list[OperatorT] | None:
    """Return the RESHAPE, TRANSPOSE and RESHAPE of a shuffle that starts with an operator."""
    parts = [operator]
    for _ in range(2):
        following = readers.get(parts[-1].outputs[0], [])
        if len(following) != 1 or parts[-1].outputs[0] in graph.outputs:
            return None
        parts.append(following[0])
    if [graph.op(part) for part in parts] != ["RESHAPE", "TRANSPOSE", "RESHAPE"]:
        return None
    shape = graph.shape(operator.inputs[0])
    if len(shape) != 4 or graph.shape(parts[-1].outputs[0]) != shape:
        return None
    return parts if _groups(graph, parts) else None


def _groups(graph: Graph, parts: list[OperatorT]) -> int:
    """Return the number of a shuffle's groups; 0 where it is another transpose."""
    shape = graph.shape(parts[0].inputs[0])
    order = values(graph, parts[1].inputs[1])
    if order is None:
        return 0
    sizes, moved = canonical(graph.shape(parts[1].inputs[0]), [int(axis) for axis in order])
    if moved == [1, 0]:
        sizes, moved = [1, *sizes], [0, 2, 1]
    fits = moved == [0, 2, 1] and sizes[0] == math.prod(shape[:-1])
    return sizes[1] if fits and sizes[1] * sizes[2] == shape[-1] else 0


def _change(graph: Graph) -> list[str]:
    flow = _follow(graph)
    readers = graph.consumers()
    sinks = [index for index in flow.origin if _read(graph, flow, readers, index)]
    changed: list[str] = []
    for group in _connected(sinks, flow):
        if flow.shuffled.intersection(group) and _fold(graph, flow, readers, group):
            changed += [graph.name(index) for index in group if index in flow.shuffled]
    return changed


def _read(graph: Graph, flow: _Flow, readers: dict[int, list[OperatorT]], index: int) -> bool:
    """Tell whether more than moving operators reads a tensor."""
    others = [reader for reader in readers.get(index, []) if id(reader) not in flow.moving]
    return bool(others) or index in graph.outputs


def _connected(sinks: list[int], flow: _Flow) -> list[list[int]]:
    """Group the tensors that share sources."""
    groups: list[tuple[set[int], list[int]]] = []
    for sink in sinks:
        sources, members = {source for source, _ in flow.origin[sink]}, [sink]
        for group in [group for group in groups if group[0] & sources]:
            sources, members = sources | group[0], group[1] + members
            groups.remove(group)
        groups.append((sources, members))
    return [members for _, members in groups]


def _fold(graph: Graph, flow: _Flow, readers: dict[int, list[OperatorT]], sinks: list[int]) -> bool:
    """Give every sink its channels as slices, or change nothing and return False."""
    if not all(_takes_any_order(graph, flow, readers, sink) for sink in sinks):
        return False
    places = _places(graph, flow, readers, sinks)
    orders = {sink: _sorted(flow.origin[sink], places) for sink in sinks}
    runs = {sink: _runs([flow.origin[sink][i] for i in orders[sink]], places) for sink in sinks}
    if max(map(len, runs.values())) > _MOST_SLICES:
        return False
    producers = graph.producers()
    for source, order in places.items():
        old = sorted(order, key=order.__getitem__)
        if old != sorted(old):
            _reorder(graph, producers[source], old, output=True)
    for sink in sinks:
        first = min(
            (reader for reader in readers[sink] if id(reader) not in flow.moving),
            key=graph.operators.index,
        )
        joined = _join(graph, first, runs[sink])
        for reader in [r for r in readers[sink] if id(r) not in flow.moving]:
            reader.inputs = [joined if index == sink else index for index in reader.inputs]
            _absorb(graph, readers, reader, orders[sink])
    return True


def _takes_any_order(
    graph: Graph, flow: _Flow, readers: dict[int, list[OperatorT]], index: int
) -> bool:
    """Tell whether every reader of a tensor can follow another order of its channels."""
    if index in graph.outputs or not readers.get(index):
        return False
    for reader in readers[index]:
        name, moving = graph.op(reader), id(reader) in flow.moving
        if moving and index in flow.origin:
            continue
        if name == "CONV_2D":
            kernel = values(graph, reader.inputs[1])
            if kernel is None or kernel.shape[3] != graph.shape(index)[3]:
                return False
            continue
        channelwise = name == "DEPTHWISE_CONV_2D" and reader.builtinOptions.depthMultiplier == 1
        if not channelwise and not (name in _CHANNELWISE and _keeps_channels(graph, reader)):
            return False
        if not _takes_any_order(graph, flow, readers, reader.outputs[0]):
            return False
    return True


def _keeps_channels(graph: Graph, operator: OperatorT) -> bool:
    return graph.shape(operator.inputs[0])[-1] == graph.shape(operator.outputs[0])[-1]


def _places(
    graph: Graph, flow: _Flow, readers: dict[int, list[OperatorT]], sinks: list[int]
) -> dict[int, dict[int, int]]:
    """Return the new place of each channel of each source: side by side what is read together."""
    seen: dict[Channel, list[int]] = {}
    for number, sink in enumerate(sinks):
        for channel in flow.origin[sink]:
            seen.setdefault(channel, []).append(number)
    producers = graph.producers()
    places: dict[int, dict[int, int]] = {}
    for source in dict.fromkeys(source for source, _ in seen):
        order = list(range(graph.shape(source)[-1]))
        maker = producers.get(source)
        alone = all(id(reader) in flow.moving for reader in readers[source])
        if maker is not None and graph.op(maker) == "CONV_2D" and alone:
            order.sort(key=lambda place, of=source: seen.get((of, place), []))  # type: ignore[misc]
        places[source] = {old: new for new, old in enumerate(order)}
    return places


def _sorted(channels: list[Channel], places: dict[int, dict[int, int]]) -> list[int]:
    ranks = {source: rank for rank, source in enumerate(places)}

    def key(position: int) -> tuple[int, int]:
        source, place = channels[position]
        return ranks[source], places[source][place]

    return sorted(range(len(channels)), key=key)


def _runs(
    channels: Iterable[Channel], places: dict[int, dict[int, int]]
) -> list[tuple[int, int, int]]:
    """Return the slices (source, start, stop) that give channels in their order."""
    runs: list[tuple[int, int, int]] = []
    for source, old in channels:
        place = places[source][old]
        if runs and runs[-1][0] == source and runs[-1][2] == place:
            runs[-1] = (source, runs[-1][1], place + 1)
        else:
            runs.append((source, place, place + 1))
    return runs


def _join(graph: Graph, before: OperatorT, runs: list[tuple[int, int, int]]) -> int:
    """Emit slices and their concatenation before an operator."""
    site = Site(graph, before)
    parts = [
        source if (start, stop) == (0, graph.shape(source)[3]) else site.cut(source, 3, start, stop)
        for source, start, stop in runs
    ]
    joined = parts[0] if len(parts) == 1 else site.concat(parts, 3)
    position = graph.operators.index(before)
    graph.operators[position:position] = site.made
    return joined


def _absorb(
    graph: Graph, readers: dict[int, list[OperatorT]], operator: OperatorT, order: list[int]
) -> None:
    """Let an operator, and what depends on it, take its input channels in another order."""
    if graph.op(operator) == "CONV_2D":
        _reorder(graph, operator, order, output=False)
        return
    if graph.op(operator) == "DEPTHWISE_CONV_2D":
        _reorder(graph, operator, order, output=True)
    out = operator.outputs[0]
    for reader in readers[out]:
        _absorb(graph, readers, reader, order)


def _reorder(graph: Graph, operator: OperatorT, order: list[int], *, output: bool) -> None:
    """Reorder a convolution's weights along its input or output channels."""
    weight, bias = operator.inputs[1:3]
    depthwise = graph.op(operator) == "DEPTHWISE_CONV_2D"
    axis = 0 if output and not depthwise else 3
    name = f"{graph.name(weight)}/reordered_{len(graph.tensors)}"
    kernel = np.take(graph.value(weight), order, axis=axis)
    operator.inputs = [operator.inputs[0], graph.add_constant(name, kernel), bias]
    if output and bias >= 0:
        offsets = graph.value(bias)[order]
        operator.inputs = [*operator.inputs[:2], graph.add_constant(f"{name}/bias", offsets)]


CHANNEL_SHUFFLE = GraphRewrite(
    "channel-shuffle", _change, "a shuffle is a transpose of channels, which are often refused"
)
