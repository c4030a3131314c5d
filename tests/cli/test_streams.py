"""Signals, and streams that nobody reads: exit 1 means a failed gate, and only that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeconv.tflite import file as tflite

COMMAND = [sys.executable, "-m", "edgeconv"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .tflite file whose input has a scale and no zero point."""
    content = schema.ModelT()
    content.version, content.operatorCodes, content.buffers = 3, [], [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, content.subgraphs = [], [], [graph]
    quantization = schema.QuantizationParametersT()
    quantization.scale = np.array([0.5], np.float32)
    tflite.add_tensor(content, graph, "x", (1,), "int8", quantization=quantization)
    graph.inputs = graph.outputs = [0]
    path = tmp_path_factory.mktemp("streams") / "m.tflite"
    tflite.save(content, path)
    return path


def _run(*arguments: object, stdout: int | IO[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_scale_without_a_zero_point_is_shown(model: Path) -> None:
    done = _run("inspect", model, stdout=subprocess.PIPE)
    assert (done.returncode, "scale 0.5, zero point 0" in done.stdout) == (0, True), done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "arguments", [["inspect"], ["inspect", "--json"], ["--help"], ["inspect", "--help"]]
)
def test_a_full_stdout_is_told(model: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = _run(*arguments, *([] if "--help" in arguments else [model]), stdout=full)
    assert done.returncode == 2
    assert "stdout" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["inspect"], ["inspect", "--json"], ["--help"], ["inspect", "--help"]]
)
def test_a_closed_stdout_is_quiet(model: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = _run(*arguments, *([] if "--help" in arguments else [model]), stdout=pipe)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_closed_stderr_keeps_the_exit_code(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        process = subprocess.run(
            [*COMMAND, "inspect", str(tmp_path / "missing")], stderr=pipe, timeout=120, check=False
        )
    assert process.returncode == 2


@pytest.mark.parametrize("after", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_ctrl_c_is_130_from_the_start(model: Path, after: float) -> None:
    code = "import edgeconv.cli as c, sys; print(flush=True); sys.argv[1:] = ['doctor']; c.main()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.02 + after)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert (process.returncode, "Traceback" in err) == (130, False), err
