"""Find the fewest layers to keep in 16 bits with which a model loses no more than allowed.

Layers are ranked by what each loses alone: the model in float, and only that layer in 8 bits. The
shortest beginning of that ranking that suffices is found by bisection; then every layer of it is
tried without, the least sensitive first. What is left is a set from which no layer can be taken.
Decibels are those of the worst part of the outputs, so that boxes do not hide scores.
The ranking is that of sensitivity-guided mixed precision, such as Dong et al. 2019, "HAWQ".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeconv.core.amounts import MaxDrop
from edgeconv.core.artifacts import Array
from edgeconv.core.errors import UsageError
from edgeconv.core.wording import named
from edgeconv.metrics.parity import compare_output
from edgeconv.metrics.parts import Part, divide
from edgeconv.quantize.params.input_scales import Held
from edgeconv.quantize.params.qparams import Range
from edgeconv.quantize.recovery.evaluator import pieces_of
from edgeconv.quantize.rewrite import static
from edgeconv.quantize.rules.precision import Precision, takes_int16
from edgeconv.quantize.rules.table import RULES, Scaling
from edgeconv.tflite import file as tflite
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_SAMPLES = 8
_EXACT_DB = 150.0
"""SQNR that stands for no error at all."""

Outputs = list[Array]
"""Per output of the model ``[sample, ...]``."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found.

    Attributes:
        precisions: The precision of each operator.
        kept: The layers that have 16 bits, by the operator that each begins with.
        before: What int8 alone loses, in the unit of the limit.
        after: What is lost with them.
    """

    precisions: list[Precision]
    kept: list[OperatorT]
    before: float
    after: float


class Search:
    """The search on one model.

    Args:
        graph: The lowered float graph; it is left as it is.
        ranges: The ranges of all its activations.
        precisions: The precision of each operator; those in int8 may change.
        feeds: Per sample the graph's inputs, in the stored form.
        limit: The most that may be lost.
        held: What the graph's inputs can hold, in order.

    Raises:
        UsageError: The limit is in points, and no output looks like class scores.
    """

    def __init__(
        self,
        graph: Graph,
        ranges: dict[int, Range],
        precisions: Sequence[Precision],
        feeds: Sequence[Sequence[Array]],
        limit: MaxDrop,
        held: Held = (),
    ) -> None:
        self._graph = graph
        self._ranges = ranges
        self._base = list(precisions)
        self._limit = limit
        self._held = held
        step = max(1, len(feeds) // _SAMPLES) if limit.unit == "dB" else 1
        self._feeds = feeds[::step][: _SAMPLES if limit.unit == "dB" else None]
        self._layers = _layers(graph, precisions)
        self._reference = _run(graph, self._feeds)
        self._parts = _parts(graph, self._reference)
        self._best = self._figures(self._with(range(len(self._layers))))
        if limit.unit == "points" and not self._best:
            raise UsageError(
                f"{named('max_drop')} in points needs an output of class scores",
                why="no output has the shape [1, C]",
                hint="give it in decibels, such as 3dB",
            )

    def run(self, advanced: Callable[[int, int], None] | None = None) -> Found:
        """Search.

        Args:
            advanced: Told (layers measured, layers in all).
        """
        before = self._drop([])
        kept: list[int] = []
        after = before
        if before > self._limit.amount:
            ranked = self._ranked(advanced)
            kept = self._prune(ranked[: self._shortest(ranked)])
            after = self._drop(kept)
        first = sorted(self._layers[layer][0] for layer in kept)
        operators = [self._graph.operators[position] for position in first]
        return Found(self._with(kept), operators, before, after)

    def _with(self, kept: Sequence[int]) -> list[Precision]:
        """Return the precisions with some layers in 16 bits, or in float where nothing takes 16."""
        precisions = list(self._base)
        for layer in kept:
            for position in self._layers[layer]:
                wide = takes_int16(self._graph, self._graph.operators[position])
                precisions[position] = "int16" if wide else "float"
        return precisions

    def _figures(self, precisions: Sequence[Precision]) -> list[float]:
        """Return each part's SQNR in dB, or each output's share of equal top classes in percent."""
        outputs = self._outputs(precisions)
        if self._limit.unit == "dB":
            compared = [
                compare_output("", reference, candidate).sqnr_db
                for reference, candidate in _divided(self._parts, self._reference, outputs)
            ]
            return [_EXACT_DB if figure is None else figure for figure in compared]
        shares = [
            compare_output("", reference, candidate).top1_agreement
            for reference, candidate in zip(self._reference, outputs, strict=True)
        ]
        return [100 * share for share in shares if share is not None]

    def _outputs(self, precisions: Sequence[Precision]) -> Outputs:
        trial = self._graph.copy()
        static.build(trial, self._ranges, precisions, "float32", held=self._held)
        return _run(trial, self._feeds)

    def _drop(self, kept: Sequence[int]) -> float:
        figures = self._figures(self._with(kept))
        if self._limit.unit == "points":
            return max((100 - figure for figure in figures), default=0.0)
        pairs = zip(self._best, figures, strict=True)
        return max((best - figure for best, figure in pairs), default=0.0)

    def _ranked(self, advanced: Callable[[int, int], None] | None) -> list[int]:
        """Return the layers, the one that loses most alone first."""
        losses = []
        for count, layer in enumerate(self._layers, 1):
            precisions: list[Precision] = [
                "float" if precision == "int8" else precision for precision in self._base
            ]
            for position in layer:
                precisions[position] = "int8"
            pairs = _divided(self._parts, self._reference, self._outputs(precisions))
            losses.append(_noise(pairs))
            if advanced is not None:
                advanced(count, len(self._layers))
        return sorted(range(len(losses)), key=lambda layer: -losses[layer])

    def _shortest(self, ranked: Sequence[int]) -> int:
        """Return how many of the ranked layers must be kept, at the least."""
        low, high = 1, len(ranked)
        while low < high:
            middle = (low + high) // 2
            if self._drop(ranked[:middle]) <= self._limit.amount:
                high = middle
            else:
                low = middle + 1
        return low

    def _prune(self, kept: Sequence[int]) -> list[int]:
        left = list(kept)
        for layer in reversed(kept):
            without = [other for other in left if other != layer]
            if self._drop(without) <= self._limit.amount:
                left = without
        return left


def _layers(graph: Graph, precisions: Sequence[Precision]) -> list[list[int]]:
    """Return the operators that may be kept, by position: each with those that move its output."""
    layers: list[list[int]] = []
    home: dict[int, int] = {}
    for position, operator in enumerate(graph.operators):
        if precisions[position] != "int8" or not any(map(graph.is_float, operator.outputs)):
            continue
        rule = RULES[graph.op(operator)]
        source = next((index for index in operator.inputs if index in home), None)
        if rule.scaling is Scaling.SAME and source is not None:
            layer = home[source]
            layers[layer].append(position)
        else:
            layer = len(layers)
            layers.append([position])
        home.update(dict.fromkeys(operator.outputs, layer))
    return layers


def _parts(graph: Graph, references: Outputs) -> list[Sequence[Part]]:
    """Return the parts of each output that are compared; none of integers.

    Without a signal any noise is the worst: such a part counts in none.
    """
    producers = graph.producers()
    found: list[Sequence[Part]] = []
    for index, reference in zip(graph.outputs, references, strict=True):
        parts = divide(reference, pieces_of(graph, index, producers))
        parts = tuple(part for part in parts if part.select(reference).any())
        found.append((parts or (Part(()),)) if reference.dtype.kind == "f" else ())
    return found


def _divided(
    parts: Sequence[Sequence[Part]], references: Outputs, outputs: Outputs
) -> Iterator[tuple[Array, Array]]:
    """Yield each part of the reference's outputs, and the same of others."""
    for some, reference, output in zip(parts, references, outputs, strict=True):
        yield from ((part.select(reference), part.select(output)) for part in some)


def _noise(pairs: Iterable[tuple[Array, Array]]) -> float:
    """Return the largest noise of a part, relative to its signal."""
    shares = [0.0]
    for reference, output in pairs:
        signal = reference.astype(np.float64)
        power = float(np.square(signal).sum())
        noise = float(np.square(signal - output.astype(np.float64)).sum())
        shares.append(noise / power if power > 0 else noise)
    return max(shares)


def _run(graph: Graph, feeds: Sequence[Sequence[Array]]) -> Outputs:
    """Return a model's outputs over samples."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=bytes(tflite.serialize(graph.model)))
    interpreter.allocate_tensors()
    places = [detail["index"] for detail in interpreter.get_input_details()]
    wanted = [detail["index"] for detail in interpreter.get_output_details()]
    rows = []
    for feed in feeds:
        for place, array in zip(places, feed, strict=True):
            interpreter.set_tensor(place, array)
        interpreter.invoke()
        rows.append([interpreter.get_tensor(index) for index in wanted])
    return [np.stack(column) for column in zip(*rows, strict=True)]
