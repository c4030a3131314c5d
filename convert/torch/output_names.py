"""Name the outputs of a PyTorch model after the fields that it returns them in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir

# What ONNX, TensorFlow's scopes and the command line all take, in TensorFlow's first place too.
_FOREIGN = re.compile(r"[^A-Za-z0-9_]")


def field_names(outputs: Any, inputs: Collection[str] = ()) -> list[str]:
    """Return the name of each output that lies in a named field.

    Keys of mappings, fields of named tuples and of registered dataclasses are names; with the
    places in plain tuples and lists between them they are joined by ``_``.

    Args:
        outputs: What the model returns.
        inputs: Names that are taken.

    Returns:
        For each leaf in PyTorch's order its name, or ``""`` where no field around it has one;
        None is left out. Names are unique and made of ``[A-Za-z0-9_]``.
    """
    names: list[str] = []
    for path in _paths(outputs, ()):
        name = ""
        if not all(isinstance(part, int) for part in path):
            name = _FOREIGN.sub("_", "_".join(map(str, path)))
            name = name if name[:1].isalpha() else f"output_{name.lstrip('_')}".rstrip("_")
            name = f"{name}_output" if name in inputs else name
        while name and (name in names or name in inputs):
            name += "_"
        names.append(name)
    return names


def _paths(value: Any, path: tuple[int | str, ...]) -> Iterator[tuple[int | str, ...]]:
    """Yield the path of each leaf; a place in a sequence is an int, anything else has a name."""
    from torch.utils import _pytree as pytree

    children, tree = pytree.tree_flatten(value, is_leaf=lambda item: item is not value)
    if tree.is_leaf():
        if value is not None:
            yield path
        return
    for child, key in zip(children, _keys(value, tree, len(children)), strict=True):
        yield from _paths(child, (*path, key))


def _keys(value: Any, tree: Any, count: int) -> list[int | str]:
    """Return what names each child of a container."""
    from torch.utils import _pytree as pytree

    try:
        keyed, _ = pytree.tree_flatten_with_path(value, is_leaf=lambda item: item is not value)
    except ValueError:  # registered without keys; as a rule the context is their list
        context = tree.context
        if isinstance(context, (list, tuple)) and len(context) == count:
            return [str(key) for key in context]
        return list(range(count))
    return [_key(path[0]) for path, _ in keyed]


def _key(key: Any) -> int | str:
    if hasattr(key, "idx"):
        return int(key.idx)
    return str(getattr(key, "name", getattr(key, "key", key)))


def name_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Give the outputs of a graph their names; other values that have one get another.

    Args:
        graph: The graph; each output is a value of its own.
        names: A name for each output; ``""`` keeps the one that it has, unless that is taken.
    """
    outputs = list(graph.outputs)
    if len(outputs) != len(names):
        return
    wanted = {
        id(value): name
        for value, name in zip(outputs, names, strict=True)
        if name and not value.is_graph_input()
    }
    values = [*graph.initializers.values()]
    values += [value for node in graph.all_nodes() for value in node.outputs]
    taken = set(wanted.values())
    present = {str(value.name) for value in (*graph.inputs, *values)} | taken
    for value in values:
        # An output leaves its old name first, which may be the new one of another.
        if value.name in taken or id(value) in wanted:
            value.name = _free(f"{value.name}_inner", present)
    for value in outputs:
        value.name = wanted.get(id(value), value.name)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
