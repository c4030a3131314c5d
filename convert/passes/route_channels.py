"""Hand channels on without shuffling them.

Between convolutions, a net of channel shuffles, splits and concatenations only decides which
channels a convolution reads. Filters may come in any order, so each convolution before the net
makes its channels sorted by who reads them; then one split after it, and one concatenation before
each reader, whose weights follow, do the same as the whole net. ShuffleNet V2 needs two operators
for a unit that has five, and no transpose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.channel_order import Order, makers, readers, reorder_made, reorder_read
from edgeconv.convert.passes.channel_routes import Route, channels, route_of
from edgeconv.convert.passes.graph import new_constant

_FIRST_OPSET_WITH_SIZES_AS_INPUT = 13
_MOST_FIXED_SPANS = 4  # a transpose is cheaper than to join a value channel by channel


def route_channels(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of nets replaced."""
    routes = [route for node in graph if (route := route_of(node)) is not None]
    return sum(
        _replace(graph, net) for net in _nets(routes) if any(route.shuffles for route in net)
    )


def _nets(routes: Sequence[Route]) -> Iterator[list[Route]]:
    """Yield the routes that hand channels to each other, in the graph's order."""
    left = list(routes)
    while left:
        net = [left.pop(0)]
        touched = {*net[0].inputs, *net[0].outputs}
        grown = True
        while grown:
            near = [r for r in left if not touched.isdisjoint((*r.inputs, *r.outputs))]
            grown = bool(near)
            net += near
            left = [route for route in left if route not in near]
            touched.update(value for route in near for value in (*route.inputs, *route.outputs))
        yield sorted(net, key=routes.index)


@dataclass(eq=False)
class _Source:
    """A value that comes into a net.

    Attributes:
        value: The value.
        nodes: What must change with its order, or None where it cannot.
        order: The order of its channels.
        cuts: Where it is cut, in that order; the last cut is its end.
    """

    value: ir.Value
    nodes: list[ir.Node] | None
    order: Order
    cuts: set[int] = field(default_factory=set)


@dataclass(eq=False)
class _Sink:
    """A value that leaves a net.

    Attributes:
        value: The value.
        nodes: What must change with its order, or None where it cannot.
        channels: For each channel, in the value's own order, its source and channel there.
        order: The order of its channels.
        spans: The source, first and last place of what it is joined from.
    """

    value: ir.Value
    nodes: list[ir.Node] | None
    channels: list[tuple[int, int]]
    order: Order
    spans: list[tuple[int, int, int]] = field(default_factory=list)


def _replace(graph: ir.Graph, net: Sequence[Route]) -> bool:
    inside = frozenset(node for route in net for node in route.nodes)
    held: dict[ir.Value, list[tuple[int, int]]] = {}
    sources: list[_Source] = []
    sinks: list[_Sink] = []
    for route in net:
        for value in route.inputs:
            if value not in held:
                held[value] = [(len(sources), channel) for channel in range(channels(value))]
                sources.append(_source(value, inside))
        row = [channel for value in route.inputs for channel in held[value]]
        for value, picks in zip(route.outputs, route.picks, strict=True):
            held[value] = [row[place] for place in picks]
            if value.is_graph_output():
                return False
            if any(use.node not in inside for use in value.uses()):
                order = np.arange(len(picks))
                sinks.append(_Sink(value, readers(value, inside), held[value], order))
    _choose_orders(sources, sinks)
    spans = sum(len(sink.spans) for sink in sinks)
    needed = sum(len(source.cuts) > 1 for source in sources)
    needed += sum(len(sink.spans) > 1 for sink in sinks)
    if needed >= len(inside) or spans > len(inside) * 2:
        return False
    if any(sink.nodes is None and len(sink.spans) > _MOST_FIXED_SPANS for sink in sinks):
        return False
    _rebuild(graph, net, sources, sinks)
    return True


def _source(value: ir.Value, inside: frozenset[ir.Node]) -> _Source:
    alone = not value.is_graph_output() and all(use.node in inside for use in value.uses())
    return _Source(value, makers(value) if alone else None, np.arange(channels(value)))


