"""One architecture through all stages, in a process of its own.

    python -m benchmarks.zoo_case

loads the libraries, then forks a process for each request: a JSON line on stdin with ``name``,
``directory`` and ``timeout``. When that process has ended, a JSON line on stdout says how, ``""``
for well. The outcome goes to ``directory/outcome.json``, rewritten after each stage, so that it
is known how far a process came that was killed.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from benchmarks.architectures import find
from edgeconv.core.errors import EdgeconvError

SAMPLES = 2
SEED = 0
_VANISHING = 1e-6


class Degenerate(Exception):
    """The architecture's outputs are useless for a comparison."""


class _Run:
    """Measures stages and keeps the outcome on disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.outcome: dict[str, Any] = {"stage": "start", "seconds": {}, "cpu_seconds": {}}

    def stage(self, name: str, action: Callable[[], Any]) -> Any:
        self.update(stage=name)
        started, cpu = time.perf_counter(), time.process_time()
        try:
            result = action()
        finally:
            self.outcome["seconds"][name] = round(time.perf_counter() - started, 2)
            self.outcome["cpu_seconds"][name] = round(time.process_time() - cpu, 2)
            self.outcome["peak_mb"] = peak_mb()
        self.update()
        return result

    def update(self, **changes: Any) -> None:
        self.outcome.update(changes)
        draft = self.directory / "outcome.tmp"
        draft.write_text(json.dumps(self.outcome))
        draft.replace(self.directory / "outcome.json")


def peak_mb() -> int:
    """Return the largest resident size that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def check(name: str, directory: Path) -> None:
    """Take one architecture through all stages.

    Args:
        name: The architecture.
        directory: An existing directory for files and the outcome.
    """
    run = _Run(directory)
    try:
        _check(name, run)
    except Exception as error:  # noqa: BLE001 - any failure is the outcome
        run.update(error=_brief(error), details=_details(error))
    else:
        run.update(stage="done")


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:600]}"


def _details(error: Exception) -> str:
    import traceback

    own = error.details if isinstance(error, EdgeconvError) else ""
    return own[-4000:] or "".join(traceback.format_exception(error))[-4000:]


def _check(name: str, run: _Run) -> None:
    from edgeconv.convert.saved_model.to_tflite import convert
    from edgeconv.convert.saved_model.translate import translate
    from edgeconv.convert.torch.export import export
    from edgeconv.convert.torch.model import from_module
    from edgeconv.core.artifacts import Artifact

    architecture = find(name)
    module = run.stage("build", architecture.build)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    run.update(parameters=parameters)
    model = from_module(module, architecture.example(SEED), name)
    feeds, reference = _reference(model, architecture)
    warnings: list[str] = []
    onnx = run.stage(
        "onnx", lambda: export(model, run.directory / "model.onnx", warn=warnings.append)
    )
    run.update(warnings=warnings)
    source = onnx.to_dict()
    saved = run.stage("saved_model", lambda: translate(source, str(run.directory / "saved_model")))
    tflite = Artifact.from_dict(
        run.stage("tflite", lambda: convert(saved, str(run.directory / "model.tflite")))
    )
    run.update(converts=True, **_operators(tflite.path))
    run.stage("litert", lambda: _measure(run, tflite, feeds, reference))


def load() -> None:
    """Load the libraries, and what torch's exporter sets up once, without starting threads."""
    import tensorflow  # noqa: F401
    import torch

    from benchmarks.architectures.torchvision_models import torchvision
    from edgeconv.convert.torch.export import export
    from edgeconv.convert.torch.model import from_module

    torchvision()
    for library in ("timm", "transformers"):
        with suppress(ImportError):
            importlib.import_module(library)
    _build_registry_once()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        module = from_module(torch.nn.Linear(2, 2), torch.zeros(1, 2))
        export(module, Path(directory) / "model.onnx")


def _build_registry_once() -> None:
    """Keep the table of ONNX forms that torch's exporter otherwise builds for each model."""
    from torch.onnx._internal.exporter import _registration

    registry = _registration.ONNXRegistry.from_torchlib()
    ready = staticmethod(lambda **_options: registry)
    setattr(_registration.ONNXRegistry, "from_torchlib", ready)  # noqa: B010


