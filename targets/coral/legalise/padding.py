"""Padding other than with zeros, which the Edge TPU does not know.

MIRROR_PAD becomes the border's rows, cut out and put around. PADV2 with zero is PAD; another fill
is subtracted before and added after. A fill that stands for minus infinity only keeps a max-pool
from choosing it: there the border's rows, which the same windows see anyway, do the same, and leave
the calibration its precision.
"""

from __future__ import annotations

from ai_edge_litert.schema_py_generated import MirrorPadMode

from edgeconv.core.artifacts import Array
from edgeconv.targets.coral.legalise.rewrite import VALID, GraphRewrite, Rewrite, Site, values
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_INFINITE = 1e4
_MOST_ROWS = 64


def _mirror(site: Site) -> bool | None:
    x, where = site.inputs
    amounts = values(site.graph, where)
    if amounts is None:
        return None
    pairs = {axis: (int(b), int(a)) for axis, (b, a) in enumerate(amounts) if b or a}
    if not pairs or sum(map(sum, pairs.values())) > _MOST_ROWS:
        return None
    inner = 0 if site.options.mode == MirrorPadMode.SYMMETRIC else 1
    surround(site, x, pairs, inner, site.output)
    return True


def surround(
    site: Site, x: int, pairs: dict[int, tuple[int, int]], inner: int, out: int | None = None
) -> int:
    """Put mirrored rows around; `inner` is 1 where the border's own row is not repeated."""
    for count, (axis, (before, after)) in enumerate(pairs.items(), 1):
        size = site.shape(x)[axis]
        starts = [inner + row for row in range(before - 1, -1, -1)]
        stops = [size - 1 - inner - row for row in range(after)]
        head = [site.cut(x, axis, row, row + 1) for row in starts]
        tail = [site.cut(x, axis, row, row + 1) for row in stops]
        x = site.concat([*head, x, *tail], axis, out=out if count == len(pairs) else None)
    return x


def _constant(site: Site) -> bool | None:
    graph, (x, where, filled) = site.graph, site.inputs
    fill, amounts = values(graph, filled), values(graph, where)
    if fill is None or amounts is None or abs(float(fill.reshape(()))) > _INFINITE:
        return None
    value = float(fill.reshape(()))
    shape = site.shape(site.output)
    operands = (where,)
    if value == 0:
        site.emit("PAD", (x, *operands), shape, "PadOptions", out=site.output)
        return True
    lowered = site.binary("ADD", x, site.constant(-value))
    padded = site.emit("PAD", (lowered, *operands), shape, "PadOptions")
    site.binary("ADD", padded, site.constant(value), out=site.output)
    return True


def _infinite(graph: Graph) -> list[str]:
    readers, changed = graph.consumers(), []
    operators: list[OperatorT] = []
    for operator in graph.operators:
        pairs = _hidden(graph, operator, readers.get(operator.outputs[0], []))
        site = Site(graph, operator)
        if pairs:
            surround(site, operator.inputs[0], pairs, 0, site.output)
            changed.append(graph.label(operator))
        operators += site.made if pairs else [operator]
    graph.subgraph.operators = operators
    return changed


def _hidden(
    graph: Graph, operator: OperatorT, readers: list[OperatorT]
) -> dict[int, tuple[int, int]] | None:
    """Return the amounts of a PADV2 that no reader can tell from mirrored rows."""
    if graph.op(operator) != "PADV2" or operator.outputs[0] in graph.outputs:
        return None
    amounts, fill = (values(graph, index) for index in operator.inputs[1:3])
    if amounts is None or fill is None or float(fill.reshape(())) > -_INFINITE or not readers:
        return None
    if not all(_covers(graph, reader, amounts) for reader in readers):
        return None
    return {axis: (int(b), int(a)) for axis, (b, a) in enumerate(amounts) if b or a}


def _covers(graph: Graph, reader: OperatorT, amounts: Array) -> bool:
    """Tell whether every window on the padding of an image also covers the mirrored rows."""
    options = reader.builtinOptions
    if graph.op(reader) != "MAX_POOL_2D" or options.padding != VALID or amounts.shape[0] != 4:
        return False
    sizes = (0, options.filterHeight, options.filterWidth, 0)
    return all(2 * max(map(int, pair)) <= size for pair, size in zip(amounts, sizes, strict=True))


PADDING = (
    GraphRewrite("max-pool-padding", _infinite, "PADV2, padding with -inf, is not supported"),
    Rewrite("constant-padding", ("PADV2",), _constant, "PADV2 is not supported"),
    Rewrite("mirror-padding", ("MIRROR_PAD",), _mirror, "MIRROR_PAD is not supported"),
)
