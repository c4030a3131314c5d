"""The TFLite runtime that boards have, in its environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Array
from edgeconv.core.errors import WorkerError
from edgeconv.core.scratch import scratch_directory
from edgeconv.tflite import file as tflite
from edgeconv.toolchain.environments.process import call

ENVIRONMENT = "tflite-runtime"
_SCRIPT = "tflite_runtime_run"


def run(python: Path, model: Path, feeds: Path, results: Path, threads: int) -> dict[str, Any]:
    """Run samples through a .tflite file.

    Args:
        python: The environment's Python.
        model: The file.
        feeds: ``.npz`` of arrays by input name, ``[sample, ...]``, as stored.
        results: Where the outputs are written, ``output_0``, ``output_1``, ..., likewise.
        threads: How many the interpreter may use.

    Returns:
        ``inputs`` and ``outputs`` as the interpreter describes them, its ``version``, and the
        ``seconds`` of each sample.

    Raises:
        InvalidModel: The runtime refuses the file.
        WorkerCrashed: It died.
    """
    answer: dict[str, Any] = call(
        python,
        _SCRIPT,
        action="run",
        model=str(model.resolve()),
        feeds=str(feeds.resolve()),
        results=str(results.resolve()),
        threads=threads,
    )
    return answer


def known_operators(python: Path, operators: Sequence[tuple[str, int]]) -> tuple[list[bool], str]:
    """Ask the runtime which operators it has.

    Args:
        python: The environment's Python.
        operators: Names of builtins, with versions.

    Returns:
        For each whether it is there, and the name of the runtime with its version.
    """
    with scratch_directory() as scratch:
        paths = []
        for place, (name, version) in enumerate(operators):
            paths.append(str(Path(scratch, f"{place}.tflite")))
            tflite.save(_declaring(name, version), Path(paths[-1]))
        answer = call(python, _SCRIPT, action="op_versions", models=paths)
    return answer["known"], answer["runtime"]


def self_test(python: Path) -> None:
    """Add two tensors, and compare.

    Raises:
        WorkerError: It does not work.
    """
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    with scratch_directory() as scratch:
        model, feeds, results = (
            Path(scratch, name) for name in ("add.tflite", "feeds.npz", "results.npz")
        )
        tflite.save(_addition(x), model)
        write_npz(feeds, {"x": x[None]})
        run(python, model, feeds, results, threads=1)
        found = read_npz(results)["output_0"]
    if not np.array_equal(found[0], x + x):
        raise WorkerError("an addition by tflite-runtime computes something else")


def _addition(x: Array) -> tflite.ModelT:
    model = _declaring("ADD", 1)
    graph = model.subgraphs[0]
    graph.inputs = [tflite.add_tensor(model, graph, "x", x.shape, "float32")]
    graph.outputs = [tflite.add_tensor(model, graph, "y", x.shape, "float32")]
    operator = tflite.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs, operator.outputs = [graph.inputs[0]] * 2, graph.outputs
    graph.operators = [operator]
    return model


def _declaring(builtin: str, version: int) -> tflite.ModelT:
    """Return a model that declares an operator and does nothing; runtimes look it up all the same.

    They do so while they load the file, before anything else (``InterpreterBuilder``).
    """
    model = tflite.ModelT()
    graph = tflite.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
    model.version, model.subgraphs, model.buffers = 3, [graph], [tflite.BufferT()]
    model.operatorCodes = []
    tflite.opcode_index(model, builtin, version)
    return model
