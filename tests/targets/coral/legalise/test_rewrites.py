"""Every rewrite on a small model: the numbers stay, the operators become ones that map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array, Artifact
from edgeconv.targets.coral.legalise import REWRITES
from edgeconv.targets.coral.legalise.engine import legalise
from edgeconv.targets.coral.placement.predict import predict
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_IMAGE = (1, 6, 8, 4)
_ROWS = 8


def _weights(*shape: int) -> Array:
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A model with something to rewrite.

    Attributes:
        rewrite: The rewrite's name.
        build: Adds inputs and operators to a model and returns its output.
        operators: What is left, in order; ``None`` where only the kinds matter.
        low, high: Bounds of the inputs.
        floor: Least SQNR in dB of the float model.
        slack: How many dB of int8 SQNR the rewrite may cost.
    """

    rewrite: str
    build: Callable[[Any], Any]
    operators: Sequence[str] | None = None
    low: float = -4.0
    high: float = 4.0
    floor: float = 110.0
    slack: float = 1.0


def _unary(name: str, *shape: int, **options: Any) -> Callable[[Any], Any]:
    return lambda m: m.op(name, m.input(*(shape or _IMAGE)), **options)


def _of_constant(
    name: str, constant: Any, *shape: int, dtype: str = "int32", **options: Any
) -> Callable[[Any], Any]:
    return lambda m: m.op(name, m.input(*(shape or _IMAGE)), m.constant(constant, dtype), **options)


def _sum_of_three(m: Any) -> Any:
    return m.op("ADD_N", m.input(*_IMAGE), m.input(*_IMAGE), m.input(*_IMAGE))


def _grouped(m: Any) -> Any:
    weight, bias = m.constant(_weights(6, 3, 3, 2)), m.constant(_weights(6))
    options = {"strideH": 1, "strideW": 1, "fusedActivationFunction": 1, "version": 6}
    return m.op("CONV_2D", m.input(*_IMAGE), weight, bias, **options)


def _deconvolution(m: Any) -> Any:
    shape, weight = m.constant([1, 13, 17, 3], "int32"), m.constant(_weights(3, 3, 3, 4))
    options = {"strideH": 2, "strideW": 2, "padding": 1, "version": 4, "fusedActivationFunction": 1}
    return m.op(
        "TRANSPOSE_CONV", shape, weight, m.input(*_IMAGE), m.constant(_weights(3)), **options
    )


def _pool_with_relu(m: Any) -> Any:
    options = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    return m.op("AVERAGE_POOL_2D", m.input(*_IMAGE), fusedActivationFunction=1, **options)


def _padded_pool(m: Any) -> Any:
    where = m.constant([[0, 0], [1, 1], [1, 1], [0, 0]], "int32")
    padded = m.op("PADV2", m.input(*_IMAGE), where, m.constant(-3e38))
    options = {"strideH": 2, "strideW": 2, "filterHeight": 3, "filterWidth": 3, "padding": 1}
    return m.op("MAX_POOL_2D", padded, **options)


def _filled(m: Any) -> Any:
    where = m.constant([[0, 0], [1, 2], [0, 1], [0, 0]], "int32")
    return m.op("PADV2", m.input(*_IMAGE), where, m.constant(-1.5))


def _stepped(m: Any) -> Any:
    operands = ([0, 1, 0, 0], [1, 6, 8, 4], [1, 2, 3, 1])
    return m.op("STRIDED_SLICE", m.input(*_IMAGE), *(m.constant(v, "int32") for v in operands))


def _uneven(m: Any) -> Any:
    sizes, axis = m.constant([1, 3], "int32"), m.constant(3, "int32")
    kinds = ("float32",) * 2
    small, large = m.op("SPLIT_V", m.input(*_IMAGE), sizes, axis, dtypes=kinds, numSplits=2)
    return m.op("ADD", large, small)


