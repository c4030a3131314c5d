"""The file that runs on devices: its choice of a runtime, and what it makes of failures."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv import targets
from edgeconv.core.bundle import open_bundle
from edgeconv.targets.coral import device_part
from edgeconv.toolchain.device import runner
from edgeconv.toolchain.device.job import Job, RunOptions

# What the libraries really said, and what is told.
RECORDED = [
    (
        (
            "OSError: libedgetpu.so.1: cannot open shared object file: No such file or directory\n"
            "Exception ignored in: <function Delegate.__del__ at 0x7f>\n"
            "AttributeError: 'Delegate' object has no attribute '_library'"
        ),
        "the Edge TPU runtime, libedgetpu, is not installed",
        "libedgetpu1-std",
    ),
    (
        "OSError: libusb-1.0.so.0: cannot open shared object file: No such file or directory",
        "libusb-1.0 is missing",
        "apt-get install libusb-1.0-0",
    ),
    (
        "ValueError: Failed to load delegate from libedgetpu.so.1\n",
        "could not open an Edge TPU",
        "plugdev",
    ),
    (
        (
            "RuntimeError: Encountered unresolved custom op: edgetpu-custom-op.\nSee instructions: "
            "Node number 0 (edgetpu-custom-op) failed to prepare."
        ),
        "loaded without an Edge TPU",
        "attach an Edge TPU",
    ),
    (
        "ValueError: Didn't find custom op for name 'edgetpu-custom-op' with version 1",
        "loaded without an Edge TPU",
        "attach an Edge TPU",
    ),
    (
        "Package requires runtime version (14), which is newer than this runtime version (12).",
        "compiled for Edge TPU runtime 14, and this device has runtime 12",
        "--min-runtime-version 12",
    ),
    (
        (
            "F driver/usb/usb_driver.cc:857] transfer on tag 0 failed. Abort. Deadline exceeded: "
            "USB transfer error 2 [LibUsbDataOutCallback]\nkilled by SIGABRT"
        ),
        "vanished while it worked",
        "powered hub",
    ),
    ("\nkilled by SIGSEGV", "built for an older runtime", "libedgetpu 16.0"),
    ("edgetpu_list_devices: 0", "finds no Edge TPU", "/dev/apex_*"),
    ("ImportError: numpy.core.multiarray failed to import", "numpy 1", "numpy<2"),
    (
        (
            "ValueError: Didn't find op for builtin opcode 'CONV_2D' version '6'. An older version "
            "of this builtin might be supported. Are you using an old TFLite binary with a newer "
            "model?"
        ),
        "older than the model",
        "--target coral",
    ),
    ("OSError: [Errno 28] No space left on device", "disk is full", "free some space"),
    ("something odd", "the runtime failed: something odd", "--verbose"),
]


@pytest.mark.parametrize(("text", "meaning", "advice"), RECORDED)
def test_every_failure_is_one_sentence_and_a_next_step(
    text: str, meaning: str, advice: str
) -> None:
    told, step = runner.explain(text, "edgetpu", device_part)
    assert meaning in told
    assert advice in step
    assert "\n" not in told + step


def test_a_crash_on_the_cpu_is_not_blamed_on_the_edge_tpu() -> None:
    told, step = runner.explain("said\nkilled by SIGSEGV", "cpu", device_part)
    assert told == "the TFLite runtime crashed on the model, on the CPU (SIGSEGV)"
    assert "TPU" not in told + step
    assert "lack of memory" in runner.explain("\nkilled by SIGKILL", "cpu", device_part)[0]


def test_its_syntax_is_that_of_python_3_7() -> None:
    source = Path(runner.__file__).read_text()
    ast.parse(source, feature_version=(3, 7))
    ast.parse(Path(device_part.__file__).read_text(), feature_version=(3, 7))
    receiver = Path(runner.__file__).with_name("receiver.py").read_text()
    ast.parse(receiver, feature_version=(3, 5))


@pytest.mark.parametrize("version", ["3.7", "3.8"])
def test_old_pythons_read_it(version: str, tmp_path: Path) -> None:
    installed = (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")
    python = next((str(path) for path in installed), shutil.which(f"python{version}"))
    if python is None:
        pytest.skip(f"no Python {version} here")
    copy = shutil.copy(runner.__file__, tmp_path)
    done = subprocess.run([python, copy, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def folder(int8_bundle: Path, tmp_path: Path) -> Path:
    """A job whose compiled file is the plain model."""
    artifact = open_bundle(int8_bundle).artifacts["tflite_int8"]
    inputs = [np.zeros((2, *(size or 1 for size in artifact.inputs[0].shape)), np.int8)]
    place = tmp_path / "job"
    place.mkdir()
    part = targets.find("coral").device_part()
    job = Job(artifact.path, inputs, compiled=artifact.path, part=part)
    job.write(place, RunOptions(runs=3, timeout=60))
    return place


def _run(folder: Path, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(folder / "runner.py")],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


DEVICES = """
#include <stddef.h>
#include <stdlib.h>
void *edgetpu_list_devices(size_t *n) { %s }
void edgetpu_free_devices(void *p) { free(p); }
void *tflite_plugin_create_delegate(char **k, char **v, size_t n, void (*f)(const char *))
{ %s }
void tflite_plugin_destroy_delegate(void *d) {}
"""
ONE = "*n = 1; return malloc(16);"


@pytest.mark.parametrize(
    ("devices", "create", "meaning"),
    [
        ("*n = 0; return NULL;", "return NULL;", "finds no Edge TPU"),
        (ONE, "return NULL;", "could not open an Edge TPU"),
        (ONE, "abort();", "ended the process"),
        ("*(volatile int *)0 = 1; return NULL;", "return NULL;", "crashed"),
    ],
    ids=["no device", "no permission", "abort", "segfault"],
)
def test_libraries_that_fail_leave_the_cpu(
    folder: Path,
    stand_in_library: Callable[[str], str],
    devices: str,
    create: str,
    meaning: str,
) -> None:
    answer = _run(folder, LD_LIBRARY_PATH=stand_in_library(DEVICES % (devices, create)))
    assert answer["ran_on"] == "cpu"
    assert meaning in answer["fallback"]
    assert answer["latency_ms"]["runs"] == 3
    with np.load(folder / "results.npz") as results:
        assert results["0"].shape == (2, 1, 4)


PYCORAL = """
from ai_edge_litert.interpreter import Interpreter

def make_interpreter(path, device=None):
    return Interpreter(model_path=path)
"""


def test_pycoral_is_preferred(folder: Path, tmp_path: Path) -> None:
    package = tmp_path / "site" / "pycoral" / "utils"
    package.mkdir(parents=True)
    (package / "edgetpu.py").write_text(PYCORAL)
    answer = _run(folder, PYTHONPATH=str(tmp_path / "site"))
    assert (answer["ran_on"], answer["fallback"]) == ("edgetpu", None)
    assert answer["runtime"] == "pycoral"


def test_only_an_edge_tpu_will_do(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "cpu_fallback": False}))
    answer = _run(folder)
    assert answer["failure"] == answer["fallback"]
    assert not (folder / "results.npz").exists()
