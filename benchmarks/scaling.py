"""How conversion time grows with the number of nodes: chains of Conv, Relu and Add.

    python -m benchmarks.scaling [--nodes N ...] [--output FILE]

Converts each chain from ONNX to SavedModel and to float TFLite in a worker of its own, whose
imports and first conversion are not counted. Prints seconds per stage and milliseconds per node;
what is not TensorFlow's native converter is called ours, TensorFlow's tracing and saving included.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeconv.toolchain.worker.process import Worker

NODES = (10, 100, 1000, 5000)
CHANNELS = 8
SIDE = 16
WARM_UP = 10
Times = dict[str, tuple[float, float]]
"""Seconds of wall time and of CPU time by stage."""


def chain(nodes: int) -> onnx.ModelProto:
    """Return a network of a given number of nodes: Conv 3x3, Relu, Add of the block's input.

    Args:
        nodes: How many nodes it has.

    Returns:
        The model, float32, its input and output ``(1, 8, 16, 16)`` with channels second.
    """
    rng = np.random.default_rng(0)
    shape = (1, CHANNELS, SIDE, SIDE)
    made: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    before = block = "x"
    for number in range(nodes):
        name = f"v{number}" if number < nodes - 1 else "y"
        kind = ("Conv", "Relu", "Add")[number % 3]
        if kind == "Conv":
            block, kernel = before, f"w{number}"
            values = rng.normal(0, 0.05, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
            weights.append(numpy_helper.from_array(values, kernel))
            made.append(helper.make_node(kind, [before, kernel], [name], pads=[1, 1, 1, 1]))
        else:
            inputs = [before] if kind == "Relu" else [before, block]
            made.append(helper.make_node(kind, inputs, [name]))
        before = name
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph(made, "chain", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def measure(nodes: int, directory: str) -> Times:
    """Convert a chain; called in a worker.

    Args:
        nodes: How many nodes it has.
        directory: An empty directory.

    Returns:
        For each stage the seconds of wall time and of CPU time, and under ``compiler`` those of
        TensorFlow's native converter, which are a part of the last stage's.
    """
    from edgeconv.convert.onnx.file import write_onnx
    from edgeconv.convert.saved_model import (
        to_tflite as saved_model_to_tflite,
    )
    from edgeconv.convert.saved_model import (
        translate as onnx_to_saved_model,
    )

    folder = Path(directory)
    onnx_file = write_onnx(chain(nodes), folder / "model.onnx", base=folder, inline=True)
    saved, seconds = _timed(
        lambda: onnx_to_saved_model.translate(onnx_file.to_dict(), str(folder / "saved_model"))
    )
    times = {"saved_model": seconds}
    _, times["tflite"] = _timed(
        lambda: saved_model_to_tflite.convert(saved, str(folder / "model.tflite"))
    )
    _, times["compiler"] = _timed(lambda: saved_model_to_tflite._converted(Path(saved["path"])))
    return times


def _timed(action: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = action()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


def run(counts: Sequence[int]) -> dict[int, Times]:
    """Measure chains of these node counts, each in a worker of its own."""
    root = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    results = {}
    for nodes in counts:
        with Worker("scaling") as worker, tempfile.TemporaryDirectory() as temporary:
            for count, name in ((WARM_UP, "warm-up"), (nodes, "chain")):
                folder = Path(temporary) / name
                folder.mkdir()
                results[nodes] = worker.call(
                    "benchmarks.scaling:measure", nodes=count, directory=str(folder)
                )
    return results


def table(results: Mapping[int, Times]) -> str:
    """Return the table and the growth from each chain to the next, as Markdown."""
    heads = ["nodes", "SavedModel, s", "TFLite, s", "of it TensorFlow's compiler, s", "CPU, s"]
    heads += ["CPU per node, ms", "our CPU per node, ms"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for nodes, times in results.items():
        wall = [f"{times[name][0]:.2f}" for name in ("saved_model", "tflite", "compiler")]
        per_node = [1000 * seconds / nodes for seconds in (cpu_of(times), own_cpu_of(times))]
        figures = [str(nodes), *wall, f"{cpu_of(times):.2f}", *(f"{ms:.2f}" for ms in per_node)]
        lines.append(f"| {' | '.join(figures)} |")
    lines.append("")
    for (few, before), (many, after) in pairwise(results.items()):
        lines.append(
            f"- {few} to {many} nodes, {many / few:g} times as many: "
            f"{cpu_of(after) / cpu_of(before):.1f} times the CPU time, "
            f"{own_cpu_of(after) / own_cpu_of(before):.1f} times without TensorFlow's compiler"
        )
    return "\n".join(lines)


def cpu_of(times: Times) -> float:
    """Return the seconds of CPU time of both stages."""
    return times["saved_model"][1] + times["tflite"][1]


def own_cpu_of(times: Times) -> float:
    """Return the seconds of CPU time of both stages, without TensorFlow's native converter."""
    return cpu_of(times) - times["compiler"][1]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=NODES)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/scaling.md"))
    arguments = parser.parse_args()
    text = table(run(sorted(arguments.nodes)))
    print(text)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