def _unpacked(m: Any) -> Any:
    first, second = m.op("UNPACK", m.input(2, 6, 4), axis=0, num=2, dtypes=("float32",) * 2)
    return m.op("SUB", first, second)


def _patches(m: Any) -> Any:
    x = m.op("RESHAPE", m.input(1, 8, 12, 3), m.constant([1, 2, 4, 3, 4, 3], "int32"))
    turned = m.op("TRANSPOSE", x, m.constant([0, 1, 3, 2, 4, 5], "int32"), version=4)
    return m.op("RESHAPE", turned, m.constant([1, 6, 48], "int32"))


def _windows(m: Any) -> Any:
    """Windows of 17 x 18 pixels of an image, as a transformer of windows cuts them."""
    x = m.op("RESHAPE", m.input(1, 34, 36, 3), m.constant([1, 2, 17, 2, 18, 3], "int32"))
    turned = m.op("TRANSPOSE", x, m.constant([0, 3, 1, 4, 2, 5], "int32"), version=4)
    return m.op("RESHAPE", turned, m.constant([1, 4, 306, 3], "int32"))


def _class_token(m: Any) -> Any:
    parts = (m.constant(_weights(1, 1, 8)), m.input(1, 6, 8), m.constant(_weights(1, 2, 8)))
    return m.op("CONCATENATION", *parts, axis=1)


def _rows_swapped(m: Any) -> Any:
    x = m.op("RESHAPE", m.input(1, 6, 4, 5), m.constant([1, 2, 3, 4, 5], "int32"))
    turned = m.op("TRANSPOSE", x, m.constant([0, 2, 1, 3, 4], "int32"), version=4)
    return m.op("RESHAPE", turned, m.constant([1, 6, 4, 5], "int32"))


def _conv(m: Any, x: Any, outputs: int, seed: int) -> Any:
    width = m.graph.shape(x)[-1]
    rng = np.random.default_rng(seed)
    weight = m.constant(rng.normal(size=(outputs, 1, 1, width)) / width**0.5)
    bias = m.constant(rng.normal(size=outputs))
    y = m.op("CONV_2D", x, weight, bias, strideH=1, strideW=1, fusedActivationFunction=1)
    m.graph.tensors[y].shape = np.array((*m.graph.shape(x)[:3], outputs), np.int32)
    return y


