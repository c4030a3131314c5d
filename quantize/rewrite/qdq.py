"""Import the scales of a model that simulates its own quantization.

Where ONNX has a QuantizeLinear and a DequantizeLinear in a row, the float model has QUANTIZE and
DEQUANTIZE. Those pairs are taken out, and what they say becomes the scale of the tensor. Scales
are compared with those of the ONNX file, so that they are kept to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOptions, MulOptionsT

from edgeconv.convert.onnx.light import load_light
from edgeconv.core.artifacts import Array
from edgeconv.core.errors import InvalidModel
from edgeconv.quantize.params.qparams import INT8_MIN, WEIGHT_MAX, QuantParams
from edgeconv.quantize.rewrite.edges import QUANTIZE_VERSION
from edgeconv.quantize.rules.table import RULES, Scaling, fixed
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_ROUNDING = 1e-5
"""Relative error that a scale may have picked up on its way through a range."""

_OFF_GRID = 1e-2
"""The farthest that a weight may be from a multiple of its scale, in steps."""

_PROBE = 512

_INTEGER = ("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QAttention", "QGemm")
"""Operators on integers that stand for real numbers, beside those named QLinear."""


@dataclass(frozen=True, slots=True)
class Scales:
    """The scales of an ONNX file: those of activations, and those of each weight."""

    activations: tuple[float, ...] = ()
    weights: tuple[Array, ...] = ()

    def nearest(self, scale: float) -> float:
        """Return the scale of an activation that a number is a rounded form of, or the number."""
        close = min(self.activations, key=lambda known: abs(known - scale), default=scale)
        return close if abs(close - scale) <= _ROUNDING * scale else scale

    def of_weight(self, weight: Array, axis: int | None) -> Array | None:
        """Return the scales that a float weight is a whole multiple of, if there are such.

        Args:
            weight: The weight.
            axis: Axis with a scale per slice; ``None`` for one scale in all.

        Returns:
            float32 scales of shape (slices,) or (1,).
        """
        if not self.weights:
            return None
        slices = 1 if axis is None else weight.shape[axis]
        rows = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0)
        rows = rows.reshape(slices, -1).astype(np.float64)
        for scales in self.weights:
            if scales.size not in (1, slices):
                continue
            column = np.broadcast_to(scales.astype(np.float64).reshape(-1, 1), (slices, 1))
            if _on_grid(rows[:, :_PROBE], column) and _on_grid(rows, column):
                return np.ascontiguousarray(column.reshape(-1), np.float32)
        return None


@dataclass(slots=True)
class Imported:
    """What a float graph said of its quantization.

    Attributes:
        affine: Scale and zero point of the tensors that it named.
        scales: The scales of the ONNX file.
        rescaled: Operators that change nothing but the scale.
    """

    affine: dict[int, QuantParams] = field(default_factory=dict)
    scales: Scales = field(default_factory=Scales)
    rescaled: list[OperatorT] = field(default_factory=list)

    def settle(self, graph: Graph) -> None:
        """Make QUANTIZE of the operators that change the scale; the graph runs no longer."""
        for operator in self.rescaled:
            made = graph.operator("QUANTIZE", QUANTIZE_VERSION[8], (), ())
            operator.opcodeIndex = made.opcodeIndex
            operator.inputs = operator.inputs[:1]
            operator.builtinOptions, operator.builtinOptionsType = None, 0


def take(graph: Graph, onnx: Path | None) -> Imported:
    """Take the simulated quantization out of a float graph, in place.

    Args:
        graph: The graph.
        onnx: The ONNX file that it was made from.
    """
    pairs = _pairs(graph)
    if not pairs:
        return Imported()
    scales = Scales() if onnx is None or not onnx.exists() else read_scales(onnx)
    return _Taking(graph, pairs, scales).run()


def require_real(onnx: Path) -> None:
    """Refuse an ONNX file that computes with integers instead of simulating that it does.

    Raises:
        InvalidModel: Naming its operators.
    """
    kinds = {node.op_type for node in load_light(onnx).graph.node}
    integer = sorted(kind for kind in kinds if kind.startswith("QLinear") or kind in _INTEGER)
    if integer:
        raise InvalidModel(
            "the model is quantized already",
            where=onnx.name,
            why="it has " + ", ".join(integer),
            hint="give the float model, or one quantized in QDQ format, whose scales are kept",
        )


def read_scales(onnx: Path) -> Scales:
    """Return the scales of an ONNX file's QuantizeLinear and DequantizeLinear nodes."""
    import onnx as library
    from onnx import numpy_helper

    model = library.load(str(onnx))
    arrays: dict[str, Any] = {item.name: item for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            arrays[node.output[0]] = node.attribute[0].t
        elif node.op_type == "Identity" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]]
    makers = {name: node for node in model.graph.node for name in node.output}
    activations, weights = [], []
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[1] not in arrays:
            continue
        scale = numpy_helper.to_array(arrays[node.input[1]]).astype(np.float32)
        maker = makers.get(node.input[0])
        simulated = maker is not None and maker.op_type == "QuantizeLinear"
        source = maker.input[0] if maker is not None and simulated else node.input[0]
        if source in arrays:
            weights.append(scale.reshape(-1))
        elif scale.size == 1:
            activations.append(float(scale.item()))
    return Scales(tuple(activations), tuple(weights))


