"""Try the operators of a TFLite file one by one, to find the one that makes LiteRT abort.

A kernel that does not like its scales ends the process, and its last words rarely say which it was.
So each operator's name is written to stderr, unbuffered, before the operator is tried.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph
from edgeconv.toolchain.runtimes.suspects import MARK


def try_each(path: str) -> int:
    """Prepare and run every operator alone, on zeros.

    Args:
        path: The ``.tflite`` file.

    Returns:
        How many there were; if one aborts, the process ends before, with its name on stderr.
    """
    whole = Graph(tflite.load(Path(path)))
    for place in range(len(whole.operators)):
        alone = _alone(whole, place)
        (operator,) = alone.operators
        line = f"\n{MARK}{alone.op(operator)} ({alone.label(operator).partition(';')[0]})\n"
        os.write(sys.stderr.fileno(), line.encode(errors="replace"))
        with suppress(RuntimeError, ValueError):
            _run(alone)
    return len(whole.operators)


def _alone(whole: Graph, place: int) -> Graph:
    """Return a graph of one operator, fed with all that it reads."""
    graph = whole.copy()
    graph.subgraph.operators = [graph.operators[place]]
    (operator,) = graph.operators
    read = [index for index in dict.fromkeys(operator.inputs) if index >= 0]
    graph.subgraph.inputs = [index for index in read if not graph.is_constant(index)]
    graph.subgraph.outputs = list(operator.outputs)
    graph.model.signatureDefs = []
    graph.compact()
    return graph


def _run(graph: Graph) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=bytes(tflite.serialize(graph.model)), num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
