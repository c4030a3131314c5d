"""Join outputs as real numbers, behind DEQUANTIZE, where their pieces differ in range."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edgeconv.core.artifacts import Array
from edgeconv.quantize.joins.joins import Join, find
from edgeconv.quantize.joins.moves import MOVES, data_slot
from edgeconv.quantize.joins.widths import differ, widths
from edgeconv.quantize.rules.precision import BITS, Precision
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph


def joined_in_float(
    graph: Graph,
    precisions: Sequence[Precision],
    feeds: Sequence[Sequence[Array]],
    given: Collection[int] = (),
) -> tuple[list[Precision], list[str]]:
    """Let outputs be joined as real numbers where their pieces differ in range.

    What joins them, and what stands between there and the output, computes in float: operators
    that move values, and cheap element-wise ones.

    Args:
        graph: The float graph, lowered.
        precisions: The precision of each operator.
        feeds: Per sample the graph's inputs, in the stored form.
        given: Tensors that have a scale already, which their model has learnt to live with.

    Returns:
        The precision of each operator, and what to say of it.
    """
    chosen: set[int] = set()
    notes = []
    for output, join in find(graph).items():
        made = {index for operator in join.between for index in operator.outputs}
        wide = widths(graph, find(graph, made - set(given)), feeds)
        mixed = {index for index, each in wide.items() if differ(each)}
        found = _behind(graph, join, mixed)
        if found:
            chosen |= found
            notes.append(joined_note(graph.name(output)))
    result: list[Precision] = [
        "float" if id(operator) in chosen and precision in BITS else precision
        for operator, precision in zip(graph.operators, precisions, strict=True)
    ]
    return (result, notes) if result != list(precisions) else (result, [])


def joined_note(name: str) -> str:
    """Return what to say of an output that is joined in float."""
    return (
        f"output {name} joins values of different ranges: that is done as float32, behind "
        "DEQUANTIZE, so that each has a scale of its own"
    )


def _behind(graph: Graph, join: Join, mixed: Collection[int]) -> set[int]:
    """Return what makes tensors of mixed ranges, and what follows up to the output, by identity.

    Integers that become real numbers only to be joined do so exactly, as real numbers.
    """
    reached: set[int] = set()
    found: set[int] = set()
    for operator in join.between:
        if reached & set(operator.inputs) or set(mixed) & set(operator.outputs):
            found.add(id(operator))
            reached |= set(operator.outputs)
    if found:
        for piece in join.pieces:
            found |= {id(operator) for operator in _counted(graph, piece, found)}
    return found


def _counted(graph: Graph, piece: int, behind: Collection[int]) -> list[OperatorT]:
    """Return what makes a real number of an integer for the operators behind alone, or nothing."""
    readers, producers = graph.consumers(), graph.producers()
    chain: list[OperatorT] = []
    allowed = set(behind)
    while piece in producers and all(id(one) in allowed for one in readers.get(piece, ())):
        made = producers[piece]
        chain.append(made)
        allowed.add(id(made))
        if graph.op(made) == "CAST":
            return [] if graph.is_float(made.inputs[0]) else chain
        if graph.op(made) not in MOVES:
            return []
        piece = made.inputs[data_slot(graph, made)]
    return []
