"""What the nodes of an ONNX file are, where they came from, and what reads their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeconv.convert.onnx.light import load_light_graph
from edgeconv.convert.onnx.origin import origin_of


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value of an ONNX graph comes from.

    Attributes:
        op: Operator type.
        node: Name of the node.
        module: Path of the PyTorch module, ``""`` where unknown.
        source: ``file:line`` in the PyTorch source, ``""`` where unknown.
        readers: Values that are computed from it directly.
    """

    op: str
    node: str
    module: str
    source: str
    readers: tuple[str, ...]


def origins(path: Path) -> dict[str, Origin]:
    """Return the origin of every value that a node of an ONNX file makes, in the file's order."""
    graph = load_light_graph(path).graph
    found = {}
    for node in graph:
        if node.op_type == "Constant":
            continue
        module, source = origin_of(node)
        for output in node.outputs:
            readers = tuple(
                str(result.name) for user, _ in output.uses() for result in user.outputs
            )
            name = node.name or str(output.name)
            found[str(output.name)] = Origin(node.op_type, name, module, source, readers)
    return found


def became(value: str, graph: Mapping[str, Origin], matched: Mapping[str, object]) -> str:
    """Return the nearest matched value that a value goes into, ``""`` where there is none."""
    queue, seen = [value], {value}
    while queue:
        name = queue.pop(0)
        if name in matched:
            return name
        fresh = [item for item in graph[name].readers if item not in seen and item in graph]
        seen.update(fresh)
        queue += fresh
    return ""
