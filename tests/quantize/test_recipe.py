"""Recipes: our own and ai-edge-quantizer's, and what is wrong with a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.core.errors import InvalidData, UsageError
from edgeconv.core.options import ConvertOptions
from edgeconv.quantize.rules.recipe import read, rules_of
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_TOML = """
[[rule]]
name = "encoder/*"
precision = "float"

[[rule]]
op = "tanh"
precision = "int16"
"""


def _file(tmp_path: Path, text: str, name: str = "recipe.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def _foreign(operation: str, regex: str = ".*", **config: Any) -> dict[str, Any]:
    key = "no_quantize" if not config else "min_max_uniform_quantize"
    return {"regex": regex, "operation": operation, "algorithm_key": key, "op_config": config}


_WEIGHT = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
_INT8: dict[str, Any] = {
    "activation_tensor_config": {"num_bits": 8, "symmetric": False, "dtype": "INT"},
    "weight_tensor_config": _WEIGHT,
    "compute_precision": "INTEGER",
    "explicit_dequantize": False,
}
_INT16: dict[str, Any] = {
    **_INT8,
    "activation_tensor_config": {"num_bits": 16, "symmetric": True, "dtype": "INT"},
}
_DYNAMIC: dict[str, Any] = {"weight_tensor_config": _WEIGHT, "compute_precision": "INTEGER"}
_WEIGHT_ONLY: dict[str, Any] = {
    "weight_tensor_config": _WEIGHT,
    "compute_precision": "FLOAT",
    "explicit_dequantize": True,
}
_FP16: dict[str, Any] = {
    "weight_tensor_config": {"num_bits": 16, "dtype": "FLOAT"},
    "explicit_dequantize": True,
}


def _model(lab: Any) -> Any:
    m = lab.model()
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(64, 32)).astype(np.float32)
    dense = m.op("FULLY_CONNECTED", m.input(1, 32), m.constant(weight), -1, version=6)
    m.graph.tensors[dense].name = "encoder/dense"
    last = m.constant(rng.normal(size=(40, 64)).astype(np.float32))
    out = m.op("FULLY_CONNECTED", m.op("TANH", dense), last, -1, version=6)
    artifact = lab.save(m, out)
    return artifact, [[rng.normal(size=(1, 32)).astype(np.float32)] for _ in range(6)]


def _quantized(lab: Any, path: Path, mode: str = "int8") -> list[tuple[str, str, str]]:
    """Return name, dtype of the input and dtype of the last input of the operators inside."""
    artifact, rows = _model(lab)
    quantized = lab.quantize(artifact, rows, mode, rules=[rule.to_dict() for rule in read(path)])
    graph = Graph(tflite.load(quantized.path))
    return [
        (graph.op(op), graph.dtype(op.inputs[0]), graph.dtype([i for i in op.inputs if i >= 0][-1]))
        for op in graph.operators
        if graph.op(op) not in ("QUANTIZE", "DEQUANTIZE")
    ]


_EXPECTED = [
    ("FULLY_CONNECTED", "float32", "float32"),
    ("TANH", "int16", "int16"),
    ("FULLY_CONNECTED", "int8", "int8"),
]


def test_toml(lab: Any, tmp_path: Path) -> None:
    assert _quantized(lab, _file(tmp_path, _TOML)) == _EXPECTED


def test_json(lab: Any, tmp_path: Path) -> None:
    rules = [
        {"name": "encoder/*", "precision": "float"},
        {"op": "TANH", "precision": "int16"},
    ]
    path = _file(tmp_path, json.dumps({"rule": rules}), "recipe.json")
    assert _quantized(lab, path) == _EXPECTED


def test_the_last_rule_wins(lab: Any, tmp_path: Path) -> None:
    text = _TOML + '\n[[rule]]\nop = "FULLY_CONNECTED"\nprecision = "int16"\n'
    kinds = _quantized(lab, _file(tmp_path, text))
    assert [dtype for _, dtype, _ in kinds] == ["int16", "int16", "int16"]


@pytest.mark.parametrize(
    ("config", "activation", "weight"),
    [
        (_INT8, "int8", "int8"),
        (_INT16, "int16", "int8"),
        (_DYNAMIC, "float32", "int8"),
        (_WEIGHT_ONLY, "float32", "float32"),
        (_FP16, "float32", "float32"),
    ],
)
def test_a_recipe_of_ai_edge_quantizer(
    config: dict[str, Any], activation: str, weight: str, lab: Any, tmp_path: Path
) -> None:
    entries = [_foreign("*", **config), _foreign("CONV_2D", **_INT8), _foreign("TANH")]
    kinds = _quantized(lab, _file(tmp_path, json.dumps(entries)))
    assert kinds == [
        ("FULLY_CONNECTED", activation, weight),
        ("TANH", "float32", "float32"),
        ("FULLY_CONNECTED", activation, weight),
    ]


def test_what_a_foreign_recipe_does_not_name_stays_float(lab: Any, tmp_path: Path) -> None:
    path = _file(tmp_path, json.dumps([_foreign("FULLY_CONNECTED", "encoder", **_INT8)]))
    assert [dtype for _, dtype, _ in _quantized(lab, path)] == ["int8", "float32", "float32"]


def test_options_come_after_the_recipe(tmp_path: Path) -> None:
    path = _file(tmp_path, _TOML)
    options = ConvertOptions(
        quantize="int8", recipe=str(path), keep_float=("tanh",), keep_int16=("dense",)
    )
    rules = rules_of(options)
    assert [rule.precision for rule in rules] == ["float", "int16", "int16", "float"]
    assert [rule.op for rule in rules] == ["", "TANH", "", "TANH"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule = [", "neither JSON nor TOML"),
        ("[1, 2]", "entry 1"),
        ("{}", "no list of rules"),
        ('[[rule]]\nprecison = "float"', "rule 1.*found precison"),
        ('[[rule]]\nop = 3\nprecision = "float"', "texts"),
        (json.dumps([_foreign("INPUT", **_INT8)]), "io_dtype"),
        (
            json.dumps(
                [_foreign("*", weight_tensor_config={**_WEIGHT, "num_bits": 4})],
            ),
            "weights of 4 bits",
        ),
    ],
)
def test_what_is_not_understood(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=message):
        read(_file(tmp_path, text))


def test_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="cannot be read"):
        read(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "text",
    ['[[rule]]\nop = "TAHN"\nprecision = "float"', json.dumps([_foreign("TAHN")])],
)
def test_an_operator_that_does_not_exist(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"1 names the operator TAHN(.|\n)*did you mean TANH"):
        read(_file(tmp_path, text))


def test_a_precision_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rule 1 asks for the precision int4"):
        read(_file(tmp_path, '[[rule]]\nop = "TANH"\nprecision = "int4"'))


def test_a_name_that_the_model_does_not_have(lab: Any, tmp_path: Path) -> None:
    path = _file(tmp_path, '[[rule]]\nname = "decoder/*"\nprecision = "float"')
    with pytest.raises(UsageError, match="rule 1 matches nothing in the model"):
        _quantized(lab, path)
