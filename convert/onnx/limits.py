"""Refuse ONNX models that are small and stand for something huge, before native code expands them.

Functions of a model may call each other: 2 kB of them double into millions of nodes, all of which
the checker and shape inference visit. And a shape is only a number: an operator with a constant
shape may return terabytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.core.errors import InvalidModel
from edgeconv.core.sniff import truncated
from edgeconv.core.wording import named

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TypeProto

_NODES = 100_000
_NODES_PER_NODE = 100
"""Nodes after expanding functions: some, and a multiple of those in the file."""

_MOST_NODES = 50_000
"""Nodes that are converted; the largest models that exporters write have some ten thousand."""

_VALUE_BYTES = 512 << 20
_VALUE_PER_GIVEN = 64
_LARGEST_VALUE = (1 << 31) - 1
"""Bytes of one value: some, or a multiple of inputs and weights; TFLite's sizes have 31 bits."""

_Key = tuple[str, str, str]


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Turn what only a damaged file provokes into an error: a name that is no text, a wrong type.

    Raises:
        InvalidModel: There was one.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise InvalidModel(
            "a name in the ONNX file is not UTF-8",
            where=str(path),
            why=str(error),
            hint="export it again; protobuf takes no other text",
        ) from error
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise truncated(path, "ONNX file") from error


def require_known_opset(model: ModelProto, where: str) -> None:
    """Require an opset that the installed onnx knows: in a later one operators may mean anything.

    Raises:
        InvalidModel: It is another.
    """
    import onnx

    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and not 0 < entry.version <= newest:
            raise InvalidModel(
                f"opset {entry.version} is not known",
                where=where,
                why=f"onnx {onnx.__version__} knows 1 to {newest}",
                hint=f"export it with opset {newest} or an earlier one, or install a newer onnx",
            )


def require_bounded(model: ModelProto, where: str) -> None:
    """Require the model not to grow beyond measure when its functions are expanded.

    Raises:
        InvalidModel: It does, or a function calls itself.
    """
    if not model.functions:
        return
    bodies = {
        (function.domain, function.name, function.overload): function.node
        for function in model.functions
    }
    written = sum(1 for nodes in (model.graph.node, *bodies.values()) for _ in _nodes(nodes))
    expanded = _Expansion(bodies, where).of(model.graph.node)
    if expanded > _NODES + _NODES_PER_NODE * written:
        raise InvalidModel(
            "the functions of the model expand beyond measure",
            where=where,
            why=f"its {written:,} nodes call each other until there are {_count(expanded)}",
            hint="no exporter writes that; do not trust this file",
        )


class _Expansion:
    """Counts the nodes that calls stand for, each function once."""

    def __init__(self, bodies: Mapping[_Key, object], where: str) -> None:
        self._bodies = bodies
        self._where = where
        self._sizes: dict[_Key, int] = {}
        self._open: set[_Key] = set()

    def of(self, nodes: object) -> int:
        """Return the number of nodes after expansion."""
        # Calls nest as deep as there are functions; Python's stack holds fewer.
        calls = {key: list(self._called(body)) for key, body in self._bodies.items()}
        for key in self._bodies:
            self._visit(key, calls)
        return sum(self._sizes.get(key, 1) for key in self._called(nodes))

    def _called(self, nodes: object) -> Iterator[_Key]:
        for node in _nodes(nodes):
            yield node.domain, node.op_type, node.overload

    def _visit(self, first: _Key, calls: Mapping[_Key, list[_Key]]) -> None:
        waiting = [first]
        while waiting:
            key = waiting[-1]
            if key in self._sizes:
                waiting.pop()
                continue
            missing = [one for one in calls[key] if one in calls and one not in self._sizes]
            if missing and key in self._open:
                raise InvalidModel(
                    "a function of the model calls itself",
                    where=f"{self._where}, function {key[1]!r}",
                    hint="ONNX has no recursion; do not trust this file",
                )
            if missing:
                self._open.add(key)
                waiting += missing
                continue
            self._sizes[key] = 1 + sum(self._sizes.get(one, 1) for one in calls[key])
            waiting.pop()


def require_convertible(model: ModelProto, where: str) -> None:
    """Require no more nodes than are converted in minutes.

    Raises:
        InvalidModel: There are more.
    """
    count = sum(1 for _ in _nodes(model.graph.node))
    if count > _MOST_NODES:
        raise InvalidModel(
            f"the model has {count:,} nodes",
            where=where,
            why=f"more than {_MOST_NODES:,} are not converted: TensorFlow's converter, which takes "
            "part, would take hours",
            hint="export it with loops of fewer steps, or as several models",
        )


def require_room(model: ModelProto, given: int, where: str) -> None:
    """Require the size of every value to be one that the model's inputs and weights explain.

    Args:
        model: The model, its shapes inferred.
        given: Bytes of its weights.
        where: What errors name.

    Raises:
        InvalidModel: A value would take more.
    """
    makers = {name: node for node in _nodes(model.graph.node) for name in node.output}
    inputs = sum(_bytes(value.type) for value in model.graph.input)
    limit = min(max(_VALUE_BYTES, _VALUE_PER_GIVEN * (given + inputs)), _LARGEST_VALUE)
    for graph in _graphs(model.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            size = _bytes(value.type)
            if size <= limit:
                continue
            node = makers.get(value.name)
            shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            name = f"node {node.name or node.op_type!r}" if node else f"input {value.name!r}"
            raise InvalidModel(
                f"the value {value.name!r} would take {size / 2**30:,.1f} GiB",
                where=f"{where}, {name}",
                why=f"its shape is {shape}, and at most {limit / 2**30:.1f} GiB are plausible",
                hint="check the constants that this shape comes from, or give a smaller "
                f"{named('input_shapes')}",
            )


def require_small_inputs(sizes: Mapping[str, int], where: str) -> None:
    """Require inputs, by their number of bytes, to fit into what TFLite can hold.

    Raises:
        InvalidModel: One is larger.
    """
    for name, size in sizes.items():
        if size > _LARGEST_VALUE:
            raise InvalidModel(
                f"the input {name!r} would take {size / 2**30:,.1f} GiB",
                where=where,
                why="a tensor of TFLite has less than 2 GiB",
                hint=f"give a smaller {named('input_shapes')}",
            )


def _bytes(kind: TypeProto) -> int:
    """Return the bytes of a tensor whose shape is known; 0 of any other value."""
    import onnx

    tensor = kind.tensor_type
    if not tensor.elem_type or not tensor.HasField("shape"):
        return 0
    sizes = [dim.dim_value if dim.HasField("dim_value") else 1 for dim in tensor.shape.dim]
    try:
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    except (KeyError, TypeError, ValueError):  # a type that this version does not know
        return 0
    return math.prod(max(size, 0) for size in sizes) * itemsize


def _nodes(nodes: object) -> Iterator[NodeProto]:
    """Yield nodes and those of their subgraphs."""
    for node in nodes:  # type: ignore[attr-defined]  # a repeated field
        yield node
        for graph in _subgraphs(node):
            yield from _nodes(graph.node)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in _nodes(graph.node):
        yield from _subgraphs(node)


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**12 else f"more than 10^{len(str(number)) - 1}"
