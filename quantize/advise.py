"""Try what the worst layers of a quantized model would gain if they were not quantized.

The layer, those that it reads from and those that read it are turned back into float32 inside the
quantized file, and the model's outputs are compared again. So the trial holds all that was done to
the model, and needs no calibration; their weights are the float model's where nothing but rounding
has changed them. A layer with a large error whose
trial gains nothing is not where the accuracy goes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeconv import tflite
from edgeconv.artifacts import Array
from edgeconv.layer_errors import LayerError, Ratio, ranked
from edgeconv.parity import MAX_DB
from edgeconv.quantize import localise
from edgeconv.quantize.edges import DEQUANTIZE_VERSION, QUANTIZE_VERSION
from edgeconv.quantize.graph import Graph
from edgeconv.quantize.runs import Runner
from edgeconv.tflite import OperatorT

_TRIED = 5
"""As many of the worst layers are tried."""

_NAMED = 3
"""As many layers are named in an advice."""

_WORTH_DB = 0.1
"""Less than that is no gain."""

_BITS = {"int8": 8, "int16": 16}


def of_files(
    reference: str, quantized: str, feeds: Sequence[Sequence[Array]]
) -> tuple[LayerError, ...]:
    """Return `localise.layer_errors` of two ``.tflite`` files, with advice for the worst layers."""
    first, second = (Graph(tflite.load(Path(path))) for path in (reference, quantized))
    return advised(first, second, feeds, localise.layer_errors(first, second, feeds))


def advised(
    reference: Graph,
    quantized: Graph,
    feeds: Sequence[Sequence[Array]],
    layers: Sequence[LayerError],
) -> tuple[LayerError, ...]:
    """Return layers, the worst ones with what was tried and what it gained.

    Args:
        reference: The float graph that was quantized.
        quantized: What became of it.
        feeds: Per sample the float graph's inputs, in the stored form.
        layers: What `localise.layer_errors` returned for these.
    """
    pairs = localise.pairs_of(reference, quantized)
    tensors = {reference.name(source): index for index, source in pairs.items()}
    expected = _outputs(reference, feeds)
    before = _worst_db(expected, _outputs(quantized, feeds))
    found = list(layers)
    for layer in ranked(layers, _TRIED):
        places = _neighbours(quantized, tensors[layer.name])
        if not places or layer.op == "QUANTIZE":
            continue
        try:
            after = _worst_db(expected, _outputs(in_float(reference, quantized, places), feeds))
        except (RuntimeError, ValueError):  # no float kernel takes what the integer one did
            continue
        gain = after - before
        advice = words(quantized, places, gain)
        found[layers.index(layer)] = replace(layer, advice=advice, gain_db=round(gain, 2))
    return tuple(found)


def _neighbours(graph: Graph, index: int) -> list[int]:
    """Return the positions of the operators that make a tensor, what these read, and read it.

    An error that a layer makes alone is in part that of its inputs' scales.
    """
    maker = graph.producers().get(index)
    near = {index, *(maker.inputs if maker is not None else ())} - {-1}
    return [
        place
        for place, operator in enumerate(graph.operators)
        if (index in operator.inputs or near & set(operator.outputs))
        and graph.op(operator) not in ("QUANTIZE", "CAST")
    ]


def words(graph: Graph, places: Sequence[int], gain: float) -> str:
    """Return the advice on operators that are tried in float32, and gain some dB."""
    if gain < _WORTH_DB:
        return "in float32, with its neighbours, it gains nothing on the worst output"
    labels = [graph.label(graph.operators[place]) for place in places]
    names = [label.removesuffix("_int8").removesuffix("_int16") for label in labels]
    plain = [name.split(";")[0] + ("*" if ";" in name else "") for name in dict.fromkeys(names)]
    options = " ".join(f"--keep-float '{name}'" for name in plain[:_NAMED])
    more = f" and {len(plain) - _NAMED} more" if len(plain) > _NAMED else ""
    return f"keep it and its neighbours in float32: {options}{more}"


def in_float(reference: Graph, quantized: Graph, places: Collection[int]) -> Graph:
    """Return a copy of a quantized graph in which some operators compute in float32.

    Args:
        reference: The float graph that was quantized.
        quantized: The graph.
        places: Positions of the operators.
    """
    return _Turned(reference, quantized.copy()).run(places)


class _Turned:
    """A graph in which operators are turned back; `reals` has the float32 form of tensors."""

    def __init__(self, reference: Graph, graph: Graph) -> None:
        self._reference = reference
        self._constants = {
            reference.name(index): index
            for operator in reference.operators
            for index in operator.inputs
            if reference.is_float(index) and reference.is_constant(index)
        }
        self._graph = graph
        self._reals: dict[int, int] = {}
        self._operators: list[OperatorT] = []

    def run(self, places: Collection[int]) -> Graph:
        graph = self._graph
        for place, operator in enumerate(graph.operators):
            if place not in places:
                self._operators.append(operator)
            elif graph.op(operator) == "DEQUANTIZE":
                self._reals[operator.outputs[0]] = self._real(operator.inputs[0])
            else:
                self._turn(operator)
        graph.subgraph.operators = self._operators
        graph.subgraph.outputs = [self._reals.get(index, index) for index in graph.outputs]
        graph.model.signatureDefs = []
        return graph

    def _turn(self, operator: OperatorT) -> None:
        graph = self._graph
        operator.inputs = [self._real(index) for index in operator.inputs]
        self._operators.append(operator)
        outputs = list(operator.outputs)
        for place, index in enumerate(outputs):
            if graph.dtype(index) in _BITS:
                outputs[place] = self._reals[index] = self._like(index)
                version = QUANTIZE_VERSION[_BITS[graph.dtype(index)]]
                back = graph.operator("QUANTIZE", version, (outputs[place],), (index,))
                self._operators.append(back)
        operator.outputs = outputs

    def _real(self, index: int) -> int:
        """Return the float32 form of a tensor, itself where it stands for no real numbers."""
        graph = self._graph
        stored = graph.tensors[index].quantization if index >= 0 else None
        if stored is None or stored.scale is None or len(stored.scale) == 0:
            return index
        if index not in self._reals:
            if graph.is_constant(index):
                self._reals[index] = graph.add_constant(graph.name(index), self._value(index))
            else:
                self._reals[index] = self._like(index)
                version = DEQUANTIZE_VERSION[_BITS[graph.dtype(index)]]
                made = graph.operator("DEQUANTIZE", version, (index,), (self._reals[index],))
                self._operators.append(made)
        return self._reals[index]

    def _like(self, index: int) -> int:
        graph = self._graph
        return graph.add_activation(f"{graph.name(index)}/real", graph.shape(index), "float32")

    def _value(self, index: int) -> Array:
        """Return the real numbers of a constant, whose slices may have scales of their own."""
        graph = self._graph
        parameters, stored = graph.tensors[index].quantization, graph.value(index)
        shape = [1] * stored.ndim
        if stored.ndim and len(parameters.scale) > 1:
            shape[parameters.quantizedDimension] = -1
        scale = np.asarray(parameters.scale, np.float64).reshape(shape)
        zero_point = np.asarray(parameters.zeroPoint, np.float64).reshape(shape)
        value = ((stored - zero_point) * scale).astype(np.float32)
        original = self._constants.get(graph.name(index))
        if original is not None and self._reference.shape(original) == value.shape:
            exact = self._reference.value(original)
            ends = np.iinfo(stored.dtype)
            saturated = np.isin(stored, (ends.min, ends.max)) & (np.abs(exact) > np.abs(value))
            if bool((saturated | (np.abs(exact - value) <= scale)).all()):
                return exact
        return value


def _outputs(graph: Graph, feeds: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Return by output and sample the real numbers."""
    runner = Runner(graph, graph.outputs)
    rows = [runner.run(localise.stored_feed(graph, feed)) for feed in feeds]
    return [[graph.real(index, row[index]) for row in rows] for index in graph.outputs]


def _worst_db(expected: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]) -> float:
    """Return the lowest SQNR in dB of all outputs of real numbers."""
    figures = [MAX_DB]
    for ones, others in zip(expected, found, strict=True):
        ratio = Ratio()
        for one, other in zip(ones, others, strict=True):
            ratio.add(one, other)
        if ones[0].dtype.kind == "f" and ratio.decibels is not None:
            figures.append(ratio.decibels)
    return min(figures)
