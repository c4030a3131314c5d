"""ONNX node tests through edgeconv: as SavedModel on TensorFlow, as float TFLite on LiteRT.

    python -m benchmarks.onnx_coverage [--as-they-are] [--sample N] [--output FILE]
        [--match TEXT] [--jobs N]

Inputs that decide shapes are constants, unless the tests are to run as they are.

A case passes if every output has the expected shape and dtype in ONNX's own layout, and values
within rtol 1e-3, atol 1e-5. Prints a table by operator and the two totals.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.node_cases import Case, cases
from edgeconv.core.arrays import write_npz
from edgeconv.core.errors import EdgeconvError, WorkerCrashed
from edgeconv.toolchain.worker.process import Worker

RTOL, ATOL = 1e-3, 1e-5
_SEED = 0  # of the sample
STAGES = ("saved_model", "tflite")
Outcome = dict[str, str]
"""For each stage ``"pass"`` or what went wrong."""


def check(directory: str) -> Outcome:
    """Run one stored case through both stages; called in a worker.

    Args:
        directory: Holds ``model.onnx``, ``inputs.npz`` and ``outputs.npz``.
    """
    import onnx_ir as ir

    from edgeconv.convert.ops import default_registry
    from edgeconv.convert.saved_model.to_tflite import convert
    from edgeconv.convert.saved_model.translate import build, load_graph

    folder = Path(directory)
    inputs = _arrays(folder / "inputs.npz")
    expected = _arrays(folder / "outputs.npz")
    outcome = dict.fromkeys(STAGES, "not reached")
    try:
        model: ir.Model = load_graph(folder / "model.onnx")
        saved = build(model, folder / "saved_model", "nchw", default_registry())
        outcome["saved_model"] = _compare(expected, _run_tensorflow(saved.path, inputs))
        convert(saved.to_dict(), str(folder / "model.tflite"))
        outcome["tflite"] = _compare(expected, _run_litert(folder / "model.tflite", inputs))
    except Exception as error:  # noqa: BLE001 - any failure is the case's outcome
        stage = next(stage for stage in STAGES if outcome[stage] == "not reached")
        outcome[stage] = _brief(error)
    return outcome


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def _run_tensorflow(path: Path, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    import tensorflow as tf

    function = tf.saved_model.load(str(path)).signatures["serving_default"]
    feeds = {name: tf.constant(array) for name, array in inputs.items()}
    return {name: value.numpy() for name, value in function(**feeds).items()}


def _run_litert(path: Path, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], inputs[detail["name"]])
    interpreter.invoke()
    return {
        detail["name"]: interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_output_details()
    }


def _compare(expected: dict[str, Any], found: dict[str, Any]) -> str:
    for name, array in expected.items():
        other = found[name]
        if other.shape != array.shape or other.dtype != array.dtype:
            return (
                f"{name}: {other.dtype}{list(other.shape)} "
                f"instead of {array.dtype}{list(array.shape)}"
            )
        if not np.allclose(array, other, RTOL, ATOL, equal_nan=True):
            return f"{name}: values differ by up to {_distance(array, other):.3g}"
    return "pass"


def _distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(a.astype(np.float64) - b.astype(np.float64))))


def store(case: Case, directory: Path) -> None:
    """Write a case to a directory for `check`."""
    directory.mkdir(parents=True)
    (directory / "model.onnx").write_bytes(case.model.SerializeToString())
    write_npz(directory / "inputs.npz", case.inputs)
    write_npz(directory / "outputs.npz", case.outputs)


def run(selected: Sequence[Case], jobs: int) -> dict[str, Outcome]:
    """Run the cases in workers and return each one's outcome, by name."""
    root = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(jobs) as pool:
        shares = [selected[start::jobs] for start in range(jobs)]
        parts = pool.map(lambda share: dict(_run_share(share, Path(temporary))), shares)
        return {name: outcome for part in parts for name, outcome in part.items()}


def _run_share(share: Sequence[Case], root: Path) -> Iterator[tuple[str, Outcome]]:
    with Worker("node test", timeout=120) as worker:
        for number, case in enumerate(share):
            store(case, root / case.name)
            try:
                outcome = worker.call(
                    "benchmarks.onnx_coverage:check", directory=str(root / case.name)
                )
            except WorkerCrashed as crash:
                outcome = {"saved_model": "not known", "tflite": f"crash: {crash.what}"}
            except EdgeconvError as error:
                outcome = dict.fromkeys(STAGES, _brief(error))
            yield case.name, outcome
            if number % 50 == 49:
                sys.stderr.write(f"{number + 1} of {len(share)}\n")


def table(selected: Sequence[Case], outcomes: dict[str, Outcome]) -> str:
    """Return the table by operator and the totals, as Markdown."""
    counts: Counter[str] = Counter(case.op for case in selected)
    passed: dict[str, Counter[str]] = defaultdict(Counter)
    for case in selected:
        for stage in STAGES:
            passed[stage][case.op] += outcomes[case.name][stage] == "pass"
    lines = ["| operator | cases | SavedModel | TFLite |", "|---|---|---|---|"]
    lines += [
        f"| {op} | {counts[op]} | {passed['saved_model'][op]} | {passed['tflite'][op]} |"
        for op in sorted(counts)
    ]
    total = len(selected)
    for stage in STAGES:
        good = sum(passed[stage].values())
        lines.append(f"\n{stage}: {good} of {total} pass ({100 * good / total:.1f} %)")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--as-they-are", action="store_true", help="leave all inputs to run time")
    parser.add_argument("--sample", type=int, default=0, help="only so many cases, at random")
    parser.add_argument("--match", default="", help="only cases whose name holds this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    found = cases(as_they_are=arguments.as_they_are)
    selected = [case for case in found if arguments.match in case.name]
    if arguments.sample:
        selected = random.Random(_SEED).sample(selected, min(arguments.sample, len(selected)))
    name = "onnx_coverage_as_they_are" if arguments.as_they_are else "onnx_coverage"
    output = arguments.output or Path("benchmarks/results") / name
    outcomes = run(selected, arguments.jobs)
    text = table(selected, outcomes)
    print(text)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".md").write_text(text + "\n")
    failures = {
        name: outcome
        for name, outcome in sorted(outcomes.items())
        if set(outcome.values()) != {"pass"}
    }
    output.with_suffix(".json").write_text(json.dumps(failures, indent=1) + "\n")


if __name__ == "__main__":
    main()