def _on_grid(rows: Array, scales: Array) -> bool:
    steps = rows / scales
    whole = np.rint(steps)
    if np.abs(steps - whole).max(initial=0) > _OFF_GRID:
        return False
    return bool(np.abs(whole).max(initial=0) <= WEIGHT_MAX + 1)


def _pairs(graph: Graph) -> dict[int, OperatorT]:
    """Return the QUANTIZE of each 8-bit tensor that nothing but DEQUANTIZE reads."""
    readers = graph.consumers()
    found = {}
    for operator in graph.operators:
        if graph.op(operator) != "QUANTIZE" or not graph.is_float(operator.inputs[0]):
            continue
        stored = operator.outputs[0]
        kinds = {graph.op(reader) for reader in readers.get(stored, [])}
        narrow = graph.dtype(stored) in ("int8", "uint8")
        if narrow and kinds == {"DEQUANTIZE"} and stored not in graph.outputs:
            found[stored] = operator
    return found


class _Taking:
    def __init__(self, graph: Graph, pairs: Mapping[int, OperatorT], scales: Scales) -> None:
        self._graph = graph
        self._pairs = pairs
        self._alias: dict[int, int] = {}
        self._root: dict[int, int] = {}
        self._known: dict[int, QuantParams] = {}
        self._operators: list[OperatorT] = []
        self._imported = Imported(scales=scales)

    def run(self) -> Imported:
        graph = self._graph
        for operator in graph.operators:
            operator.inputs = [self._alias.get(index, index) for index in operator.inputs]
            if operator.outputs[0] in self._pairs:
                continue
            if graph.op(operator) == "DEQUANTIZE" and operator.inputs[0] in self._pairs:
                self._take(operator.inputs[0], operator.outputs[0])
            else:
                self._operators.append(operator)
                self._follow(operator)
        graph.subgraph.operators = self._operators
        for stored in self._pairs:
            graph.tensors[stored].quantization = None
        return self._imported

    def _follow(self, operator: OperatorT) -> None:
        """Note what prescribes or ties the scale of an operator's outputs."""
        name = self._graph.op(operator)
        rule = RULES.get(name)
        moved = rule is not None and rule.scaling is Scaling.SAME
        source = next((index for index in operator.inputs if self._graph.is_float(index)), None)
        for output in operator.outputs:
            self._root[output] = (
                self._root.get(source, source) if moved and source is not None else output
            )
            if (prescribed := fixed(name, 8)) is not None:
                self._known[output] = QuantParams(*prescribed)

    def _take(self, stored: int, copy: int) -> None:
        """Let one tensor stand for both ends of a pair, or rescale where it has another scale."""
        graph = self._graph
        source = self._alias.get(self._pairs[stored].inputs[0], self._pairs[stored].inputs[0])
        affine = self._affine(stored)
        root = self._root.get(source, source)
        free = self._known.get(root, affine) == affine
        if not free or (copy in graph.outputs and not self._may_rename(source)):
            self._rescale(source, copy)
            self._root[copy] = copy
            root = copy
        elif copy in graph.outputs:
            self._rename(source, copy)
            source = copy
        else:
            self._alias[copy] = source
        self._known[self._root.get(root, root)] = affine
        self._imported.affine[copy if root == copy else source] = affine

    def _may_rename(self, source: int) -> bool:
        ends = (*self._graph.inputs, *self._graph.outputs)
        return source not in ends and not self._graph.is_constant(source)

    def _rename(self, old: int, new: int) -> None:
        """Let a graph's output take the place of the tensor that it is a copy of."""
        for operator in self._operators:
            operator.inputs = [new if index == old else index for index in operator.inputs]
            operator.outputs = [new if index == old else index for index in operator.outputs]
        self._alias = {key: new if value == old else value for key, value in self._alias.items()}
        self._alias[old] = new
        root = self._root.get(old, old)
        self._root = {key: new if value == old else value for key, value in self._root.items()} | {
            new: new if root == old else root
        }
        if old in self._known:
            self._known[new] = self._known.pop(old)
        if old in self._imported.affine:
            self._imported.affine[new] = self._imported.affine.pop(old)

    def _rescale(self, source: int, copy: int) -> None:
        """Add an operator that changes nothing, and that `Imported.settle` turns into QUANTIZE."""
        graph = self._graph
        one = graph.add_constant(f"{graph.name(copy)}/one", np.array(1, np.float32))
        options = (BuiltinOptions.MulOptions, MulOptionsT())
        operator = graph.operator("MUL", 1, (source, one), (copy,), options)
        self._operators.append(operator)
        self._imported.rescaled.append(operator)

    def _affine(self, stored: int) -> QuantParams:
        quantization = self._graph.tensors[stored].quantization
        scale = self._imported.scales.nearest(float(quantization.scale[0]))
        shift = INT8_MIN if self._graph.dtype(stored) == "uint8" else 0
        return QuantParams(scale, int(quantization.zeroPoint[0]) + shift)