def _shuffled(m: Any, x: Any, groups: int) -> Any:
    _, height, width, channels = m.graph.shape(x)
    sizes = (height * width, groups, channels // groups)
    y = m.op("RESHAPE", x, m.constant(sizes, "int32"))
    m.graph.tensors[y].shape = np.array(sizes, np.int32)
    y = m.op("TRANSPOSE", y, m.constant([0, 2, 1], "int32"))
    y = m.op("RESHAPE", y, m.constant((1, height, width, channels), "int32"))
    m.graph.tensors[y].shape = np.array((1, height, width, channels), np.int32)
    return y


def _shuffle_units(m: Any) -> Any:
    """Three units of ShuffleNet V2: half of the channels pass, half are convolved."""
    x = m.input(1, 4, 5, 6)
    pair = [_conv(m, x, 8, 1), _conv(m, x, 8, 2)]
    for unit in range(3):
        y = _shuffled(m, _joined(m, pair), 2)
        kept, used = m.op("SPLIT", m.constant(3, "int32"), y, dtypes=("float32",) * 2, numSplits=2)
        for half in (kept, used):
            m.graph.tensors[half].shape = np.array((1, 4, 5, 8), np.int32)
        pair = [kept, _conv(m, used, 8, 3 + unit)]
    whole = _joined(m, pair)
    filters, bias = m.constant(_weights(1, 3, 3, 16)), m.constant(_weights(16))
    options = {"strideH": 1, "strideW": 1, "depthMultiplier": 1}
    deep = m.op("DEPTHWISE_CONV_2D", whole, filters, bias, **options)
    m.graph.tensors[deep].shape = np.array((1, 4, 5, 16), np.int32)
    return m.op("ADD", _conv(m, deep, 4, 9), _conv(m, whole, 4, 10))


def _joined(m: Any, pair: Sequence[Any]) -> Any:
    y = m.op("CONCATENATION", *pair, axis=3)
    m.graph.tensors[y].shape = np.array((1, 4, 5, 16), np.int32)
    return y


def _rows(m: Any) -> Any:
    weight, bias = m.constant(_weights(5, 8)), m.constant(_weights(5))
    return m.op("FULLY_CONNECTED", m.input(1, 7, 8), weight, bias, keepNumDims=True, version=5)


def _one_row(m: Any) -> Any:
    weight, bias = m.constant(_weights(5, 8)), m.constant(_weights(5))
    return m.op("FULLY_CONNECTED", m.input(1, 1, 8), weight, bias, keepNumDims=True, version=5)


def _by_constant(m: Any) -> Any:
    return m.op("BATCH_MATMUL", m.input(1, 7, 8), m.constant(_weights(8, 5)))


def _enlarged(m: Any) -> Any:
    size = m.constant([5, 3], "int32")
    return m.op("RESIZE_BILINEAR", m.input(1, 1, 1, 4), size, halfPixelCenters=True, version=3)


def _decoder(*size: int, **options: Any) -> Callable[[Any], Any]:
    """An image that is enlarged, and read by a convolution."""

    def build(m: Any) -> Any:
        grown = m.op("RESIZE_BILINEAR", m.input(*_IMAGE), m.constant(size, "int32"), **options)
        m.graph.tensors[grown].shape = np.array((1, *size, 4), np.int32)
        return _conv(m, grown, 3, 1)

    return build


_REFLECT = [[0, 0], [2, 1], [1, 2], [0, 0]]

CASES = (
    Case("narrow-indices", _of_constant("PAD", _REFLECT, dtype="int64"), ["PAD"]),
    Case("clip-to-one", _unary("RELU_0_TO_1"), ["RELU", "MINIMUM"], slack=3.0),
    Case("square", _unary("SQUARE"), ["MUL"]),
    Case("negation", _unary("NEG"), ["MUL"]),
    Case("absolute-value", _unary("ABS"), ["MUL", "MAXIMUM"]),
    Case("sum-of-many", _sum_of_three, ["ADD", "ADD"]),
    Case("division", _of_constant("DIV", [[2.0, 3, 4, 5]], dtype="float32"), ["MUL"]),
    Case("power", _of_constant("POW", 2.0, dtype="float32"), ["MUL"]),
    Case("power", _of_constant("POW", 3.0, dtype="float32"), ["MUL", "MUL"], slack=3.0),
    Case("power", _of_constant("POW", -0.5, dtype="float32"), ["RSQRT"], low=1.0, slack=3.0),
    Case("hard-swish", _unary("HARD_SWISH"), ["MAXIMUM", "ADD", "MUL", "MUL"], slack=3.0),
    Case("leaky-relu", _unary("LEAKY_RELU", alpha=0.1), ["MUL", "MAXIMUM"]),
    Case("leaky-relu", _unary("LEAKY_RELU", alpha=1.5), ["MUL", "MINIMUM"], slack=2.0),
    Case(
        "prelu",
        lambda m: m.op("PRELU", m.input(*_IMAGE), m.constant(np.abs(_weights(6, 8, 4)))),
        ["MINIMUM", "MUL", "RELU", "ADD"],
        slack=3.0,
    ),
    Case("elu", _unary("ELU"), floor=105.0, slack=6.0),
    Case("gelu-tanh", _unary("GELU", approximate=True), slack=6.0),
    Case("gelu", _unary("GELU"), floor=60.0, slack=6.0),
    Case("max-pool-padding", _padded_pool),
    Case("constant-padding", _filled, ["ADD", "PAD", "ADD"], slack=4.0),
    Case("mirror-padding", _of_constant("MIRROR_PAD", _REFLECT)),
    Case("mirror-padding", _of_constant("MIRROR_PAD", _REFLECT, mode=1)),
    Case("grouped-convolution", _grouped),
    Case(
        "transposed-convolution-activation", _deconvolution, ["TRANSPOSE_CONV", "RELU"], slack=3.0
    ),
    Case("fused-activation", _pool_with_relu, ["AVERAGE_POOL_2D", "RELU"], slack=3.0),
    Case("stepped-slice", _stepped, ["STRIDED_SLICE", "MAX_POOL_2D"]),
    Case("gather-runs", _of_constant("GATHER", [3, 4, 5, 0, 1], axis=2)),
    Case("gather-runs", _of_constant("GATHER", [[0, 1], [2, 3]], 1, 4, 3, axis=1)),
    Case("uneven-split", _uneven),
    Case("unpack", _unpacked),
    Case("constant-concatenation", _class_token, ["PAD", "ADD"], slack=3.0),
    Case("transpose", _patches),
    Case("transpose", _windows),
    Case("transpose", _rows_swapped, ["RESHAPE", "TRANSPOSE", "RESHAPE"]),
    Case("transpose", lambda m: _shuffled(m, m.input(1, 4, 4, 6), 2)),
    Case("transpose", lambda m: _shuffled(m, m.input(1, 4, 4, 6), 3)),
    Case("transpose", _of_constant("TRANSPOSE", [1, 0], 20, 6)),
    Case("channel-shuffle", _shuffle_units, slack=2.0),
    Case("pixel-shuffle", _unary("DEPTH_TO_SPACE", 1, 3, 5, 12, blockSize=2)),
    Case("pixel-shuffle", _unary("DEPTH_TO_SPACE", 1, 2, 5, 27, blockSize=3)),
    Case("nearest-by-copies", _of_constant("RESIZE_NEAREST_NEIGHBOR", [18, 32])),
    Case(
        "nearest-by-copies",
        _of_constant("RESIZE_NEAREST_NEIGHBOR", [6, 24], halfPixelCenters=True, version=3),
    ),
    Case("bilinear-by-phases", _decoder(24, 32, halfPixelCenters=True, version=3), slack=2.0),
    Case("bilinear-by-phases", _decoder(18, 8), slack=2.0),
    Case("resize-of-one-pixel", _enlarged, ["TILE"]),
    Case("mean-axes", _of_constant("MEAN", [0, 1, 2], keepDims=True), ["MEAN"]),
    Case("mean-axes", _of_constant("MEAN", [2], 1, 6, 5), slack=2.0),
    Case("mean-axes", _of_constant("SUM", [-1], 1, 6, 4, 5), slack=2.0),
    Case("linear-over-rows", _rows, ["RESHAPE", "CONV_2D", "RESHAPE"]),
    Case("linear-over-rows", _one_row, ["FULLY_CONNECTED", "RESHAPE"]),
    Case("matmul-by-constant", _by_constant, ["RESHAPE", "CONV_2D", "RESHAPE"]),
)


def _name(case: Case) -> str:
    return case.rewrite


def test_every_rewrite_is_tested() -> None:
    assert {entry.name for entry in REWRITES} == {case.rewrite for case in CASES}
    assert all(entry.why for entry in REWRITES)


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_the_rewritten_model_computes_the_same(lab: Any, case: Case) -> None:
    model = lab.model()
    before = lab.save(model, case.build(model))
    after, applied = _legalised(before, lab.folder)
    assert case.rewrite in applied
    graph = Graph(tflite.load(after.path))
    found = [graph.op(operator) for operator in graph.operators]
    assert case.operators is None or found == list(case.operators)
    rows = _samples(before, case)
    reference = lab.run(before.path, rows)
    assert lab.sqnr(reference[0], lab.run(after.path, rows)[0]) >= case.floor


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_the_rewritten_model_quantizes_as_well(lab: Any, case: Case) -> None:
    model = lab.model()
    before = lab.save(model, case.build(model))
    after, _ = _legalised(before, lab.folder)
    rows = _samples(before, case)
    reference = lab.run(before.path, rows)[0]
    ratios = []
    for artifact in (before, after):
        quantized = lab.quantize(artifact, rows, io_dtype="int8")
        ratios.append(lab.sqnr(reference, _integers(lab, quantized, rows)))
    assert ratios[1] >= min(ratios[0] - case.slack, 45.0)
    prediction = predict(quantized.path)
    assert prediction.macs_share == 1
    assert {op.reason for op in prediction.ops} == {"mapped"}


def test_what_is_enlarged_at_the_end_is_left_to_the_cpu(lab: Any) -> None:
    model = lab.model()
    before = lab.save(model, _of_constant("RESIZE_BILINEAR", [24, 32])(model))
    after, applied = _legalised(before, lab.folder)
    assert not applied
    assert _operators(after.path) == ["RESIZE_BILINEAR"]


def test_a_shuffle_that_is_not_read_by_convolutions_becomes_slices(lab: Any) -> None:
    model = lab.model()
    before = lab.save(model, model.op("RELU", _shuffled(model, model.input(1, 4, 5, 6), 3)))
    after, applied = _legalised(before, lab.folder)
    assert applied == ["transpose"]
    assert "TRANSPOSE" not in _operators(after.path)


def test_transposes_of_five_axes_become_ones_that_the_compiler_can_read(lab: Any) -> None:
    model = lab.model()
    x = model.op("RESHAPE", model.input(1, 6, 4, 10), model.constant([2, 3, 4, 5, 2], "int32"))
    turned = model.op("TRANSPOSE", x, model.constant([3, 1, 2, 0, 4], "int32"), version=4)
    before = lab.save(model, model.op("RESHAPE", turned, model.constant([1, 240], "int32")))
    after, applied = _legalised(before, lab.folder)
    assert applied == ["transpose"]
    graph = Graph(tflite.load(after.path))
    assert max(len(graph.shape(out)) for op in graph.operators for out in op.outputs) <= 4
    assert {graph.version(operator) for operator in graph.operators} == {1}
    rows = [[np.arange(240, dtype=np.float32).reshape(1, 6, 4, 10)]]
    np.testing.assert_array_equal(lab.run(before.path, rows)[0], lab.run(after.path, rows)[0])


def test_a_shuffle_between_convolutions_costs_no_operator(lab: Any) -> None:
    model = lab.model()
    shuffled = _shuffled(model, _conv(model, model.input(1, 4, 5, 6), 12, 1), 3)
    before = lab.save(model, _conv(model, shuffled, 5, 2))
    after, applied = _legalised(before, lab.folder)
    assert applied == ["channel-shuffle"]
    assert _operators(after.path) == ["CONV_2D", "CONV_2D"]


def _legalised(model: Artifact, folder: Path) -> tuple[Artifact, list[str]]:
    answer = legalise(model.to_dict(), str(folder / "legal.tflite"), allow_approximate=True)
    return Artifact.from_dict(answer["artifact"]), [entry["name"] for entry in answer["applied"]]


def _samples(model: Artifact, case: Case) -> list[list[Array]]:
    rng = np.random.default_rng(3)
    return [
        [
            rng.uniform(case.low, case.high, [size or 0 for size in spec.shape]).astype(np.float32)
            for spec in model.inputs
        ]
        for _ in range(_ROWS)
    ]


def _integers(lab: Any, model: Artifact, rows: list[list[Array]]) -> Array:
    """Return the first output of a model with integer inputs and outputs, as real numbers."""
    stored = [
        [spec.store(array) for spec, array in zip(model.inputs, row, strict=True)] for row in rows
    ]
    return np.stack([model.outputs[0].restore(array) for array in lab.run(model.path, stored)[0]])


def _operators(path: Path) -> list[str]:
    graph = Graph(tflite.load(path))
    return [graph.op(operator) for operator in graph.operators]
