from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeconv.pytest_plugin import assert_parity

TESTS = """
import pytest

@pytest.mark.edgeconv_bundle("some.edgeconv")
def test_marked(edgeconv_bundle):
    assert edgeconv_bundle.name == "some.edgeconv" and edgeconv_bundle.is_absolute()

def test_unmarked(edgeconv_bundle):
    assert edgeconv_bundle.name == "other"

def test_light():
    import sys
    assert not {"numpy", "torch", "tensorflow", "onnx"} & set(sys.modules)
"""


def run(directory: Path, *options: str) -> str:
    (directory / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "edgeconv.pytest_plugin", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        # The installed entry point would load the plugin a second time.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
    )
    return done.stdout + done.stderr


def test_the_fixture_and_the_option(tmp_path: Path) -> None:
    assert "2 passed, 1 skipped" in run(tmp_path)
    assert "3 passed" in run(tmp_path, "--edgeconv-bundle=other")


@pytest.mark.slow
def test_a_failure_shows_the_report(digits_bundle: Path) -> None:
    with pytest.raises(AssertionError, match="is below 70"):
        assert_parity(digits_bundle, {"tflite_int8": {"sqnr_db": 70.0}})