def _reference(model: Any, architecture: Any) -> tuple[list[Any], list[list[Any]]]:
    """Return the inputs of each sample and torch's outputs, which must be worth comparing."""
    feeds = []
    for seed in range(SAMPLES):
        tensors = architecture.example(seed + 100)
        feeds.append({s.name: t.numpy() for s, t in zip(model.inputs, tensors, strict=True)})
    outputs = [model.run(feed) for feed in feeds]
    for number, array in enumerate(outputs[0]):
        if array.dtype.kind != "f" or not array.size:
            continue
        rms = float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
        if not np.isfinite(rms) or rms < _VANISHING or rms > 1 / _VANISHING:
            raise Degenerate(f"output {number} has a root mean square of {rms:g}")
    return feeds, outputs


def _operators(path: Path) -> dict[str, Any]:
    from edgeconv.tflite import file as tflite

    model = tflite.load(path)
    counts = Counter(
        tflite.operator_name(model, operator)
        for graph in model.subgraphs
        for operator in graph.operators
    )
    return {
        "operators": counts.total(),
        "transposes": counts["TRANSPOSE"],
        "histogram": dict(counts.most_common()),
        "bytes": path.stat().st_size,
    }


def _measure(run: _Run, artifact: Any, feeds: list[Any], reference: list[list[Any]]) -> None:
    from edgeconv.metrics import parity

    found = [run_litert(artifact, feed) for feed in feeds]
    names = [spec.name for spec in artifact.outputs]
    if len(names) != len(reference[0]):
        raise ValueError(f"{len(names)} outputs instead of {len(reference[0])}")
    figures = parity.compare(
        {name: np.stack([sample[i] for sample in reference]) for i, name in enumerate(names)},
        {name: np.stack([sample[name] for sample in found]) for name in names},
    )
    reasons = [f"{item.name}: {item.reason}" for item in figures if item.reason]
    if reasons:
        raise ValueError("; ".join(reasons))
    run.update(
        sqnr_db=parity.worst_sqnr(figures),
        exact=min((item.exact for item in figures if item.exact is not None), default=None),
    )


def run_litert(artifact: Any, feed: dict[str, Any]) -> dict[str, Any]:
    """Return the outputs of a .tflite artifact on one sample, both as the source has them."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(artifact.path), num_threads=2)
    interpreter.allocate_tensors()
    for detail, spec in zip(interpreter.get_input_details(), artifact.inputs, strict=True):
        interpreter.set_tensor(detail["index"], spec.store(feed[spec.name]))
    interpreter.invoke()
    return {
        spec.name: spec.restore(interpreter.get_tensor(detail["index"]))
        for detail, spec in zip(interpreter.get_output_details(), artifact.outputs, strict=True)
    }


def serve(requests: Iterable[str], answers: TextIO) -> None:
    """Run one process for each request."""
    for line in requests:
        request = json.loads(line)
        how = _forked(request["name"], Path(request["directory"]), request["timeout"])
        answers.write(json.dumps({"how": how}) + "\n")
        answers.flush()


def _forked(name: str, directory: Path, timeout: float) -> str:
    """Check an architecture in a forked process; return how it ended, ``""`` for well.

    It is ended with this process when the one that asks has died.
    """
    log = directory / "log.txt"
    client = os.getppid()
    child = os.fork()
    if child == 0:
        _child(name, directory, log)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and os.getppid() == client:
        ended, state = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(state)
            return "" if code == 0 else f"{_ending(code)}: {_last_line(log)}"
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"took longer than {timeout:g} s"


def _child(name: str, directory: Path, log: Path) -> NoReturn:
    with log.open("wb") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    code = 1
    try:
        check(name, directory)
        code = 0
    finally:
        os._exit(code)


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


if __name__ == "__main__":
    answering = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    load()
    serve(iter(sys.stdin.readline, ""), answering)
