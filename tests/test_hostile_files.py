"""Texts that are nested too deeply, or of another form than edgeconv writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import TensorSpec
from edgeconv.core.bundle import read_json
from edgeconv.core.errors import EdgeconvError, InvalidData, InvalidModel, UsageError
from edgeconv.core.gate_files import read_gates
from edgeconv.core.vectors import require_vectors
from edgeconv.parity.verdict import read_baseline
from edgeconv.quantize.rules.recipe import read as read_recipe
from edgeconv.targets.coral.compiler.report import parse_size

DEEP = {"list": "[" * 200_000, "object": '{"a":' * 100_000, "toml": "a = " + "[" * 100_000}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("name", ["manifest.json", "recipe.toml", "edgeconv.toml"])
def test_deep_nesting_is_an_error_of_ours(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    readers: dict[str, Any] = {
        "manifest.json": lambda: read_json(path),
        "recipe.toml": lambda: read_recipe(path),
        "edgeconv.toml": lambda: read_gates(tmp_path),
    }
    with pytest.raises(EdgeconvError) as caught:
        readers[name]()
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"stages": {}},
        {"stages": [{}]},
        {"stages": [3]},
        {"stages": [{"stage": "x", "outputs": [{}]}]},
        {"stages": [{"stage": "x", "outputs": [{"name": "y", "sqnr_db": "9"}]}]},
        {"stages": [{"stage": "x", "outputs": [{"name": "y", "parts": [{"name": "p"}]}]}]},
    ],
)
def test_a_baseline_of_another_form(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(InvalidModel, match=r"not a parity\.json"):
        read_baseline(tmp_path / "b.json")


@pytest.mark.parametrize("text", ["1.2.3MiB", ".MiB", "1e9MiB", "-1B", "9" * 400 + "GiB", "KiB"])
def test_sizes_that_are_none(text: str) -> None:
    assert parse_size(text) is None


@pytest.mark.parametrize(
    "content", ["tool = 3", "[tool]\nedgeconv = 3", "[tool.edgeconv]\ngates = 1"]
)
def test_a_project_file_of_another_form(content: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(content)
    if content == "tool = 3":
        assert read_gates(tmp_path) == read_gates(tmp_path.parent)
    else:
        with pytest.raises(UsageError):
            read_gates(tmp_path)


def test_vectors_must_fit() -> None:
    spec = TensorSpec.plain("x", (1, 3), "float32")
    good, out = np.zeros((2, 1, 3), np.float32), np.zeros((2, 5), np.float32)
    require_vectors((spec,), {"x": good}, {"y": out}, "v.npz")
    for inputs, outputs in (
        ({}, {"y": out}),
        ({"z": good}, {"y": out}),
        ({"x": good[:, 0, :2]}, {"y": out}),
        ({"x": good}, {"y": out[:1]}),
        ({"x": good[:0]}, {"y": out[:0]}),
        ({"x": np.float32(3)}, {}),
    ):
        with pytest.raises(InvalidData, match="do not fit"):
            require_vectors((spec,), inputs, outputs, "v.npz")  # type: ignore[arg-type]
