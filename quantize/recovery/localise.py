"""Tell which layers of a quantized model make its error, and how it comes together.

Two figures for each tensor that both models have, over the same samples, as in ``NumericVerify`` of
TensorFlow's quantization debugger and the sequential and separate modes of other analysers:

- *here*: the layer alone, fed with the float model's values, stored in the scales of its inputs;
- *carried*: the whole quantized model up to the layer.

For the first, one model is made in which every layer reads inputs of its own, so that a sample
takes two runs and not one for each layer. Operators that the quantizer put in between, whose
results the float model does not have, belong to the layer that reads them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.metrics.layer_errors import LayerError, Ratio
from edgeconv.quantize.params import factors
from edgeconv.quantize.params.qparams import Range
from edgeconv.tflite import file as tflite
from edgeconv.tflite.file import BufferT
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

_SUFFIXES = ("_int8", "_int16")
"""What `edges` appends to the name of an integer tensor whose own name goes to the edge."""


def of_files(
    reference: str, quantized: str, feeds: Sequence[Sequence[Array]]
) -> tuple[LayerError, ...]:
    """Return `layer_errors` of two ``.tflite`` files."""
    first, second = (Graph(tflite.load(Path(path))) for path in (reference, quantized))
    return layer_errors(first, second, feeds)


def layer_errors(
    reference: Graph,
    quantized: Graph,
    feeds: Sequence[Sequence[Array]],
    needed: Mapping[str, Range] | None = None,
) -> tuple[LayerError, ...]:
    """Return the error of each layer, in execution order.

    Args:
        reference: The float graph that was quantized.
        quantized: What became of it; tensors are matched by name.
        feeds: Per sample the float graph's inputs, in the stored form.
        needed: By name, beyond what the values of a tensor do not matter to its readers; there
            saturation is no error.

    Returns:
        One entry for each tensor that both graphs compute and for each input that is quantized.
    """
    alone = PerLayerRunner(reference, quantized)
    if not alone.pairs or not feeds:
        return ()
    whole = Runner(quantized, list(alone.pairs))
    limits = {source: (needed or {}).get(reference.name(source)) for source in alone.pairs.values()}
    here = {source: _Ratio(limits[source]) for source in limits}
    carried = {source: _Ratio(limits[source]) for source in limits}
    for feed in feeds:
        found = whole.run(_stored_feed(quantized, feed))
        single = alone.run(feed)
        for index, source in alone.pairs.items():
            expected, apart = single[source]
            carried[source].add(expected, alone.real(index, found[index]))
            here[source].add(expected, apart)
    producers = reference.producers()
    return tuple(
        LayerError(
            name=reference.name(source),
            op=reference.op(producers[source]) if source in producers else "QUANTIZE",
            here_db=here[source].decibels,
            carried_db=carried[source].decibels,
        )
        for source in alone.pairs.values()
    )


class PerLayerRunner:
    """Every layer of a quantized model by itself, fed with the float model's values.

    Args:
        reference: The float graph that was quantized.
        quantized: What became of it.
        only: The float tensors to look at; all that both compute where ``None``.

    Attributes:
        pairs: The float tensor of each tensor of the quantized graph that is looked at.
    """

    def __init__(
        self, reference: Graph, quantized: Graph, only: Collection[int] | None = None
    ) -> None:
        self._all = pairs_of(reference, quantized)
        self.pairs = {
            index: source for index, source in self._all.items() if only is None or source in only
        }
        self._quantized = quantized
        found = factors.read(quantized)
        names = {source: reference.name(source) for source in self._all.values()}
        self._factors = {source: found[name] for source, name in names.items() if name in found}
        graph, fed = isolated(quantized, self._all)
        self._fed = prune(graph, fed, self.pairs)
        shown = {*self.pairs.values(), *(self._all[index] for index in self._fed)}
        self._floats = Runner(reference, sorted(shown))
        self._apart = Runner(graph, list(self.pairs))

    def run(self, feed: Sequence[Array]) -> dict[int, tuple[Array, Array]]:
        """Return by float tensor what the float model and the layer alone make of a sample."""
        stored = self.run_stored(feed)
        return {
            self.pairs[index]: (expected, self.real(index, found))
            for index, (expected, found) in stored.items()
        }

    def run_stored(self, feed: Sequence[Array]) -> dict[int, tuple[Array, Array]]:
        """Return the same by tensor of the quantized graph, the latter as it is stored."""
        quantized, expected = self._quantized, self._floats.run(feed)
        values = [self._store(index, expected[self._all[index]]) for index in self._fed]
        single = self._apart.run([*values, *_stored_feed(quantized, feed)])
        return {index: (expected[source], single[index]) for index, source in self.pairs.items()}

    def real(self, index: int, stored: Array) -> Array:
        """Return the real numbers of a quantized tensor, without the factors on its channels."""
        factor = self._factors.get(self.pairs[index])
        values = self._quantized.real(index, stored)
        return values if factor is None else values / factor

    def _store(self, index: int, value: Array) -> Array:
        factor = self._factors.get(self._all[index])
        return _stored(self._quantized, index, value if factor is None else value * factor)

    def limits(self) -> dict[int, Range]:
        """Return by float tensor the real numbers that its quantized form can hold."""
        graph, found = self._quantized, {}
        for index, source in self.pairs.items():
            if _scale(graph, index) is not None:
                stored = np.iinfo(graph.dtype(index))
                ends = graph.real(index, np.array([stored.min, stored.max]))
                found[source] = Range(float(ends[0]), float(ends[1]))
        return found


def _stored_feed(graph: Graph, feed: Sequence[Array]) -> list[Array]:
    pairs = zip(graph.inputs, feed, strict=True)
    return [_stored(graph, index, value) for index, value in pairs]


def pairs_of(reference: Graph, quantized: Graph) -> dict[int, int]:
    """Return the float tensor of each computed tensor of the quantized graph, in its order."""
    names = {reference.name(index): index for index in reference.activations()}
    found: dict[int, int] = {}
    taken: set[int] = set()
    for operator in quantized.operators:
        if quantized.op(operator) == "DEQUANTIZE":
            continue
        for index in operator.outputs:
            source = next((names[name] for name in _plain(quantized, index) if name in names), None)
            if source is not None and source not in taken:
                found[index] = source
                taken.add(source)
    return found


def _plain(graph: Graph, index: int) -> Iterator[str]:
    """Return the names that the float graph may have for a tensor."""
    name = graph.name(index)
    yield name
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            yield name.removesuffix(suffix)


def isolated(quantized: Graph, pairs: Mapping[int, int]) -> tuple[Graph, list[int]]:
    """Return the graph with an input, before its own ones, for each tensor that layers read."""
    graph = quantized.copy()
    fed: dict[int, int] = {}
    for operator in graph.operators:
        operator.inputs = [
            _feed(graph, index, fed) if index in pairs else index for index in operator.inputs
        ]
    graph.subgraph.inputs = [*fed.values(), *graph.inputs]
    graph.subgraph.outputs = []
    graph.model.signatureDefs = []
    return graph, list(fed)


def prune(graph: Graph, fed: Sequence[int], wanted: Iterable[int]) -> list[int]:
    """Drop what some tensors do not need from an isolated graph; return what is fed to the rest.

    Args:
        graph: The graph, changed in place, its weights included.
        fed: What `isolated` returned with it.
        wanted: The tensors.
    """
    needed = set(wanted)
    kept = []
    for operator in reversed(graph.operators):
        if not needed.isdisjoint(operator.outputs):
            kept.append(operator)
            needed.update(operator.inputs)
    graph.subgraph.operators = kept[::-1]
    _drop_weights(graph)
    pairs = zip(fed, graph.inputs, strict=False)
    left = {index: copy for index, copy in pairs if copy in needed}
    graph.subgraph.inputs = [*left.values(), *graph.inputs[len(fed) :]]
    return list(left)


def _drop_weights(graph: Graph) -> None:
    """Empty the buffers that no operator reads, which an interpreter would load all the same."""
    if len(graph.model.subgraphs) > 1:
        return
    read = {graph.tensors[i].buffer for item in graph.operators for i in item.inputs if i >= 0}
    buffers = graph.model.buffers
    buffers[1:] = [
        buffer if place in read else BufferT() for place, buffer in enumerate(buffers[1:], 1)
    ]


def _feed(graph: Graph, index: int, fed: dict[int, int]) -> int:
    if index not in fed:
        stored = graph.tensors[index].quantization
        name = f"{graph.name(index)}/fed"
        fed[index] = graph.add_activation(name, graph.shape(index), graph.dtype(index), stored)
    return fed[index]


def _scale(graph: Graph, index: int) -> tuple[float, int] | None:
    stored = graph.tensors[index].quantization
    if stored is None or stored.scale is None or len(stored.scale) == 0:
        return None
    return float(stored.scale[0]), int(stored.zeroPoint[0])


def _stored(graph: Graph, index: int, value: Array) -> Array:
    """Return real numbers as a tensor stores them; what has that type already stays."""
    found, dtype = _scale(graph, index), graph.dtype(index)
    if found is None or value.dtype == dtype:
        return value.astype(dtype, copy=False)
    scale, zero_point = found
    limits = np.iinfo(dtype)
    steps = np.divide(value, scale, dtype=np.float32)  # as the QUANTIZE kernel has it
    np.rint(steps, out=steps)
    steps += zero_point
    np.clip(steps, limits.min, limits.max, out=steps)
    stored: Array = steps.astype(dtype)
    return stored


class _Ratio(Ratio):
    """Signal and noise within what the readers of a tensor need of it."""

    def __init__(self, limits: Range | None) -> None:
        super().__init__()
        self._limits = limits

    def add(self, expected: Array, found: Array) -> None:
        """Add one sample."""
        if self._limits is not None:
            low, high = self._limits.low, self._limits.high
            expected, found = np.clip(expected, low, high), np.clip(found, low, high)
        super().add(expected, found)
