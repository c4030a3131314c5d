"""What ``import edgeconv`` offers."""

from __future__ import annotations

import contextlib
import inspect
import io
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import edgeconv
from edgeconv.core.errors import UsageError


def test_everything_that_is_offered_exists() -> None:
    assert sorted(edgeconv.__all__) == edgeconv.__all__
    for name in edgeconv.__all__:
        assert getattr(edgeconv, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        edgeconv.nothing  # noqa: B018 - the access is the test


def test_errors_have_one_base() -> None:
    errors = [getattr(edgeconv, name) for name in edgeconv.__all__]
    classes = [item for item in errors if inspect.isclass(item) and issubclass(item, Exception)]
    assert len(classes) == 11
    assert all(issubclass(item, edgeconv.EdgeconvError) for item in classes)


def test_convert_is_a_function_and_a_package_whatever_is_imported_first() -> None:
    code = (
        "import edgeconv.core.input_shapes\n"
        "import edgeconv.core.input_shapes as shapes\n"
        "import edgeconv\n"
        "from edgeconv import convert\n"
        "from edgeconv.core.input_shapes import InputShapes\n"
        "assert callable(convert) and convert is edgeconv.convert\n"
        "assert edgeconv.core.input_shapes is shapes and shapes.InputShapes is InputShapes\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_wrong_calls_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no option quantise"):
        edgeconv.convert("m.pt2", quantise="int8")
    with pytest.raises(UsageError, match="quantize int3"):
        edgeconv.convert("m.pt2", quantize="int3")
    with pytest.raises(UsageError, match="no model"):
        edgeconv.convert(None, output=tmp_path / "m")
    with pytest.raises(UsageError, match="nowhere"):
        edgeconv.convert("nowhere.pt2", output=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_module_needs_example_inputs(tmp_path: Path) -> None:
    import torch

    with pytest.raises(UsageError, match="example inputs"):
        edgeconv.convert(torch.nn.ReLU(), output=tmp_path / "m")


def test_convert_can_be_looked_up() -> None:
    signature = inspect.signature(edgeconv.convert)
    assert list(signature.parameters)[:2] == ["model", "example_inputs"]
    assert signature.parameters["quantize"].default == "none"
    assert signature.parameters["calibration_data"].kind is inspect.Parameter.KEYWORD_ONLY
    hints = typing.get_type_hints(edgeconv.convert)
    assert hints["return"] is edgeconv.Result
    assert hints["seed"] is int
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        help(edgeconv.convert)
    for word in ("example_inputs", "calibration_data", "io_dtype"):
        assert word in text.getvalue()
    assert (edgeconv.convert.__doc__ or "").startswith("Convert a model into a bundle")
