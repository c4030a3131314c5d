"""Cut the end off a graph: arg-max, box decoding and the like, which the CPU computes in float.

What is cut off becomes a model of its own. It reads what the first part returns, and may read
inputs of the whole.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator, Sequence

from edgeconv.core.errors import UsageError
from edgeconv.quantize.rules.precision import Origins, names_of
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

AUTO = "auto"
"""The name that stands for whatever the Edge TPU does not map at the end of the model."""

HEAVY = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")
_NOT_MAPPED = (
    "ARG_MAX", "ARG_MIN", "TOPK_V2", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "GATHER",
    "GATHER_ND", "CAST", "SELECT", "SELECT_V2", "WHERE", "GREATER", "GREATER_EQUAL", "LESS",
    "LESS_EQUAL", "EQUAL", "NOT_EQUAL", "LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT", "EXP", "LOG",
    "SQRT", "POW", "DIV", "FLOOR", "FLOOR_DIV", "FLOOR_MOD", "ROUND", "CEIL", "SIN", "COS",
    "CUMSUM", "LOG_SOFTMAX", "REVERSE_V2", "SCATTER_ND", "ONE_HOT", "CUSTOM",
)  # fmt: skip


def find(graph: Graph, names: Sequence[str], origins: Origins | None = None) -> list[OperatorT]:
    """Return the operators that come after the named ones, in execution order.

    Args:
        graph: The graph.
        names: Tensors, by name, by that of the ONNX node or value that they come from, or by the
            path of a PyTorch module; the last tensor of each counts. `AUTO` stands for what the
            Edge TPU does not map at the end.
        origins: Names of the ONNX nodes and PyTorch modules.

    Raises:
        UsageError: A name is not known, or nothing comes after it.
    """
    starts = [
        index for name in names if name != AUTO for index in [_named(graph, name, origins or {})]
    ]
    tail = after(graph, starts)
    if AUTO in names:
        tail = after(graph, [], [*tail, *_unmapped(graph)])
    if not tail and starts:
        raise UsageError(
            f"--cut {', '.join(names)} cuts nothing off", why="no operator reads that tensor"
        )
    if len(tail) == len(graph.operators):
        raise UsageError(
            f"--cut {', '.join(names)} leaves nothing for the Edge TPU",
            hint="cut later in the model, or convert without --cut",
        )
    return tail


def _named(graph: Graph, name: str, origins: Origins) -> int:
    """Return the last tensor of that name, or of the node, value or module of that name."""
    known: dict[str, int] = {}
    for operator in graph.operators:
        for out in operator.outputs:
            label = graph.name(out)
            known[label] = out
            for part in label.split(";"):
                known[part] = known[part.partition("/")[0]] = out
        for title in names_of(graph, operator, origins):
            for outer in _outward(title):
                known[outer] = operator.outputs[-1]
    if name not in known:
        close = difflib.get_close_matches(name, known, 3, 0.4) or list(known)[-3:]
        raise UsageError(
            f"--cut {name} is not in the model",
            hint="use the name of an ONNX node, of its output or of a PyTorch module, for example "
            + ", ".join(close),
        )
    return known[name]


def _outward(title: str) -> Iterator[str]:
    """Yield a name, and the modules that it lies in where it is a module's path."""
    while title:
        yield title
        title = title.rpartition(".")[0]


def after(
    graph: Graph, starts: Iterable[int], operators: Iterable[OperatorT] = ()
) -> list[OperatorT]:
    """Return the operators that depend on tensors, or are or depend on operators."""
    reached, chosen = set(starts), {id(operator) for operator in operators}
    found = []
    for operator in graph.operators:
        if id(operator) in chosen or reached.intersection(operator.inputs):
            reached.update(operator.outputs)
            found.append(operator)
    return found


def leads_to_weights(graph: Graph, operator: OperatorT) -> bool:
    """Tell whether an operator with weights depends on an operator."""
    return any(graph.op(later) in HEAVY for later in after(graph, operator.outputs))


def _unmapped(graph: Graph) -> list[OperatorT]:
    """Return operators without an Edge TPU form that no operator with weights depends on."""
    return [
        operator
        for operator in graph.operators
        if graph.op(operator) in _NOT_MAPPED and not leads_to_weights(graph, operator)
    ]


def split(graph: Graph, tail: Sequence[OperatorT]) -> Graph:
    """Take operators, and what depends on them, off a graph; return them as another one.

    The graph then returns what the other one reads, and its own outputs that were not cut off.
    """
    chosen = {id(operator) for operator in tail}
    cut = [id(operator) in chosen for operator in graph.operators]
    made = {out for operator in tail for out in operator.outputs}
    read = [index for operator in tail for index in operator.inputs]
    border = [
        index
        for index in dict.fromkeys(read)
        if index >= 0 and index not in made and not graph.is_constant(index)
    ]
    _rename(graph, [index for index in border if index not in {*graph.inputs, *graph.outputs}])
    other = Graph(copy.deepcopy(graph.model))
    for part, keeps in ((graph, False), (other, True)):
        kept = [operator for operator, off in zip(part.operators, cut, strict=True) if off is keeps]
        part.subgraph.operators = kept
    other.subgraph.inputs = list(border)
    other.subgraph.outputs = [index for index in graph.outputs if index in made]
    own = [index for index in graph.outputs if index not in made]
    fed = [index for index in border if index not in {*own, *graph.inputs}]
    graph.subgraph.outputs = own + fed
    for part in (graph, other):
        part.model.signatureDefs = []
        part.compact()
    return other


def _rename(graph: Graph, tensors: Sequence[int]) -> None:
    """Give tensors at the border short names that no compiler option trips over."""
    taken = {graph.name(index) for index in range(len(graph.tensors))}
    for index in tensors:
        short = graph.name(index).partition(";")[0].partition("/")[0].replace(":", "_")
        name, number = short, 1
        while name in taken and name != graph.name(index):
            name, number = f"{short}_{number}", number + 1
        graph.tensors[index].name = name
        taken.add(name)
