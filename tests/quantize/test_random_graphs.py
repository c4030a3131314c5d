"""Random graphs of many operators, quantized and compared with the float model."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array, Artifact
from edgeconv.quantize.rules.precision import Rule
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_Shape = tuple[int, int, int]
_UNARY = ("ABS", "HARD_SWISH", "LOGISTIC", "NEG", "RELU", "RELU6", "SQUARE", "TANH")
_BINARY = ("ADD", "MAXIMUM", "MINIMUM", "MUL", "SUB")
_PADS = [[0, 0], [1, 0], [0, 1], [0, 0]]


class _Grower:
    """Adds one random operator after another to a model."""

    def __init__(self, model: Any, rng: np.random.Generator) -> None:
        self.model = model
        self.rng = rng
        self.values: list[tuple[int, _Shape]] = [(model.input(1, 6, 6, 4), (6, 6, 4))]

    def grow(self) -> None:
        index, shape = self.values[self.rng.integers(len(self.values))]
        kinds: tuple[Callable[[int, _Shape], None], ...] = (
            self.unary,
            self.binary,
            self.convolution,
            self.depthwise,
            self.concatenation,
            self.padding,
            self.pool,
            self.split,
            self.reduction,
            self.constant_term,
        )
        kinds[self.rng.integers(len(kinds))](index, shape)

    def weights(self, *shape: int) -> int:
        scale = 10 ** self.rng.uniform(-1, 1)
        index: int = self.model.constant(self.rng.normal(size=shape) * scale)
        return index

    def activation(self) -> dict[str, int]:
        return {"fusedActivationFunction": int(self.rng.choice([0, 1, 3]))}

    def unary(self, index: int, shape: _Shape) -> None:
        self.values.append((self.model.op(self.rng.choice(_UNARY), index), shape))

    def binary(self, index: int, shape: _Shape) -> None:
        partners = [other for other, size in self.values if size == shape]
        name = self.rng.choice(_BINARY)
        options = self.activation() if name in ("ADD", "MUL", "SUB") else {}
        other = partners[self.rng.integers(len(partners))]
        self.values.append((self.model.op(name, index, other, **options), shape))

    def convolution(self, index: int, shape: _Shape) -> None:
        out = int(self.rng.integers(1, 6))
        weight, bias = self.weights(out, 1, 1, shape[2]), self.weights(out)
        options = {"strideH": 1, "strideW": 1, **self.activation()}
        result = self.model.op("CONV_2D", index, weight, bias, **options)
        self.values.append((result, (*shape[:2], out)))

    def depthwise(self, index: int, shape: _Shape) -> None:
        weight, bias = self.weights(1, 3, 3, shape[2]), self.weights(shape[2])
        options = {"strideH": 1, "strideW": 1, "depthMultiplier": 1, **self.activation()}
        result = self.model.op("DEPTHWISE_CONV_2D", index, weight, bias, **options)
        self.values.append((result, shape))

    def concatenation(self, index: int, shape: _Shape) -> None:
        partners = [(other, size[2]) for other, size in self.values if size[:2] == shape[:2]]
        other, channels = partners[self.rng.integers(len(partners))]
        result = self.model.op("CONCATENATION", index, other, axis=3)
        self.values.append((result, (*shape[:2], shape[2] + channels)))

    def padding(self, index: int, shape: _Shape) -> None:
        value = [self.model.constant(self.rng.normal() * 3)] if self.rng.random() < 0.5 else []
        name = "PADV2" if value else "PAD"
        result = self.model.op(name, index, self.model.constant(_PADS, "int32"), *value)
        self.values.append((result, (shape[0] + 1, shape[1] + 1, shape[2])))

    def pool(self, index: int, shape: _Shape) -> None:
        options = {"strideH": 1, "strideW": 1, "filterHeight": 2, "filterWidth": 2}
        name = self.rng.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"])
        self.values.append((self.model.op(name, index, **options), shape))

    def split(self, index: int, shape: _Shape) -> None:
        if shape[2] % 2:
            return
        axis, dtypes = self.model.constant(3, "int32"), ("float32", "float32")
        for result in self.model.op("SPLIT", axis, index, dtypes=dtypes, numSplits=2):
            self.values.append((result, (*shape[:2], shape[2] // 2)))

    def reduction(self, index: int, shape: _Shape) -> None:
        name = self.rng.choice(["MEAN", "REDUCE_MAX", "SUM"])
        axis = self.model.constant([3], "int32")
        result = self.model.op(name, index, axis, keepDims=True)
        self.values.append((result, (*shape[:2], 1)))

    def constant_term(self, index: int, shape: _Shape) -> None:
        name = self.rng.choice(_BINARY)
        self.values.append((self.model.op(name, index, self.weights(shape[2])), shape))


def _comparable(array: Array) -> bool:
    """Tell whether an output is large enough to compare: not what is left of equal terms."""
    return bool(0.1 < np.sqrt(np.mean(array.astype(np.float64) ** 2)) < 1e6)


def _grown(seed: int, lab: Any) -> tuple[Artifact, list[list[Array]], np.random.Generator]:
    """Return a random graph, samples for it, and the generator that made them."""
    rng = np.random.default_rng(seed)
    model = lab.model()
    grower = _Grower(model, rng)
    for _ in range(rng.integers(3, 12)):
        grower.grow()
    indices = [index for index, _ in grower.values]
    outputs = [index for index in indices if index == indices[-1] or rng.random() < 0.2]
    artifact = lab.save(model, *outputs)
    return artifact, [[rng.normal(size=(1, 6, 6, 4)).astype(np.float32)] for _ in range(6)], rng


def _compare(
    lab: Any, artifact: Artifact, quantized: Artifact, rows: list[list[Array]], floor: float
) -> None:
    expected = lab.run(artifact.path, rows, delegate=False)
    for delegate in (False, True):
        found = lab.run(quantized.path, rows, delegate=delegate)
        for reference, result in zip(expected, found, strict=True):
            if _comparable(reference):
                assert lab.sqnr(reference, result) >= floor


@pytest.mark.parametrize("seed", range(40))
def test_random_graph(seed: int, lab: Any) -> None:
    artifact, rows, _ = _grown(seed, lab)
    quantized = lab.quantize(artifact, rows, calibrator=("minmax", "mse")[seed % 2])
    _compare(lab, artifact, quantized, rows, 20.0)


@pytest.mark.parametrize("seed", range(100, 140))
def test_random_graph_with_int16_activations(seed: int, lab: Any) -> None:
    artifact, rows, _ = _grown(seed, lab)
    quantized = lab.quantize(artifact, rows, "int16x8")
    _compare(lab, artifact, quantized, rows, 28.0)


@pytest.mark.parametrize("seed", range(200, 240))
def test_random_graph_of_mixed_precision(seed: int, lab: Any) -> None:
    artifact, rows, rng = _grown(seed, lab)
    graph = Graph(tflite.load(artifact.path))
    precisions = rng.choice(["float", "int16", "int8", "weight-only"], len(graph.operators))
    names = [f"^{re.escape(graph.label(operator))}$" for operator in graph.operators]
    pairs = zip(names, precisions.tolist(), strict=True)
    rules = [Rule(precision, pattern=name).to_dict() for name, precision in pairs]
    quantized = lab.quantize(artifact, rows, rules=rules)
    _compare(lab, artifact, quantized, rows, 20.0)
    io_dtype = ("int8", "uint8")[seed % 2]
    edged = lab.quantize(artifact, rows, rules=rules, io_dtype=io_dtype)
    assert {spec.dtype for spec in (*edged.inputs, *edged.outputs)} == {io_dtype}
