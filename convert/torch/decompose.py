"""Decompose an exported program by decomposing each kind of call in it once.

`ExportedProgram.run_decompositions` traces the whole program again, twice, which takes longer than
the export itself. But networks repeat themselves: here the calls that need decomposing are put
into a small program, one of each kind, that PyTorch decomposes; what came of each takes the place
of every call of its kind. In-place calls on values that nothing else shares become functional ones,
as PyTorch makes them. Programs with anything beyond that are left to PyTorch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgeconv.convert.torch.functional_calls import Call, Declined, functional_calls, is_composite

if TYPE_CHECKING:
    from torch.export import ExportedProgram, ModuleCallEntry
    from torch.export.graph_signature import ExportGraphSignature
    from torch.fx import Graph, Node

Table = Mapping[Any, Callable[..., Any]]
"""By operator what computes it with others, as `ExportedProgram.run_decompositions` takes it."""

Values = Any
"""What a call returned: a node, or a tuple of nodes."""


def decompose(program: ExportedProgram, table: Table) -> ExportedProgram:
    """Return what ``program.run_decompositions(table)`` returns, up to names and copies.

    Args:
        program: A program for inference; it is not changed.
        table: The decompositions.

    Raises:
        Declined: It cannot be done call by call.
    """
    _require_plain(program)
    calls = functional_calls(program.graph)
    kinds: dict[str, _Kind] = {}
    for call in calls.values():
        if _changes(call.target, table):
            kinds.setdefault(call.key, _Kind(call))
    if kinds:
        _expand(list(kinds.values()), program, table)
    return _rewritten(program, calls, kinds)


def _require_plain(program: ExportedProgram) -> None:
    """Decline what is not tensors passed from operator to operator."""
    import torch

    signature = program.graph_signature
    if program.range_constraints or signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        raise Declined("open dimensions or state")
    for node in program.graph.nodes:
        if node.op == "output":
            continue
        operators = isinstance(node.target, torch._ops.OpOverload)
        if node.op != "placeholder" and not operators and node.target is not operator.getitem:
            raise Declined(f"{node.op} {node.target}")
        value = node.meta.get("val")
        values = value if isinstance(value, (tuple, list)) else (value,)
        if not all(isinstance(item, (torch.Tensor, type(None))) for item in values):
            raise Declined(f"{node} is no tensor")


def _changes(target: Any, table: Table) -> bool:
    """Tell whether PyTorch would replace an operator."""
    from torch._export.utils import _is_preservable_cia_op

    return target in table or (is_composite(target) and not _is_preservable_cia_op(target))


@dataclass(slots=True)
class _Kind:
    """Calls that decompose alike.

    Attributes:
        call: One of them.
        inputs: What stands for its inputs in the small program, before and after.
        results: What it returns there, after; one for each of a tuple's entries.
    """

    call: Call
    inputs: list[Node] = field(default_factory=list)
    results: list[Node] = field(default_factory=list)

    def body(self) -> list[Node]:
        """Return the nodes that compute the results, in order."""
        found: set[Node] = set()
        waiting = list(self.results)
        while waiting:
            node = waiting.pop()
            if node not in found and node not in self.inputs:
                found.add(node)
                waiting += node.all_input_nodes
        return sorted(found)


def _expand(kinds: Sequence[_Kind], program: ExportedProgram, table: Table) -> None:
    """Decompose one call of each kind, all in one program."""
    import torch

    graph = torch.fx.Graph()
    counts = []
    for number, kind in enumerate(kinds):
        for place, node in enumerate(kind.call.inputs):
            holder = graph.placeholder(f"x{number}_{place}")
            holder.meta = {"val": node.meta["val"]}
            kind.inputs.append(holder)
    results: list[Node] = []
    for kind in kinds:
        made = _entries(graph, kind)
        counts.append(len(made))
        results += made
    graph.output(tuple(results))
    small = _program(graph, results, program).run_decompositions(dict(table))
    holders = [node for node in small.graph.nodes if node.op == "placeholder"]
    outputs = iter(small.graph.output_node().args[0])
    for kind, count in zip(kinds, counts, strict=True):
        kind.inputs = [holders.pop(0) for _ in kind.inputs]
        kind.results = [next(outputs) for _ in range(count)]


def _entries(graph: Graph, kind: _Kind) -> list[Node]:
    """Add a call to a graph; return its result, or each entry of it."""
    import torch

    node = kind.call.node
    stand_ins = dict(zip(kind.call.inputs, kind.inputs, strict=True))
    args, kwargs = torch.fx.node.map_arg((node.args, dict(node.kwargs)), stand_ins.__getitem__)
    made = graph.call_function(kind.call.target, args, kwargs)
    made.meta = copy(node.meta)
    values = node.meta["val"]
    if not isinstance(values, (tuple, list)):
        return [made]
    entries = []
    for number, value in enumerate(values):
        entry = graph.call_function(operator.getitem, (made, number))
        entry.meta = {**node.meta, "val": value}
        entries.append(entry)
    return entries


def _program(graph: Graph, results: Sequence[Node], like: ExportedProgram) -> ExportedProgram:
    """Return a graph of tensors as a program."""
    import torch
    from torch.export import ExportedProgram, ModuleCallEntry, ModuleCallSignature
    from torch.export.graph_signature import (
        ExportGraphSignature,
        InputKind,
        InputSpec,
        OutputKind,
        OutputSpec,
        TensorArgument,
    )
    from torch.utils import _pytree as pytree

    inputs = [TensorArgument(node.name) for node in graph.nodes if node.op == "placeholder"]
    outputs = [TensorArgument(node.name) for node in results]
    signature = ExportGraphSignature(
        [InputSpec(InputKind.USER_INPUT, item, None) for item in inputs],
        [OutputSpec(OutputKind.USER_OUTPUT, item, None) for item in outputs],
    )
    call = ModuleCallSignature(
        inputs=[],
        outputs=[],
        in_spec=pytree.tree_structure((tuple(0 for _ in inputs), {})),
        out_spec=pytree.tree_structure(tuple(0 for _ in outputs)),
    )
    return ExportedProgram(
        root=torch.nn.Module(),
        graph=graph,
        graph_signature=signature,
        state_dict={},
        range_constraints={},
        module_call_graph=[ModuleCallEntry("", call)],
        verifiers=like.verifiers,
    )


def _rewritten(
    program: ExportedProgram, calls: Mapping[Node, Call], kinds: Mapping[str, _Kind]
) -> ExportedProgram:
    import torch

    graph = torch.fx.Graph()
    now: dict[Node, Values] = {}
    for node in program.graph.nodes:
        call = calls.get(node)
        if node.op == "output":
            _copy(graph, node, now, node.target)
        elif node.target is operator.getitem and isinstance(now[node.args[0]], tuple):
            now[node] = now[node.args[0]][node.args[1]]
        elif node.op == "placeholder" or node.target is operator.getitem:
            now[node] = _copy(graph, node, now, node.target)
        elif call is not None:
            kind = kinds.get(call.key)
            if kind is None:
                now[node] = _copy(graph, node, now, call.target)
            else:
                now[node] = _inlined(graph, node, kind, [now[item] for item in call.inputs])
            now.update(dict.fromkeys(call.overwritten, now[node]))
    graph.eliminate_dead_code()
    return torch.export.ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=_signature(program, now),
        state_dict=program.state_dict,
        range_constraints={},
        module_call_graph=_module_calls(program, now),
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=program.verifiers,
    )


def _copy(graph: Graph, node: Node, now: Mapping[Node, Values], target: Any) -> Node:
    import torch

    args, kwargs = torch.fx.node.map_arg((node.args, dict(node.kwargs)), now.__getitem__)
    made = graph.create_node(node.op, target, args, kwargs, node.name)
    made.meta = copy(node.meta)
    if node.op == "placeholder":
        made.name = node.name  # signatures know it by this one, even where Python has it too
    return made


def _inlined(graph: Graph, node: Node, kind: _Kind, inputs: Sequence[Values]) -> Values:
    """Add what became of a kind of call for one of its calls; return the results."""
    import torch

    values: dict[Node, Any] = dict(zip(kind.inputs, inputs, strict=True))
    entries: dict[Node, list[Node]] = {}
    for part in kind.body():
        if part.target is operator.getitem:
            source, index = part.args
            values[part] = entries[source][index]  # type: ignore[index]
        else:
            args, kwargs = torch.fx.node.map_arg((part.args, dict(part.kwargs)), values.get)
            made = graph.create_node(part.op, part.target, args, kwargs, _plain(part.name))
            made.meta = {**node.meta, **{key: part.meta[key] for key in _OWN if key in part.meta}}
            values[part] = made
            entries[part] = _all_entries(graph, made)
    results = tuple(values[result] for result in kind.results)
    return results if isinstance(node.meta["val"], (tuple, list)) else results[0]


def _all_entries(graph: Graph, node: Node) -> list[Node]:
    """Add all entries of a result, as tracing does, so that names count alike."""
    value = node.meta.get("val")
    found = []
    for index, entry in enumerate(value if isinstance(value, (tuple, list)) else ()):
        made = graph.call_function(operator.getitem, (node, index))
        made.meta = {**node.meta, "val": entry}
        found.append(made)
    return found


def _plain(name: str) -> str:
    """Return a node's name without its number."""
    base, _, number = name.rpartition("_")
    return base if base and number.isdigit() else name


_OWN = ("val", "tensor_meta", "torch_fn")
"""What a node that replaces others says of itself; the rest is where it came from."""


def _signature(program: ExportedProgram, now: Mapping[Node, Values]) -> ExportGraphSignature:
    """Return the program's signature with the outputs' new names."""
    from torch.export.graph_signature import ExportGraphSignature

    outputs = [
        replace(spec, arg=_renamed(spec.arg, now)) for spec in program.graph_signature.output_specs
    ]
    return ExportGraphSignature(list(program.graph_signature.input_specs), outputs)


def _module_calls(program: ExportedProgram, now: Mapping[Node, Values]) -> list[ModuleCallEntry]:
    """Return the signature of the whole module, which is the first, with the new names."""
    whole = copy(program.module_call_graph[0])
    if whole.signature is not None:
        outputs = [_renamed(argument, now) for argument in whole.signature.outputs]
        whole.signature = replace(whole.signature, outputs=outputs)
    return [whole]


def _renamed(argument: Any, now: Mapping[Node, Values]) -> Any:
    from torch.export.graph_signature import TensorArgument

    if not isinstance(argument, TensorArgument):
        return argument
    return TensorArgument(next(now[node].name for node in now if node.name == argument.name))
