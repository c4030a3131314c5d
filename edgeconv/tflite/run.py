"""Run a graph on samples and see any of its tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from edgeconv.core.artifacts import Array
from edgeconv.core.scratch import scratch_directory
from edgeconv.tflite import weights_apart
from edgeconv.tflite.graph import Graph

_MAX_THREADS = 4


class Runner:
    """A loaded copy of a graph in which some tensors are outputs, so that optimized kernels run it.

    Args:
        graph: The graph; later changes of it do not show.
        tensors: Indices of the tensors to see; inputs of the graph are allowed.
    """

    def __init__(self, graph: Graph, tensors: Iterable[int]) -> None:
        self._fed = list(graph.inputs)
        self._seen = list(tensors)
        computed = [index for index in self._seen if index not in self._fed]
        self._interpreter = load(graph, computed)
        # LiteRT may renumber tensors, so they are found by their place among the outputs.
        self._inputs = [detail["index"] for detail in self._interpreter.get_input_details()]
        outputs = [detail["index"] for detail in self._interpreter.get_output_details()]
        self._places = dict(zip(computed, outputs[len(graph.outputs) :], strict=True))

    def run(self, feed: Sequence[Array]) -> dict[int, Array]:
        """Return the tensors' values for one sample.

        Args:
            feed: The graph's inputs, in order, in the stored shape and dtype.
        """
        values: dict[int, Array] = {}

        def keep(index: int, value: Array) -> None:
            values[index] = value.copy() if index in self._places else value

        self.show(feed, keep)
        return values

    def show(self, feed: Sequence[Array], see: Callable[[int, Array], None]) -> None:
        """Show the tensors' values for one sample, without copying them.

        Args:
            feed: The graph's inputs, in order, in the stored shape and dtype.
            see: Takes the index of a tensor and its values, which it must not keep: they are the
                interpreter's memory.
        """
        for place, array in zip(self._inputs, feed, strict=True):
            self._interpreter.set_tensor(place, array)
        self._interpreter.invoke()
        for index in self._seen:
            see(index, self._view(index, feed))

    def _view(self, index: int, feed: Sequence[Array]) -> Array:
        if index not in self._places:
            return feed[self._fed.index(index)]
        view: Array = self._interpreter.tensor(self._places[index])()
        return view


def load(graph: Graph, extra: Sequence[int]) -> Any:
    """Return an interpreter whose outputs are the graph's, then some tensors that it computes.

    The interpreter has its own copy; the graph comes out as it was.
    """
    from ai_edge_litert.interpreter import Interpreter

    outputs = list(graph.outputs)
    threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)))
    try:
        graph.subgraph.outputs = outputs + list(extra)
        if weights_apart.worthwhile(graph):
            with scratch_directory() as folder:
                path = Path(folder) / "model.tflite"
                weights_apart.write(graph, path)
                # It maps the file, which may go then.
                interpreter = Interpreter(model_path=str(path), num_threads=threads)
        else:
            content = bytes(graph.serialized())
            interpreter = Interpreter(model_content=content, num_threads=threads)
    finally:
        graph.subgraph.outputs = outputs
    interpreter.allocate_tensors()
    return interpreter
