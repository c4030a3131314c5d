"""The installed environments, for tests that need them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeconv.toolchain.environments import manage


def _installed(name: str) -> Path:
    found = manage.status(name)
    if found.state != manage.INSTALLED:
        pytest.skip(f"{name} is {found.state}; edgeconv toolchain install {name}")
    return found.interpreter


@pytest.fixture
def onnx_tf_python() -> Path:
    return _installed("onnx-tf")


@pytest.fixture
def tflite_runtime_python() -> Path:
    return _installed("tflite-runtime")
