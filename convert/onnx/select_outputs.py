"""Return fewer outputs of an ONNX model, and under other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.convert.onnx.file import describe_onnx
from edgeconv.core.artifacts import Artifact
from edgeconv.core.errors import UsageError
from edgeconv.core.wording import named

if TYPE_CHECKING:
    import onnx_ir as ir


def chosen_outputs(known: Sequence[str], choices: Sequence[str]) -> dict[str, str]:
    """Return the new name of each output that is chosen, by the one that it has, in their order.

    Args:
        known: The names of the model's outputs.
        choices: ``NAME`` or ``NAME=NEW``; the place of an output, from 0, stands for its name.

    Raises:
        UsageError: A choice names no output, or two have one name.
    """
    found: dict[str, str] = {}
    for choice in choices:
        name, equals, new = (part.strip() for part in choice.partition("="))
        if name not in known and name.isdecimal() and int(name) < len(known):
            name = known[int(name)]
        if name not in known:
            raise UsageError(
                f"{named('outputs')} {choice} names no output of the model",
                why="its outputs are " + ", ".join(known),
                hint="write it as NAME, NAME=NEW, or with the place of the output: 0=NEW",
            )
        if equals and not new:
            raise UsageError(
                f"{named('outputs')} {choice} has no new name", hint=f"write {name}=NEW"
            )
        if name in found:
            raise UsageError(f"{named('outputs')} names {name} twice")
        found[name] = new or name
    twice = {new for new in found.values() if list(found.values()).count(new) > 1}
    if twice:
        raise UsageError(
            f"{named('outputs')} gives two outputs one name", why=", ".join(sorted(twice))
        )
    return found


def select_outputs(path: Path, names: Mapping[str, str]) -> Artifact:
    """Rewrite an ONNX file so that it returns some of its outputs, renamed.

    What only the other outputs need is removed.

    Args:
        path: The file.
        names: New names by the present ones, in the order that is wanted.

    Raises:
        UsageError: A new name is that of an input.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    model = ir.load(path)
    graph = model.graph
    values = {str(value.name): value for value in graph.outputs}
    for new in names.values():
        if any(value.name == new for value in graph.inputs) and names.get(new) != new:
            raise UsageError(f"{named('outputs')} gives the name {new}, which an input has")
    _make_room(graph, values, names)
    graph.outputs[:] = [_renamed(graph, values[name], new) for name, new in names.items()]
    RemoveUnusedNodesPass()(model)
    draft = path.with_name(f".{path.name}.selected")
    ir.save(model, draft)
    draft.replace(path)
    return describe_onnx(path)


def _renamed(graph: ir.Graph, value: ir.Value, name: str) -> ir.Value:
    """Return an output under another name; what is no node's stays, and gets a copy."""
    import onnx_ir as ir

    if value.name != name and value.producer() is None:
        copy = ir.node("Identity", [value])
        graph.append(copy)
        copy.outputs[0].shape, copy.outputs[0].type = value.shape, value.type
        value = copy.outputs[0]
    value.name = name
    return value


def _make_room(graph: ir.Graph, outputs: Mapping[str, ir.Value], names: Mapping[str, str]) -> None:
    """Rename what has a name that an output is to have."""
    wanted = {new for name, new in names.items() if new != name}
    chosen = {id(outputs[name]) for name in names}
    for node in graph:
        for value in node.outputs:
            if value.name in wanted and id(value) not in chosen:
                value.name = f"{value.name}_inside"
