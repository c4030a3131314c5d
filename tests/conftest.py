"""Fixtures for all tests."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

# Tests import onnxruntime themselves; conftest.py of folders do so before any hook is called.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Operators that torchvision's Python part refers to while it is imported.
_OPERATORS = ("nms", "qnms")


def pytest_configure() -> None:
    """Keep torch to one thread, here and in workers, where test processes fill the cores.

    OpenMP's threads wait for each other in busy loops, which multiplies the time that small
    models take as soon as there are more threads than cores.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no notes on the CPU at every start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs the network, unless the environment says that there is one."""
    if os.environ.get("EDGECONV_TEST_NETWORK"):
        return
    for item in items:
        if item.get_closest_marker("network") is not None:
            item.add_marker(pytest.mark.skip(reason="EDGECONV_TEST_NETWORK is not set"))


@pytest.fixture(scope="session")
def torchvision() -> Iterator[ModuleType]:
    """Torchvision, also where its native operators do not fit the installed torch.

    PyPI's wheels for Linux are built for CUDA; next to a CPU build of torch their native library
    cannot be loaded, and the import fails because two operators are not declared. Declaring them
    is enough for everything but those operators.
    """
    import torch

    library = None
    try:
        module = importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in _OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        module = importlib.import_module("torchvision")
    yield module
    del library


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder of pretrained models and real inputs that lies beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "real_models"
    if not folder.is_dir():
        pytest.skip(f"the pretrained models are not at {folder}")
    return folder


def _installed(name: str) -> Path:
    from edgeconv.toolchain.environments import manage

    found = manage.status(name)
    if found.state != manage.INSTALLED:
        pytest.skip(f"{name} is {found.state}; edgeconv toolchain install {name}")
    return found.interpreter


@pytest.fixture(scope="session")
def onnx_tf_python() -> Path:
    """The Python of the installed environment of onnx-tf."""
    return _installed("onnx-tf")


@pytest.fixture(scope="session")
def tflite_runtime_python() -> Path:
    """The Python of the installed environment of tflite-runtime, as boards have it."""
    return _installed("tflite-runtime")
