"""Which tensors hold whole multiples of a step, and the scales that store them exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.quantize.params.qparams import QuantParams, Range
from edgeconv.quantize.rules import whole
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph


def _step(model: Any, output: int) -> float | None:
    return whole.steps(model.graph).get(output)


@pytest.mark.parametrize("kind", ["FLOOR", "CEIL", "ROUND"])
def test_what_rounding_makes_is_whole(lab: Any, kind: str) -> None:
    model = lab.model()
    assert _step(model, model.op(kind, model.input(1, 4))) == 1.0


def test_arithmetic_of_whole_numbers_has_a_step(lab: Any) -> None:
    model = lab.model()
    x = model.op("FLOOR", model.input(1, 4))
    thirds = model.op("DIV", x, model.constant(3.0))
    halves = model.op("MUL", x, model.constant([0.5, 2.0, 1.5, 4.0]))
    limited = model.op("MINIMUM", model.op("ABS", halves), model.constant(7.25))
    sums = model.op("ADD", halves, thirds)
    squares = model.op("SQUARED_DIFFERENCE", halves, x)
    joined = model.op("CONCATENATION", x, halves, axis=1)
    found = {name: _step(model, index) for name, index in locals().items() if name != "model"}
    assert found["halves"] == 0.5
    assert found["thirds"] == pytest.approx(1 / 3)
    assert found["limited"] == 0.25
    assert found["sums"] == pytest.approx(1 / 6)
    assert found["squares"] == 0.25
    assert found["joined"] == 0.5


def test_what_mixes_or_measures_values_has_no_step(lab: Any) -> None:
    model = lab.model()
    x = model.op("FLOOR", model.input(1, 4))
    assert _step(model, model.op("ADD", x, model.input(1, 4))) is None
    assert _step(model, model.op("MUL", x, model.op("LOGISTIC", x))) is None
    assert _step(model, model.op("ADD", x, model.constant(np.sqrt([2, 3, 5, 7])))) is None
    assert _step(model, model.op("MINIMUM", x, model.constant(np.pi))) is None


def test_an_average_of_whole_numbers_is_not_whole(lab: Any) -> None:
    model = lab.model()
    x = model.op("FLOOR", model.input(1, 4, 4, 1))
    options = {"filterWidth": 2, "filterHeight": 2, "strideW": 2, "strideH": 2}
    assert _step(model, model.op("AVERAGE_POOL_2D", x, **options)) is None
    assert _step(model, model.op("MAX_POOL_2D", x, **options)) == 1.0


@given(
    step=st.sampled_from([0.125, 0.5, 1.0, 3.0, 1 / 3, 32.0]),
    low=st.integers(-200, 0),
    high=st.integers(0, 200),
    bits=st.sampled_from([8, 16]),
)
def test_whole_scales_store_every_multiple_exactly(
    step: float, low: int, high: int, bits: int
) -> None:
    found = QuantParams.whole(step, Range(low * step, high * step), bits)
    if found is None:
        assert (low, high) == (0, 0) or (bits == 8 and high - low > 255)
        return
    values = np.arange(low, high + 1) * step
    assert np.allclose(found.dequantize(found.quantize(values)), values, rtol=1e-6, atol=0)


def _quantized(lab: Any, model: Any, rows: list[Any], *outputs: int, **more: Any) -> Any:
    artifact = lab.save(model, *outputs)
    quantized = lab.quantize(artifact, rows, **more)
    expected = lab.run(artifact.path, rows, delegate=False)
    return expected, lab.run(quantized.path, rows), Graph(tflite.load(quantized.path))


def _rows(*shape: int, low: float, high: float) -> list[list[Any]]:
    rng = np.random.default_rng(3)
    return [[rng.uniform(low, high, shape).astype(np.float32)] for _ in range(12)]


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
@pytest.mark.parametrize("kind", ["FLOOR", "CEIL", "ROUND"])
def test_rounded_values_and_their_arithmetic_are_exact(lab: Any, kind: str, mode: str) -> None:
    model = lab.model()
    x = model.input(1, 40)
    rounded = model.op(kind, x)
    distance = model.op("ABS", model.op("SUB", rounded, model.constant(3.0)))
    number = model.op("CAST", distance, dtypes=("int32",), inDataType=0, outDataType=2)
    rest = model.op("SUB", x, rounded)
    rows = _rows(1, 40, low=-2.1, high=9.6)
    expected, found, _ = _quantized(lab, model, rows, rounded, number, rest, mode=mode)
    for reference, result in zip(expected, found, strict=True):
        assert np.array_equal(reference, result)


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_a_remainder_by_constants_of_each_element_is_exact(lab: Any, mode: str) -> None:
    model = lab.model()
    x = model.input(1, 6, 2)
    remainder = model.op("FLOOR_MOD", x, model.constant([3.0, 5.0]))
    uniform = model.op("FLOOR_MOD", x, model.constant([[[4.0, 4.0]] * 6]))
    rows = _rows(1, 6, 2, low=0, high=20)
    expected, found, _ = _quantized(lab, model, rows, remainder, uniform, mode=mode)
    for reference, result in zip(expected, found, strict=True):
        assert np.array_equal(reference, result)


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_indices_computed_in_float_select_what_the_reference_does(lab: Any, mode: str) -> None:
    model = lab.model()
    x = model.input(1, 30)
    scaled = model.op("MUL", x, model.constant(11.0))
    index = model.op("CAST", scaled, dtypes=("int32",), inDataType=0, outDataType=2)
    table = model.constant(np.random.default_rng(0).normal(size=(12, 4)))
    picked = model.op("GATHER", table, index)
    rows = _rows(1, 30, low=0, high=1)
    expected, found, graph = _quantized(lab, model, rows, picked, mode=mode)
    assert lab.sqnr(expected[0], found[0]) > 38
    gather = next(one for one in graph.operators if graph.op(one) == "GATHER")
    assert graph.dtype(gather.outputs[0]) in ("int8", "int16")


def test_small_whole_numbers_of_integers_stay_int8_and_exact(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 20, dtype="int32")
    real = model.op("CAST", x, inDataType=2, outDataType=0)
    y = model.op("ADD", model.op("MUL", real, model.constant(3.0)), model.constant(1.0))
    rng = np.random.default_rng(1)
    rows = [[rng.integers(0, 30, (1, 20)).astype(np.int32)] for _ in range(12)]
    expected, found, graph = _quantized(lab, model, rows, y)
    assert np.array_equal(expected[0], found[0])
    kinds = {graph.op(one): graph.dtype(one.outputs[0]) for one in graph.operators}
    assert (kinds["MUL"], kinds["ADD"]) == ("int8", "int8")


def test_whole_numbers_beyond_eight_bits_are_exact_in_float(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 20, dtype="int32")
    real = model.op("CAST", x, inDataType=2, outDataType=0)
    y = model.op("ADD", model.op("MUL", real, model.constant(8.0)), model.constant(4.0))
    rng = np.random.default_rng(1)
    rows = [[rng.integers(0, 900, (1, 20)).astype(np.int32)] for _ in range(12)]
    expected, found, _ = _quantized(lab, model, rows, y)
    assert np.array_equal(expected[0], found[0])


def _warp(lab: Any, width: int, spread: float = 1.0) -> Any:
    """Build features, a layer that computes positions of them, and a gather there."""
    rng = np.random.default_rng(2)
    model = lab.model()
    x = model.input(1, 16, 16, width)
    weight = model.constant(rng.normal(size=(width, 3, 3, width)) / (3 * width**0.5))
    features = model.op("CONV_2D", x, weight, model.constant(np.zeros(width)), strideH=1, strideW=1)
    head = model.constant(spread * rng.normal(size=(1, 1, 1, width)))
    place = model.op("CONV_2D", features, head, model.constant([7.0]), strideH=1, strideW=1)
    limited = model.op("MINIMUM", model.op("RELU", place), model.constant(15.0))
    index = model.op("CAST", limited, dtypes=("int32",), inDataType=0, outDataType=2)
    picked = model.op("GATHER", model.constant(rng.normal(size=(16, 4))), index)
    rows = _rows(1, 16, 16, width, low=-1, high=1)
    return _quantized(lab, model, rows, picked)


def test_small_layers_before_positions_compute_in_float(lab: Any) -> None:
    expected, found, graph = _warp(lab, 2)
    assert lab.sqnr(expected[0], found[0]) > 38
    convs = [one for one in graph.operators if graph.op(one) == "CONV_2D"]
    assert [graph.dtype(one.outputs[0]) for one in convs] == ["float32", "float32"]


def test_of_large_layers_only_the_last_computes_in_float(lab: Any) -> None:
    _, _, graph = _warp(lab, 64, 0.1)
    convs = [one for one in graph.operators if graph.op(one) == "CONV_2D"]
    assert [graph.dtype(one.outputs[0]) for one in convs] == ["int8", "float32"]


def test_large_layers_before_positions_compute_in_float_where_indices_would_differ(
    lab: Any,
) -> None:
    expected, found, graph = _warp(lab, 64)
    assert lab.sqnr(expected[0], found[0]) > 38
    convs = [one for one in graph.operators if graph.op(one) == "CONV_2D"]
    assert [graph.dtype(one.outputs[0]) for one in convs] == ["float32", "float32"]


def test_rounding_that_selects_nothing_leaves_large_layers_int8(lab: Any) -> None:
    rng = np.random.default_rng(2)
    model = lab.model()
    weight = model.constant(rng.normal(size=(64, 3, 3, 64)) / 24)
    bias = model.constant(np.zeros(64))
    y = model.op("CONV_2D", model.input(1, 16, 16, 64), weight, bias, strideH=1, strideW=1)
    rounded = model.op("ROUND", model.op("MUL", y, model.constant(8.0)))
    z = model.op("MUL", rounded, model.constant(0.125))
    expected, found, graph = _quantized(lab, model, _rows(1, 16, 16, 64, low=-1, high=1), z)
    assert lab.sqnr(expected[0], found[0]) > 20
    conv = next(one for one in graph.operators if graph.op(one) == "CONV_2D")
    assert graph.dtype(conv.outputs[0]) == "int8"
