"""Operators without an integer form, and NaN that is removed, compute in float among integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array
from edgeconv.core.errors import InvalidData
from edgeconv.quantize.engine import quantize
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_RNG = np.random.default_rng(3)
_ROWS: list[list[Array]] = [[_RNG.normal(size=(1, 6, 8)).astype(np.float32) * 2] for _ in range(16)]
_PLAIN: dict[str, Any] = {"disable_recovery": ("all",)}


def _dtypes(path: Any, name: str) -> list[str]:
    """Return what operators of a name read first."""
    graph = Graph(tflite.load(path))
    return [graph.dtype(one.inputs[0]) for one in graph.operators if graph.op(one) == name]


@pytest.mark.parametrize("name", ["CUMSUM", "ATAN2", "SCATTER_ND", "REDUCE_PROD"])
def test_an_operator_without_an_int8_form_computes_in_float(lab: Any, name: str) -> None:
    m = lab.model()
    x = m.op("RELU", m.input(1, 6, 8))
    if name == "CUMSUM":
        y = m.op(name, x, m.constant(1, "int32"), exclusive=False, reverse=False)
    elif name == "ATAN2":
        y = m.op(name, x, m.op("ADD", x, m.constant(1.0)))
    elif name == "SCATTER_ND":
        places = m.constant([[0], [2], [2]], "int32")
        rows = m.op("SLICE", x, m.constant([0, 0, 0], "int32"), m.constant([1, 3, 8], "int32"))
        rows = m.op("RESHAPE", rows, m.constant([3, 8], "int32"))
        y = m.op(name, places, rows, m.constant([4, 8], "int32"))
    else:
        y = m.op(name, x, m.constant([1], "int32"))
    artifact = lab.save(m, m.op("ABS", y))
    path = lab.folder / "quantized.tflite"
    samples = lab.samples(artifact, _ROWS)
    found = quantize(artifact.to_dict(), str(path), "int8", samples=samples, **_PLAIN)
    assert any(f"no int8 form serves for 1 {name}" in note for note in found["notes"])
    expected, got = lab.run(artifact.path, _ROWS)[0], lab.run(path, _ROWS)[0]
    assert lab.sqnr(expected, got) > 25
    assert _dtypes(path, "ABS") == ["int8"]
    assert "float32" in _dtypes(path, name) or name == "SCATTER_ND"


def _undefined(m: Any, way: str) -> int:
    """Return what may be NaN or infinite for some values of the input."""
    x = m.op("MUL", m.input(1, 6, 8), m.constant(0.5))
    if way == "log":
        return int(m.op("LOG", x))
    if way == "root":
        return int(m.op("SQRT", x))
    if way == "quotient":
        positive = m.op("RELU", x)
        return int(m.op("DIV", positive, positive))
    assert way == "filled"
    hidden = m.op("GREATER", x, m.constant(0.7), dtypes=("bool",))
    return int(m.op("SELECT_V2", hidden, m.constant(np.nan), x))


@pytest.mark.parametrize("way", ["log", "root", "quotient", "filled"])
def test_nan_that_is_removed_is_found_as_in_float(lab: Any, way: str) -> None:
    m = lab.model()
    made = _undefined(m, way)
    bad = m.op("NOT_EQUAL", made, made, dtypes=("bool",))
    clean = m.op("SELECT_V2", bad, m.constant(0.25), made)
    artifact = lab.save(m, m.op("ABS", clean))
    quantized = lab.quantize(artifact, _ROWS, **_PLAIN)
    expected, found = lab.run(artifact.path, _ROWS)[0], lab.run(quantized.path, _ROWS)[0]
    assert np.isfinite(expected).all()
    assert (expected == np.float32(0.25)).any()
    assert lab.sqnr(expected, found) > 30
    assert _dtypes(quantized.path, "NOT_EQUAL") == ["float32"]
    assert _dtypes(quantized.path, "ABS") == ["int8"]


def test_minus_infinity_before_softmax(lab: Any) -> None:
    m = lab.model()
    x = m.input(1, 6, 8)
    seen = m.op("CAST", m.op("LESS", x, m.constant(1.0), dtypes=("bool",)))
    artifact = lab.save(m, m.op("SOFTMAX", m.op("ADD", x, m.op("LOG", seen)), beta=1.0))
    quantized = lab.quantize(artifact, _ROWS, **_PLAIN)
    expected, found = lab.run(artifact.path, _ROWS)[0], lab.run(quantized.path, _ROWS)[0]
    assert np.isfinite(expected).all()
    assert lab.sqnr(expected, found) > 25


@pytest.mark.parametrize("last", ["RELU", "ADD"])
def test_nan_that_nothing_removes_is_refused(lab: Any, last: str) -> None:
    m = lab.model()
    made = _undefined(m, "log")
    y = m.op("RELU", made) if last == "RELU" else m.op("ADD", made, made)
    with pytest.raises(InvalidData, match="NaN or infinite"):
        lab.quantize(lab.save(m, y), _ROWS, **_PLAIN)
