"""No operator is written in a version that the compiler's front end does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array, Artifact
from edgeconv.quantize.rules.table import COMPARISONS, RULES, Scaling
from edgeconv.targets.coral.legalise.engine import legalise
from edgeconv.targets.coral.placement.front_end import LEFT_FLOAT, known_versions
from edgeconv.targets.coral.placement.predict import predict
from edgeconv.targets.coral.target import Coral
from edgeconv.tflite import file as tflite
from tests.quantize.conftest import Lab
from tests.quantize.test_op_rules import CASES

REFUSED = {"DYNAMIC_UPDATE_SLICE": {"DYNAMIC_UPDATE_SLICE"}, "SIGN": {"CAST"}}
"""Operators that the front end has in no form, and what becomes of them."""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_what_the_front_end_does_not_have_as_integers_is_left_in_float() -> None:
    newest = known_versions()
    beyond = {
        name
        for name, rule in RULES.items()
        # A table, and a comparison of large numbers, needs CAST of int8, which is version 3.
        if rule.version > newest.get(name, 0)
        or rule.scaling in (Scaling.TABLE, Scaling.CAST)
        or name in COMPARISONS
    }
    assert beyond - {"GELU", "RELU_0_TO_1"} == (set(LEFT_FLOAT) - {"DIV"}) | set(REFUSED)
    assert newest["CAST"] < 3


def _samples(artifact: Artifact, low: float, high: float) -> list[list[Array]]:
    rng = np.random.default_rng(5)
    return [
        [
            rng.uniform(low, high, [size or 0 for size in spec.shape]).astype(spec.dtype)
            for spec in artifact.inputs
        ]
        for _ in range(4)
    ]


@pytest.mark.parametrize("name", [name for name in CASES if name != "BATCH_TO_SPACE_ND"])
def test_no_version_is_later_than_those_that_the_front_end_knows(lab: Any, name: str) -> None:
    case, model = CASES[name], lab.model()
    outputs = case.build(model)
    before = lab.save(model, *(outputs if isinstance(outputs, list) else [outputs]))
    path = str(lab.folder / "legal.tflite")
    answer = legalise(before.to_dict(), path, allow_approximate=True)
    legal = Artifact.from_dict(answer["artifact"])
    rules = [rule.to_dict() for rule in Coral().precision_rules]
    rows = _samples(before, case.low, case.high)
    written = lab.quantize(legal, rows, rules=rules, io_dtype="int8")
    stored = tflite.load(written.path)
    found = {tflite.builtin_name(code): code.version for code in stored.operatorCodes}
    newest = known_versions()
    late = {op for op, version in found.items() if version > newest.get(op, 0)}
    assert late == REFUSED.get(name, set())
    assert {item.op for item in predict(written.path).objections} == late
