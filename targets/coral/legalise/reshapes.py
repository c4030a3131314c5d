"""Reshapes of reshapes, and those that change nothing: what other rewrites leave behind."""

from __future__ import annotations

from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph


def merge(graph: Graph) -> None:
    """Let every RESHAPE read the first of a chain, and drop those that change nothing."""
    producers = graph.producers()
    same: dict[int, int] = {}
    kept: list[OperatorT] = []
    for operator in graph.operators:
        operator.inputs = [same.get(index, index) for index in operator.inputs]
        if graph.op(operator) == "RESHAPE":
            source = operator.inputs[0]
            while source in producers and graph.op(producers[source]) == "RESHAPE":
                source = producers[source].inputs[0]
            operator.inputs = [source, *operator.inputs[1:]]
            (out,) = operator.outputs
            if graph.shape(source) == graph.shape(out) and out not in graph.outputs:
                same[out] = source
                continue
        kept.append(operator)
    graph.subgraph.operators = kept


def drop_unused(graph: Graph) -> None:
    """Drop operators whose results nothing reads."""
    needed = set(graph.outputs)
    kept: list[OperatorT] = []
    for operator in reversed(graph.operators):
        if needed.intersection(operator.outputs) or not operator.outputs:
            needed.update(operator.inputs)
            kept.append(operator)
    graph.subgraph.operators = kept[::-1]
