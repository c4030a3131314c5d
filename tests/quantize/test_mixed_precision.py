"""Operators of different precision in one model, and the rules that say which."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array, Artifact
from edgeconv.core.errors import UsageError
from edgeconv.quantize.rules.precision import Rule, keep
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_RNG = np.random.default_rng(11)
_ROWS = [[_RNG.normal(size=(1, 8, 8, 4)).astype(np.float32)] for _ in range(8)]


def _weights(*shape: int) -> Array:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def _network(lab: Any) -> Artifact:
    """Two convolutions named ``first`` and ``second``, a branch, and a softmax."""
    m = lab.model()
    options = {"strideH": 1, "strideW": 1}
    x = m.input(1, 8, 8, 4)
    first = m.op(
        "CONV_2D", x, m.constant(_weights(16, 3, 3, 4)), m.constant(_weights(16)), **options
    )
    m.graph.tensors[first].name = "net/first"
    active = m.op("RELU", first)
    weight, bias = m.constant(_weights(16, 3, 3, 16)), m.constant(_weights(16))
    second = m.op("CONV_2D", active, weight, bias, **options)
    m.graph.tensors[second].name = "net/second"
    total = m.op("ADD", m.op("LOGISTIC", second), second)
    flat = m.op("RESHAPE", total, m.constant([256, 4], "int32"))
    scores = m.op("SOFTMAX", flat, beta=0.05)
    return lab.save(m, scores, total)  # type: ignore[no-any-return]


def _dtypes(path: Any) -> dict[str, list[set[str]]]:
    """Return the dtypes of the activations of each operator, by builtin name."""
    graph = Graph(tflite.load(path))
    found: dict[str, list[set[str]]] = {}
    for operator in graph.operators:
        tensors = (*operator.inputs, *operator.outputs)
        activations = [index for index in tensors if index >= 0 and not graph.is_constant(index)]
        found.setdefault(graph.op(operator), []).append({graph.dtype(i) for i in activations})
    return found


def _rules(*rules: Rule) -> list[dict[str, Any]]:
    return [rule.to_dict() for rule in rules]


@pytest.mark.parametrize("io_dtype", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("precision", ["float", "int16"])
@pytest.mark.parametrize("text", ["CONV_2D", "net/first", "softmax", "*second", "RELU", "ADD"])
def test_what_is_kept_is_kept_and_computes_the_same(
    text: str, precision: Any, io_dtype: str, lab: Any
) -> None:
    artifact = _network(lab)
    rules = _rules(keep(text, precision, "--keep"))
    quantized = lab.quantize(artifact, _ROWS, rules=rules, io_dtype=io_dtype)
    wanted = {"float": "float32", "int16": "int16"}[precision]
    kinds = _dtypes(quantized.path)
    kept = {"CONV_2D": 2, "net/first": 1, "*second": 1}.get(text, 0)
    assert sum(dtypes == {wanted} for dtypes in kinds["CONV_2D"]) == kept
    if not kept:
        assert kinds[text.upper()] == [{wanted}]
    assert [spec.dtype for spec in quantized.outputs] == [io_dtype] * 2
    expected = lab.run(artifact.path, _ROWS)
    rows = [[_stored(array, quantized.inputs[0])] for (array,) in _ROWS]
    found = lab.run(quantized.path, rows)
    for reference, result, spec in zip(expected, found, quantized.outputs, strict=True):
        assert lab.sqnr(reference, _real(result, spec)) >= 28


def _stored(array: Array, spec: Any) -> Array:
    if spec.quantization is None:
        return array
    limits = np.iinfo(spec.dtype)
    steps = np.rint(array / spec.quantization.scale) + spec.quantization.zero_point
    return np.asarray(np.clip(steps, limits.min, limits.max), spec.dtype)


def _real(array: Array, spec: Any) -> Array:
    if spec.quantization is None:
        return array
    steps = array.astype(np.float64) - spec.quantization.zero_point
    return np.asarray(steps * spec.quantization.scale)


def test_higher_precision_is_more_accurate(lab: Any) -> None:
    artifact = _network(lab)
    expected = lab.run(artifact.path, _ROWS)[0]

    def sqnr(*rules: Rule, mode: str = "int8") -> float:
        quantized = lab.quantize(artifact, _ROWS, mode, rules=_rules(*rules))
        return float(lab.sqnr(expected, lab.run(quantized.path, _ROWS)[0]))

    int8, wide = sqnr(), sqnr(mode="int16x8")
    mixed = sqnr(keep("CONV_2D", "int16", ""), keep("RELU", "int16", ""), keep("ADD", "int16", ""))
    assert int8 < mixed < wide
    assert sqnr(Rule("float")) == float("inf")


def test_int16_inputs_and_outputs(lab: Any) -> None:
    quantized = lab.quantize(_network(lab), _ROWS, "int16x8", io_dtype="int16")
    assert {spec.dtype for spec in (*quantized.inputs, *quantized.outputs)} == {"int16"}
    assert quantized.outputs[0].quantization.zero_point == 0
    assert {"QUANTIZE", "DEQUANTIZE"}.isdisjoint(_dtypes(quantized.path))


def test_kept_operators_may_have_no_int8_form(lab: Any) -> None:
    model = lab.model()
    total = model.op(
        "CUMSUM", model.input(1, 8), model.constant(1, "int32"), exclusive=False, reverse=False
    )
    artifact = lab.save(model, model.op("RELU", total))
    rows = [[np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)]]
    quantized = lab.quantize(artifact, rows, rules=_rules(keep("cumsum", "float", "")))
    assert _dtypes(quantized.path)["CUMSUM"] == [{"float32"}]
    assert _dtypes(quantized.path)["RELU"] == [{"int8"}]


def test_a_kept_operator_may_store_its_weight_in_fewer_bits(lab: Any) -> None:
    artifact = _network(lab)
    for precision, dtype in (("dynamic", "int8"), ("weight-only", "int8"), ("fp16", "float16")):
        rules = _rules(keep("net/second", precision, ""))  # type: ignore[arg-type]
        quantized = lab.quantize(artifact, _ROWS, rules=rules)
        graph = Graph(tflite.load(quantized.path))
        stored = [
            graph.dtype(index)
            for index in range(len(graph.tensors))
            if graph.is_constant(index) and graph.shape(index) == (16, 3, 3, 16)
        ]
        assert stored == [dtype]
        assert _dtypes(quantized.path)["CONV_2D"] == [{"int8"}, {"float32"}]


def test_weight_modes_keep_operators_too(lab: Any) -> None:
    rules = _rules(keep("net/second", "float", ""))
    graph = Graph(tflite.load(lab.quantize(_network(lab), mode="dynamic", rules=rules).path))
    weights = [graph.dtype(op.inputs[1]) for op in graph.operators if graph.op(op) == "CONV_2D"]
    assert weights == ["float32", "float32"]  # the first one is too small to be worth it


def test_what_has_no_int16_kernel_is_named(lab: Any) -> None:
    model = lab.model()
    angle = model.op("ELU", model.input(1, 8))
    model.graph.tensors[angle].name = "the_elu"
    artifact = lab.save(model, model.op("RELU", angle))
    rows = [[np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)]]
    from edgeconv.quantize.engine import quantize

    path = lab.folder / "wide.tflite"
    answer = quantize(artifact.to_dict(), str(path), "int16x8", samples=lab.samples(artifact, rows))
    (warning,) = answer["notes"]
    assert re.search(r"int16 activations for 1 ELU: .*float32, at the_elu$", warning)
    assert _dtypes(path) == {
        "ELU": [{"float32"}],
        "QUANTIZE": [{"float32", "int16"}],
        "RELU": [{"int16"}],
        "DEQUANTIZE": [{"int16", "float32"}],
    }


def test_rules_know_onnx_nodes_and_modules(lab: Any) -> None:
    artifact = _network(lab)
    origins = {"net/second": ["node_Conv_7", "features.3.conv"]}
    for text in ("node_Conv_7", "features.3.*", "features.3"):
        rules = _rules(keep(text, "int16", ""))
        quantized = lab.quantize(artifact, _ROWS, rules=rules, origins=origins)
        assert _dtypes(quantized.path)["CONV_2D"] == [{"int8"}, {"int16"}]


def test_a_rule_must_match(lab: Any) -> None:
    artifact = _network(lab)
    with pytest.raises(UsageError, match=r"--keep-float net/thrid matches nothing(.|\n)*CONV_2D"):
        rules = _rules(keep("net/thrid", "float", "--keep-float"))
        lab.quantize(artifact, _ROWS, rules=rules)
    with pytest.raises(UsageError, match="--keep-float mul matches nothing"):
        lab.quantize(artifact, _ROWS, rules=_rules(keep("mul", "float", "--keep-float")))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"op": "CONV2D"}, "did you mean CONV_2D"),
        ({"pattern": "("}, "no regular expression"),
        ({"precision": "int4"}, "use one of int8, int16"),
    ],
)
def test_impossible_rules(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Rule(**{"precision": "float", "source": "rule 3", **arguments})
