"""Every operator of the rules' table, quantized and run by LiteRT's own kernels and XNNPACK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array
from edgeconv.quantize.rewrite.lower import LOWERED
from edgeconv.quantize.rules.table import INT16_FIXED, INT16_VERSIONS, RULES
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_ROWS = 12
_IMAGE = (1, 6, 8, 4)


def _weights(*shape: int, seed: int = 7) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """One operator under test.

    Attributes:
        build: Adds inputs and the operator to a model and returns its outputs.
        low, high: Bounds of the uniform inputs.
        floor: Least SQNR in dB of each float output.
        agree: Least share of equal values of each integer or boolean output.
    """

    build: Callable[[Any], Any]
    low: float = -3.0
    high: float = 4.0
    floor: float = 30.0
    agree: float = 0.9


def _unary(name: str, *shape: int, **options: Any) -> Callable[[Any], Any]:
    return lambda m: m.op(name, m.input(*(shape or _IMAGE)), **options)


def _binary(name: str, **options: Any) -> Callable[[Any], Any]:
    return lambda m: m.op(name, m.input(*_IMAGE), m.input(*_IMAGE), **options)


def _indexed(name: str, *constants: Any, **options: Any) -> Callable[[Any], Any]:
    def build(m: Any) -> Any:
        return m.op(name, m.input(*_IMAGE), *(m.constant(c, "int32") for c in constants), **options)

    return build


def _conv(m: Any) -> Any:
    weight, bias = m.constant(_weights(5, 3, 3, 4)), m.constant(_weights(5))
    return m.op("CONV_2D", m.input(*_IMAGE), weight, bias, strideH=1, strideW=1)


def _grouped(m: Any) -> Any:
    weight, bias = m.constant(_weights(6, 3, 3, 2)), m.constant(_weights(6))
    return m.op("CONV_2D", m.input(*_IMAGE), weight, bias, strideH=1, strideW=1, version=6)


def _conv_3d(m: Any) -> Any:
    weight, bias = m.constant(_weights(3, 2, 3, 4, 5).clip(-1, 1)), m.constant(_weights(5))
    return m.op("CONV_3D", m.input(1, 5, 6, 7, 4), weight, bias, strideD=1, strideH=1, strideW=1)


def _spread_conv_3d(m: Any) -> Any:
    weight = m.constant(_weights(2, 3, 2, 3, 6))
    options = {"strideD": 2, "strideH": 2, "strideW": 1, "dilationDFactor": 3, "padding": 1}
    return m.op("CONV_3D", m.input(2, 9, 6, 5, 3), weight, **options)


def _flat_conv_3d(m: Any) -> Any:
    options = {"strideD": 1, "strideH": 1, "strideW": 1, "fusedActivationFunction": 1}
    return m.op(
        "CONV_3D",
        m.input(1, 4, 5, 6, 3),
        m.constant(_weights(1, 3, 3, 3, 4).clip(-1, 1)),
        **options,
    )


def _transposed_3d(
    kernel: tuple[int, int, int], stride: int, depth: int, padding: int
) -> Callable[[Any], Any]:
    """CONV_3D_TRANSPOSE of 5 x 4 x 6, strides of 2 in the plane; padding 0 is SAME, 1 VALID."""

    def build(m: Any) -> Any:
        plane = (8, 12) if padding == 0 else (6 + kernel[1], 10 + kernel[2])
        options = {"strideD": stride, "strideH": 2, "strideW": 2, "padding": padding}
        return m.op(
            "CONV_3D_TRANSPOSE",
            m.constant([2, depth, *plane, 5], "int32"),
            m.constant(_weights(*kernel, 5, 3).clip(-1, 1)),
            m.input(2, 5, 4, 6, 3),
            dilationDFactor=1,
            dilationHFactor=1,
            dilationWFactor=1,
            **options,
        )

    return build


def _depthwise(m: Any) -> Any:
    weight, bias = m.constant(_weights(1, 3, 3, 4)), m.constant(_weights(4))
    options = {"strideH": 1, "strideW": 1, "depthMultiplier": 1}
    return m.op("DEPTHWISE_CONV_2D", m.input(*_IMAGE), weight, bias, **options)


def _transpose_conv(m: Any) -> Any:
    shape, weight = m.constant([1, 13, 17, 3], "int32"), m.constant(_weights(3, 3, 3, 4))
    options = {"strideH": 2, "strideW": 2, "padding": 1, "version": 3}
    return m.op(
        "TRANSPOSE_CONV", shape, weight, m.input(*_IMAGE), m.constant(_weights(3)), **options
    )


def _fully_connected(m: Any) -> Any:
    return m.op(
        "FULLY_CONNECTED", m.input(2, 16), m.constant(_weights(9, 16)), m.constant(_weights(9))
    )


def _fully_connected_computed(m: Any) -> Any:
    return m.op("FULLY_CONNECTED", m.input(2, 16), m.input(9, 16), -1, version=6)


def _matmul(m: Any) -> Any:
    return m.op("BATCH_MATMUL", m.input(2, 5, 16), m.input(2, 7, 16), adjY=True)


def _matmul_constant(m: Any) -> Any:
    return m.op("BATCH_MATMUL", m.input(2, 5, 16), m.constant(_weights(16, 7) + 1))


def _pool(name: str) -> Callable[[Any], Any]:
    return _unary(name, strideH=2, strideW=2, filterHeight=2, filterWidth=2)


def _prelu(m: Any) -> Any:
    return m.op("PRELU", m.input(*_IMAGE), m.constant(np.abs(_weights(1, 1, 4))))


def _select(name: str) -> Callable[[Any], Any]:
    def build(m: Any) -> Any:
        condition = m.constant(_weights(*_IMAGE) > 0, "bool")
        return m.op(name, condition, m.input(*_IMAGE), m.input(*_IMAGE))

    return build


def _update(m: Any) -> Any:
    start = m.constant([0, 1, 2, 0], "int32")
    return m.op("DYNAMIC_UPDATE_SLICE", m.input(*_IMAGE), m.input(1, 2, 3, 4), start)


def _split(m: Any) -> Any:
    axis = m.constant(3, "int32")
    return m.op("SPLIT", axis, m.input(*_IMAGE), dtypes=("float32", "float32"), numSplits=2)


def _split_v(m: Any) -> Any:
    sizes, axis = m.constant([1, 3], "int32"), m.constant(3, "int32")
    dtypes = ("float32", "float32")
    return m.op("SPLIT_V", m.input(*_IMAGE), sizes, axis, dtypes=dtypes, numSplits=2)


def _unpack(m: Any) -> Any:
    return m.op("UNPACK", m.input(2, 5), dtypes=("float32", "float32"), num=2, axis=0)


def _strided_slice(m: Any) -> Any:
    bounds = [m.constant(value, "int32") for value in ([0, 1, 0, 0], [1, 6, 8, 4], [1, 2, 3, 1])]
    return m.op("STRIDED_SLICE", m.input(*_IMAGE), *bounds)


def _padv2(m: Any) -> Any:
    pads = m.constant([[0, 0], [1, 1], [2, 0], [0, 0]], "int32")
    return m.op("PADV2", m.input(*_IMAGE), pads, m.constant(1.5))


def _gather_constant(m: Any) -> Any:
    axis = m.constant(1, "int32")
    index = m.op("ARG_MAX", m.input(4, 9), axis, dtypes=("int32",), outputType=2)
    return m.op("GATHER", m.constant(_weights(9, 5)), index)


def _resize(m: Any) -> Any:
    size = m.constant([11, 15], "int32")
    return m.op("RESIZE_BILINEAR", m.input(*_IMAGE), size, halfPixelCenters=True, version=3)


def _fill(m: Any) -> Any:
    return m.op("FILL", m.constant([2, 3], "int32"), m.input())


def _arg(name: str) -> Callable[[Any], Any]:
    def build(m: Any) -> Any:
        axis = m.constant(-1, "int32")
        return m.op(name, m.input(4, 10), axis, dtypes=("int64",), outputType=4)

    return build


def _compare(name: str) -> Callable[[Any], Any]:
    return lambda m: m.op(name, m.input(*_IMAGE), m.input(*_IMAGE), dtypes=("bool",))


def _by_constant(name: str, value: float) -> Callable[[Any], Any]:
    return lambda m: m.op(name, m.input(*_IMAGE), m.constant(value))


def _cast_to_int(m: Any) -> Any:
    return m.op("CAST", m.input(*_IMAGE), dtypes=("int32",), inDataType=0, outDataType=2)


def _cast_to_bool(m: Any) -> Any:
    return m.op("CAST", m.input(*_IMAGE), dtypes=("bool",), inDataType=0, outDataType=6)


def _cast_from_bool(m: Any) -> Any:
    positive = m.op("GREATER", m.input(*_IMAGE), m.constant(0.0), dtypes=("bool",))
    return m.op("CAST", positive, inDataType=6, outDataType=0)


def _cast_from_int(m: Any) -> Any:
    shape = m.op("SHAPE", m.input(*_IMAGE), dtypes=("int32",), outType=2)
    return m.op("CAST", shape, inDataType=2, outDataType=0)


def _add_n(m: Any) -> Any:
    return m.op("ADD_N", m.input(*_IMAGE), m.input(*_IMAGE), m.input(*_IMAGE))


def _dequantize(m: Any) -> Any:
    half = m.constant(_weights(*_IMAGE), "float16")
    return m.op("ADD", m.op("DEQUANTIZE", half, version=3), m.input(*_IMAGE))


CASES: dict[str, Case] = {
    "CONV_2D": Case(_conv),
    "CONV_2D/grouped": Case(_grouped),
    "CONV_3D": Case(_conv_3d),
    "CONV_3D/spread": Case(_spread_conv_3d),
    "CONV_3D/flat": Case(_flat_conv_3d),
    "CONV_3D_TRANSPOSE": Case(_transposed_3d((3, 3, 3), 2, 11, 1)),
    "CONV_3D_TRANSPOSE/same": Case(_transposed_3d((3, 3, 2), 2, 10, 0)),
    "CONV_3D_TRANSPOSE/apart": Case(_transposed_3d((2, 3, 3), 3, 14, 1)),
    "CONV_3D_TRANSPOSE/dense": Case(_transposed_3d((4, 2, 3), 1, 8, 1)),
    "CONV_3D_TRANSPOSE/flat": Case(_transposed_3d((1, 3, 3), 1, 5, 1)),
    "DEPTHWISE_CONV_2D": Case(_depthwise),
    "FULLY_CONNECTED": Case(_fully_connected),
    "FULLY_CONNECTED/computed": Case(_fully_connected_computed),
    "TRANSPOSE_CONV": Case(_transpose_conv),
    "ADD": Case(_binary("ADD")),
    "ADD/constant": Case(lambda m: m.op("ADD", m.input(*_IMAGE), m.constant(_weights(4)))),
    "SUB": Case(_binary("SUB")),
    "MUL": Case(_binary("MUL")),
    "MUL/large": Case(_binary("MUL"), -300.0, 300.0),
    "SQUARED_DIFFERENCE": Case(_binary("SQUARED_DIFFERENCE")),
    "BATCH_MATMUL": Case(_matmul),
    "BATCH_MATMUL/constant": Case(_matmul_constant),
    "ABS": Case(_unary("ABS")),
    "ELU": Case(_unary("ELU")),
    "EXP": Case(_unary("EXP")),
    "GELU": Case(_unary("GELU")),
    "HARD_SWISH": Case(_unary("HARD_SWISH")),
    "LEAKY_RELU": Case(_unary("LEAKY_RELU", alpha=0.1)),
    "LOG": Case(_unary("LOG"), 0.2, 5.0),
    "PRELU": Case(_prelu),
    "RELU": Case(_unary("RELU")),
    "RELU6": Case(_unary("RELU6"), -3.0, 9.0),
    "RELU_N1_TO_1": Case(_unary("RELU_N1_TO_1")),
    "RSQRT": Case(_unary("RSQRT"), 0.5, 5.0),
    "SQRT": Case(_unary("SQRT"), 0.0, 5.0),
    "CEIL": Case(_unary("CEIL"), floor=20.0),
    "COS": Case(_unary("COS")),
    "FLOOR": Case(_unary("FLOOR"), floor=20.0),
    "FLOOR_DIV": Case(_by_constant("FLOOR_DIV", 0.7), floor=20.0),
    "FLOOR_MOD": Case(_by_constant("FLOOR_MOD", 5.0), floor=15.0),
    "POW": Case(_by_constant("POW", 3.0)),
    "RELU_0_TO_1": Case(_unary("RELU_0_TO_1")),
    "ROUND": Case(_unary("ROUND"), floor=20.0),
    "SIGN": Case(_unary("SIGN"), floor=15.0),
    "SIN": Case(_unary("SIN")),
    "L2_NORMALIZATION": Case(_unary("L2_NORMALIZATION")),
    "LOG_SOFTMAX": Case(_unary("LOG_SOFTMAX", 2, 10)),
    "LOGISTIC": Case(_unary("LOGISTIC")),
    "SOFTMAX": Case(_unary("SOFTMAX", 2, 10, beta=1.0)),
    "TANH": Case(_unary("TANH")),
    "MEAN": Case(_indexed("MEAN", [1, 2], keepDims=True), floor=25.0),
    "SUM": Case(_indexed("SUM", [3])),
    "REDUCE_MAX": Case(_indexed("REDUCE_MAX", [1, 2])),
    "REDUCE_MIN": Case(_indexed("REDUCE_MIN", [3])),
    "AVERAGE_POOL_2D": Case(_pool("AVERAGE_POOL_2D")),
    "MAX_POOL_2D": Case(_pool("MAX_POOL_2D")),
    "RESIZE_BILINEAR": Case(
        _indexed("RESIZE_BILINEAR", [11, 15], halfPixelCenters=True, version=3)
    ),
    "RESIZE_NEAREST_NEIGHBOR": Case(_indexed("RESIZE_NEAREST_NEIGHBOR", [12, 16])),
    "BATCH_TO_SPACE_ND": Case(
        lambda m: m.op(
            "BATCH_TO_SPACE_ND",
            m.input(4, 3, 4, 2),
            m.constant([2, 2], "int32"),
            m.constant([[0, 0], [0, 0]], "int32"),
        )
    ),
    "BROADCAST_TO": Case(_indexed("BROADCAST_TO", [3, 6, 8, 4], version=2)),
    "DEPTH_TO_SPACE": Case(_unary("DEPTH_TO_SPACE", blockSize=2)),
    "EXPAND_DIMS": Case(_indexed("EXPAND_DIMS", 1)),
    "FILL": Case(_fill),
    "GATHER": Case(_indexed("GATHER", [2, 0, 1], axis=3)),
    "GATHER/constant": Case(_gather_constant, floor=15.0),
    "GATHER_ND": Case(_indexed("GATHER_ND", [[0, 1], [0, 3]])),
    "MIRROR_PAD": Case(_indexed("MIRROR_PAD", [[0, 0], [1, 1], [2, 0], [0, 0]])),
    "PAD": Case(_indexed("PAD", [[0, 0], [1, 1], [2, 0], [0, 0]])),
    "PADV2": Case(_padv2),
    "RESHAPE": Case(_indexed("RESHAPE", [2, 96])),
    "REVERSE_V2": Case(_indexed("REVERSE_V2", [1])),
    "SLICE": Case(_indexed("SLICE", [0, 1, 2, 0], [1, 3, 4, 4])),
    "SPACE_TO_BATCH_ND": Case(_indexed("SPACE_TO_BATCH_ND", [2, 2], [[1, 1], [0, 2]])),
    "SPACE_TO_DEPTH": Case(_unary("SPACE_TO_DEPTH", blockSize=2)),
    "SPLIT": Case(_split),
    "SPLIT_V": Case(_split_v),
    "SQUEEZE": Case(_unary("SQUEEZE", squeezeDims=np.array([0], np.int32))),
    "STRIDED_SLICE": Case(_strided_slice),
    "TILE": Case(_indexed("TILE", [1, 2, 1, 3])),
    "TOPK_V2": Case(_indexed("TOPK_V2", 3, dtypes=("float32", "int32"))),
    "TRANSPOSE": Case(_indexed("TRANSPOSE", [0, 3, 1, 2])),
    "UNPACK": Case(_unpack),
    "CONCATENATION": Case(_binary("CONCATENATION", axis=3)),
    "DYNAMIC_UPDATE_SLICE": Case(_update),
    "MAXIMUM": Case(_binary("MAXIMUM")),
    "MAXIMUM/constant": Case(_by_constant("MAXIMUM", 0.5)),
    "MINIMUM": Case(_binary("MINIMUM")),
    "PACK": Case(_binary("PACK", axis=1, valuesCount=2)),
    "SELECT": Case(_select("SELECT")),
    "SELECT_V2": Case(_select("SELECT_V2")),
    "ARG_MAX": Case(_arg("ARG_MAX")),
    "ARG_MIN": Case(_arg("ARG_MIN")),
    "EQUAL": Case(_compare("EQUAL")),
    "GREATER": Case(_compare("GREATER")),
    "GREATER_EQUAL": Case(_compare("GREATER_EQUAL")),
    "LESS": Case(_compare("LESS")),
    "LESS/large": Case(_compare("LESS"), -900.0, 900.0),
    "LESS_EQUAL": Case(_compare("LESS_EQUAL")),
    "NOT_EQUAL": Case(_compare("NOT_EQUAL")),
    "RANK": Case(_unary("RANK", dtypes=("int32",))),
    "SHAPE": Case(_unary("SHAPE", dtypes=("int32",), outType=2)),
    "CAST": Case(_cast_to_int),
    "CAST/to_bool": Case(_cast_to_bool),
    "CAST/from_bool": Case(_cast_from_bool, floor=15.0),
    "CAST/from_int": Case(_cast_from_int),
    "ADD_N": Case(_add_n),
    "DEQUANTIZE": Case(_dequantize),
    "DIV": Case(_binary("DIV"), 1.0, 4.0),
    "DIV/constant": Case(_by_constant("DIV", 0.3)),
    "NEG": Case(_unary("NEG")),
    "SQUARE": Case(_unary("SQUARE")),
}


def _quantized(lab: Any, name: str, mode: str) -> tuple[Any, list[Array], list[list[Array]]]:
    """Return the quantized model of a case, the float results, and the samples."""
    case = CASES[name]
    model = lab.model()
    built = case.build(model)
    outputs = built if isinstance(built, list) else [built]
    artifact = lab.save(model, *outputs)
    rng = np.random.default_rng(5)
    rows = [
        [
            np.asarray(rng.uniform(case.low, case.high, spec.shape), spec.dtype)
            for spec in artifact.inputs
        ]
        for _ in range(_ROWS)
    ]
    quantized = lab.quantize(artifact, rows, mode)
    return quantized, lab.run(artifact.path, rows, delegate=False), rows


def _check(reference: Array, result: Array, floor: float, agree: float, lab: Any) -> None:
    assert result.dtype == reference.dtype
    assert result.shape == reference.shape
    if reference.dtype == np.float32:
        assert lab.sqnr(reference, result) >= floor
    else:
        assert np.mean(reference == result) >= agree


@pytest.mark.parametrize("name", CASES)
def test_quantized_operator_computes_what_the_float_one_does(name: str, lab: Any) -> None:
    case = CASES[name]
    quantized, expected, rows = _quantized(lab, name, "int8")
    for delegate in (False, True):
        found = lab.run(quantized.path, rows, delegate=delegate)
        for reference, result in zip(expected, found, strict=True):
            _check(reference, result, case.floor, case.agree, lab)


@pytest.mark.parametrize("name", CASES)
def test_int16_operator_computes_what_the_float_one_does(name: str, lab: Any) -> None:
    quantized, expected, rows = _quantized(lab, name, "int16x8")
    for reference, result in zip(expected, lab.run(quantized.path, rows), strict=True):
        _check(reference, result, 45.0, 0.99, lab)
    graph = Graph(tflite.load(quantized.path))
    for operator in graph.operators:
        if (kind := graph.op(operator)) in ("QUANTIZE", "DEQUANTIZE"):
            continue
        tensors = [index for index in (*operator.inputs, *operator.outputs) if index >= 0]
        dtypes = {graph.dtype(index) for index in tensors}
        # Either there is a kernel, and nothing is float, or the operator is float as a whole.
        assert ("float32" in dtypes) <= (kind not in INT16_VERSIONS)
        assert not {"float32", "int16"} <= dtypes
        if "int16" in dtypes:
            assert graph.version(operator) >= INT16_VERSIONS[kind]


def test_int16_is_symmetric_with_wide_biases(lab: Any) -> None:
    quantized, _, _ = _quantized(lab, "CONV_2D", "int16x8")
    graph = Graph(tflite.load(quantized.path))
    (conv,) = (operator for operator in graph.operators if graph.op(operator) == "CONV_2D")
    source, weight, bias = conv.inputs
    assert [graph.dtype(index) for index in conv.inputs] == ["int16", "int8", "int64"]
    scales = [graph.tensors[index].quantization.scale for index in conv.inputs]
    assert scales[2] == pytest.approx(scales[0] * scales[1], rel=1e-6)
    for index in (source, weight, bias, *conv.outputs):
        assert not np.any(graph.tensors[index].quantization.zeroPoint)


def test_int16_fixes_the_scales_that_the_kernels_prescribe(lab: Any) -> None:
    for name, (scale, zero_point) in INT16_FIXED.items():
        quantized, _, _ = _quantized(lab, name, "int16x8")
        graph = Graph(tflite.load(quantized.path))
        (operator,) = (operator for operator in graph.operators if graph.op(operator) == name)
        stored = graph.tensors[operator.outputs[0]].quantization
        assert (stored.scale[0], stored.zeroPoint[0]) == (np.float32(scale), zero_point)


def test_every_operator_of_the_table_has_a_case() -> None:
    assert {name.partition("/")[0] for name in CASES} == {*RULES, *LOWERED}
    assert {*INT16_VERSIONS} <= {*RULES}
    assert {*INT16_FIXED} <= {*INT16_VERSIONS}