def _choose_orders(sources: Sequence[_Source], sinks: Sequence[_Sink]) -> None:
    """Sort the channels of sources by their readers, and those of sinks as they are stored."""
    places: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for number, sink in enumerate(sinks):
        for place, channel in enumerate(sink.channels):
            where = 0 if sink.nodes is not None else place
            places.setdefault(channel, []).append((number, where))
    stored: dict[tuple[int, int], int] = {}
    for number, source in enumerate(sources):
        if source.nodes is not None:
            keys = [places.get((number, channel), []) for channel in source.order]
            source.order = np.array(sorted(source.order, key=lambda channel: keys[channel]))
        stored |= {(number, int(channel)): at for at, channel in enumerate(source.order)}
        source.cuts.add(len(source.order))
    for sink in sinks:
        where_from = [(channel[0], stored[channel]) for channel in sink.channels]
        if sink.nodes is not None:
            sink.order = np.array(sorted(sink.order, key=lambda place: where_from[place]))
        for place in sink.order:
            number, at = where_from[place]
            if sink.spans and sink.spans[-1][0] == number and sink.spans[-1][2] == at:
                sink.spans[-1] = (number, sink.spans[-1][1], at + 1)
            else:
                sink.spans.append((number, at, at + 1))
        for number, start, stop in sink.spans:
            sources[number].cuts |= {start, stop} - {0}


def _rebuild(
    graph: ir.Graph, net: Sequence[Route], sources: Sequence[_Source], sinks: Sequence[_Sink]
) -> None:
    for source in sources:
        if source.nodes is not None:
            reorder_made(graph, source.nodes, source.order)
    pieces = [_split(graph, source, net[0].nodes[0]) for source in sources]
    makers_of = {value: route.nodes[0] for route in net for value in route.outputs}
    inside = frozenset(node for route in net for node in route.nodes)
    for sink in sinks:
        parts = [
            part
            for number, start, stop in sink.spans
            for at, part in pieces[number]
            if start <= at < stop
        ]
        joined = _concat(graph, parts, sink, makers_of[sink.value])
        if sink.nodes is not None:
            reorder_read(graph, sink.nodes, sink.order)
        for use in list(sink.value.uses()):
            if use.node not in inside:
                use.node.replace_input_with(use.idx, joined)
    graph.remove([node for node in reversed(list(graph)) if node in inside], safe=True)


def _split(graph: ir.Graph, source: _Source, first: ir.Node) -> list[tuple[int, ir.Value]]:
    """Cut a source into its pieces; return where each begins, and the piece."""
    value = source.value
    ends = sorted(source.cuts)
    if len(ends) == 1:
        return [(0, value)]
    starts = [0, *ends[:-1]]
    sizes = [stop - start for start, stop in zip(starts, ends, strict=True)]
    inputs, attributes = [value], {"axis": 1}
    if graph.opset_imports.get("", 1) >= _FIRST_OPSET_WITH_SIZES_AS_INPUT:
        inputs.append(new_constant(graph, f"{value.name}.sizes", np.array(sizes, np.int64)))
        node = ir.node("Split", inputs, attributes, num_outputs=len(sizes))
    else:
        node = ir.node("Split", inputs, {**attributes, "split": sizes}, num_outputs=len(sizes))
    node.name = f"{value.name}.split"
    for number, (part, size) in enumerate(zip(node.outputs, sizes, strict=True)):
        _describe(part, f"{value.name}.part{number}", value, size)
    producer = value.producer()
    if producer is None:
        graph.insert_before(first, node)
    else:
        graph.insert_after(producer, node)
    return list(zip(starts, node.outputs, strict=True))


def _concat(graph: ir.Graph, parts: list[ir.Value], sink: _Sink, before: ir.Node) -> ir.Value:
    if len(parts) == 1:
        return parts[0]
    node = ir.node("Concat", parts, {"axis": 1}, name=f"{sink.value.name}.concat")
    suffix = "" if sink.nodes is None else ".ordered"
    _describe(node.outputs[0], f"{sink.value.name}{suffix}", sink.value, len(sink.order))
    if sink.nodes is None:
        sink.value.name = f"{sink.value.name}.replaced"
    graph.insert_before(before, node)
    return node.outputs[0]


def _describe(value: ir.Value, name: str, like: ir.Value, count: int) -> None:
    assert like.shape is not None, "only images are routed"
    value.name, value.type = name, like.type
    value.shape = ir.Shape([like.shape[0], count, *like.shape[2:]])
