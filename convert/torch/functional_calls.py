"""The calls of an exported program as calls that change none of their arguments."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node


_ASSERTIONS = ("aten::_assert", "aten::_linalg_check_errors")


class Declined(Exception):
    """The program has something that only PyTorch's own decomposition handles."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an operator that changes none of its arguments.

    Attributes:
        node: The node that it stands for.
        target: The operator.
        inputs: The nodes among the arguments, each once.
        key: Equal for calls that decompose alike.
        overwritten: The values that `node` takes the place of from here on.
    """

    node: Node
    target: Any
    inputs: tuple[Node, ...]
    key: str
    overwritten: tuple[Node, ...] = ()


def functional_calls(graph: Graph) -> dict[Node, Call]:
    """Return the calls of a graph, functional, by their nodes; assertions are left out."""
    calls = {}
    same: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        schema = node.target._schema
        if schema.name.startswith(_ASSERTIONS):
            continue
        inputs = tuple(dict.fromkeys(node.all_input_nodes))
        target: Any = node.target
        overwritten: tuple[Node, ...] = ()
        if _is_idle_dropout(node):
            target = _twin(node)
        elif schema.is_mutable:
            target = _twin(node)
            shared = same.setdefault(node.args[0], [node.args[0]])
            _require_own(node, shared)
            overwritten = tuple(shared)
            shared.append(node)
            same[node] = shared
        calls[node] = Call(node, target, inputs, _key(node, target, inputs), overwritten)
    return calls


def without_assertions(program: ExportedProgram) -> ExportedProgram:
    """Return a program, changed in place, without the checks that return nothing."""
    graph = program.graph
    for node in list(graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.name.startswith(_ASSERTIONS) and not node.users:
            graph.erase_node(node)
    return program


def _is_idle_dropout(node: Node) -> bool:
    """Tell whether a node is an in-place dropout that returns its argument as it is."""
    import torch

    return node.target is torch.ops.aten.dropout_.default and node.args[2:] == (False,)


def _twin(node: Node) -> Any:
    """Return the operator that computes what an in-place one writes into its first argument."""
    import torch

    schema: Any = node.target._schema  # type: ignore[union-attr]  # an operator
    written = [argument for argument in schema.arguments if argument.alias_info is not None]
    name = schema.name.partition("::")[2]
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None)
    overload = schema.overload_name or "default"
    in_place = name.endswith("_") and written == [schema.arguments[0]]
    if not in_place or not hasattr(packet, overload):
        raise Declined(str(node.target))
    dtypes = {item.meta["val"].dtype for item in node.all_input_nodes}
    if len(dtypes) > 1:
        raise Declined(f"{node.target} of {dtypes}")
    return getattr(packet, overload)


def _require_own(node: Node, shared: Sequence[Node]) -> None:
    """Decline an in-place call on a value that another one may be a view of."""
    before = {user for value in shared for user in value.users if user < node}
    makers = [shared[0], *(user for user in before if user not in shared)]
    if any(maker.op != "call_function" or _may_alias(maker) for maker in makers):
        raise Declined(f"{node.target} on a value that may be shared")


def _may_alias(node: Node) -> bool:
    """Tell whether the result of a call may share memory with an argument."""
    import torch
    from torch._export.utils import _is_preservable_cia_op

    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return True
    if target is torch.ops.aten.batch_norm.default:
        return False
    if any(result.alias_info is not None for result in target._schema.returns):
        return True
    return is_composite(target) and not _is_preservable_cia_op(target)


def is_composite(target: Any) -> bool:
    """Tell whether PyTorch computes an operator with others unless told to keep it."""
    import torch

    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return bool(target.has_kernel_for_dispatch_key(key))


def _key(node: Node, target: Any, inputs: tuple[Node, ...]) -> str:
    import torch

    places = {item: f"%{number}" for number, item in enumerate(inputs)}
    args, kwargs = torch.fx.node.map_arg((node.args, dict(node.kwargs)), places.__getitem__)
    kinds = [
        (tuple(value.shape), value.stride(), value.dtype, value.device)
        for value in (item.meta["val"] for item in inputs)
    ]
    return f"{target} {args} {kwargs} {kinds}"
