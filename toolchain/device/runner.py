"""Run a TFLite model on the machine that this file is on, on an accelerator where there is one.

This one file is all that a board needs beside a model, its inputs and, for a compiled model, the
part that knows how to run it: Python 3.7 or later, numpy, and one of tflite_runtime and
ai_edge_litert. ``python3 runner.py [FOLDER]`` reads ``job.json`` in its folder::

    {"schema_version": 1, "model": "model.tflite", "compiled": "model_npu.tflite" or null,
     "part": "device_part.py" or null, "place": "npu", "inputs": "inputs.npz",
     "results": "results.npz", "device": "", "threads": 1, "runs": 50, "cpu_fallback": true,
     "seconds": 600, "why_not": null, "runtime": "" or a name of RUNTIMES}

and prints one JSON object: ``ran_on`` (``place`` or ``cpu``), ``fallback``, ``runtime``,
``latency_ms``, ``memory_bytes`` or ``failure``. Inputs and outputs are known by index:
``inputs.npz`` holds ``0``, ``1``, ..., ``[sample, ...]``, in the model's stored form, and the
results are written likewise. Where the job's ``joins`` say which outputs are parts of one,
``joined.npz`` has those by name, as real numbers. Where there is an ``expected.npz`` like it,
``max_difference`` compares.

Native libraries abort, and some crash, so whatever touches one runs in a process of its own. A
compiled model is never given to a CPU: the model that it was compiled from runs there.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

Json = Dict[str, Any]

# Newest first: what is installed beside an old tflite_runtime was installed on purpose.
RUNTIMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
    ("tensorflow.lite.python.interpreter", "tensorflow"),
)

# (pattern in what a library said, what it means, what to do). The first that fits counts.
# fmt: off
FAILURES = (
    (r"_ARRAY_API not found|compiled using NumPy 1\.x|numpy\.core\.multiarray failed to import",
     "the installed TFLite runtime was built for numpy 1",
     "install an older numpy on the device: pip install 'numpy<2'"),
    (r"no TFLite runtime",
     "the device has neither tflite_runtime nor ai_edge_litert",
     ("install one for the Python that is used: pip install tflite-runtime 'numpy<2', or "
      "ai-edge-litert; name another Python with --python")),
    (r"No module named '?numpy",
     "numpy is not installed on the device",
     "install it for the Python that is used: pip install 'numpy<2'"),
    (r"No space left on device|File too large|Disk quota exceeded",
     "the device's disk is full",
     "free some space in its TMPDIR or /tmp"),
    (r"builtin opcode|[Oo]p builtin_code out of range|Didn't find op",
     "the device's TFLite runtime is older than the model",
     ("install a newer runtime on the device, or convert with a --target that keeps to old "
      "operator versions")),
)
CRASHES = (
    (r"killed by SIG(KILL|BUS)",
     "the process that ran the model was killed, probably for lack of memory",
     "free memory on the device, or use a smaller model"),
    (r"killed by SIG\w+",
     "the native library ended the process that ran the model",
     "plug the device in again; if it stays, compare the versions of the libraries"),
    (r"time-out after",
     "the model did not finish in time",
     "raise --timeout, or unplug the device and plug it in again"),
)
CPU_CRASH = ("the TFLite runtime crashed on the model, on the CPU ({})",
             "see edgeconv inspect for its operators; if others made the file, do not trust it")
# fmt: on


def explain(text: str, place: str, part: Any = None) -> Tuple[str, str]:
    """Return what a failure there means, in one sentence, and what to do, from all that it said.

    What the job's part knows comes first; a text says more than how the process ended.
    """
    crash = re.search(r"killed by (SIG(?!KILL|BUS)\w+)", text) if place == "cpu" else None
    if crash:
        return CPU_CRASH[0].format(crash.group(1)), CPU_CRASH[1]
    known = (*getattr(part, "FAILURES", ()), *FAILURES, *getattr(part, "CRASHES", ()), *CRASHES)
    for pattern, meaning, advice in known:
        found = re.search(pattern, text, re.IGNORECASE)
        if found:
            return meaning.format(*found.groups()), advice.format(*found.groups())
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["without a word"]
    return "the runtime failed: " + lines[-1], "run again with --verbose for all that it printed"


def _distribution(name: str) -> str:
    for candidate in (name, name + "-cpu"):
        try:
            metadata = importlib.import_module("importlib.metadata")
            return name + " " + str(metadata.version(candidate))
        except ImportError:  # not installed under that name, or Python 3.7
            pass
    return name


def _tflite(wanted: str) -> Tuple[Any, str]:
    """Return the module of an installed TFLite runtime, any for ``""``, and name and version."""
    errors = []
    for module, name in RUNTIMES:
        try:
            if wanted in ("", name):
                return importlib.import_module(module), _distribution(name)
        except ImportError as error:
            errors.append(str(error))
    raise ImportError("no TFLite runtime: " + "; ".join(errors))


def _part(job: Json) -> Any:
    """Return the module that runs compiled models, which lies beside this file; or ``None``."""
    if not job.get("part"):
        return None
    sys.dont_write_bytecode = True  # the folder stays as it was copied
    path = Path(__file__).resolve().with_name(job["part"])
    spec = importlib.util.spec_from_file_location("device_part", str(path))
    if spec is None or spec.loader is None:
        raise ImportError("no part of the runner: " + str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _on_cpu(model: str, threads: int, runtime: str) -> Tuple[Any, str]:
    tflite, name = _tflite(runtime)
    return tflite.Interpreter(model_path=model, num_threads=threads), name


def measure(interpreter: Any, job: Json, folder: Path) -> Json:
    """Run every sample, then time one of them; write the outputs.

    Returns:
        ``latency_ms`` (first run, median, 90th percentile, runs) and ``memory_bytes``, the
        process's peak.
    """
    import numpy as np

    interpreter.allocate_tensors()
    inputs = [int(item["index"]) for item in interpreter.get_input_details()]
    outputs = [int(item["index"]) for item in interpreter.get_output_details()]
    with np.load(str(folder / job["inputs"]), allow_pickle=False) as archive:
        feeds = [archive[str(position)] for position in range(len(inputs))]
    collected = [[] for _ in outputs]  # type: List[List[Any]]
    first = 0.0
    for sample in range(len(feeds[0]) if feeds else 1):
        _feed(interpreter, inputs, [array[sample, ...] for array in feeds])
        seconds = _timed(interpreter.invoke)
        first = first if sample else seconds
        for kept, index in zip(collected, outputs):
            kept.append(interpreter.get_tensor(index))
    arrays = {str(position): np.stack(kept) for position, kept in enumerate(collected)}  # type: Json
    with (folder / job["results"]).open("wb") as file:
        np.savez(file, **arrays)
    times = _timed_runs(interpreter.invoke, int(job["runs"]))
    return {
        "latency_ms": {
            "first": 1e3 * first,
            "median": 1e3 * float(np.median(times)) if times else None,
            "p90": 1e3 * float(np.percentile(times, 90)) if times else None,
            "runs": len(times),
        },
        "memory_bytes": _peak_memory(),
        **_difference(arrays, folder / job.get("expected", "expected.npz")),
    }


def _difference(arrays: Json, path: Path) -> Json:
    """Return ``max_difference`` from the arrays of a file, where it exists."""
    import numpy as np

    if not path.exists():
        return {}
    with np.load(str(path), allow_pickle=False) as archive:
        distances = [
            np.abs(array.astype(float) - archive[name].astype(float)).max()
            for name, array in arrays.items()
        ]
    return {"max_difference": float(max(distances))}


def _feed(interpreter: Any, indices: Sequence[int], arrays: Sequence[Any]) -> None:
    details = {int(item["index"]): item for item in interpreter.get_input_details()}
    resized = False
    for index, array in zip(indices, arrays):
        if tuple(details[index]["shape"]) != array.shape:
            interpreter.resize_tensor_input(index, array.shape)
            resized = True
    if resized:
        interpreter.allocate_tensors()
    for index, array in zip(indices, arrays):
        interpreter.set_tensor(index, array)


def _timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _timed_runs(call: Callable[[], Any], runs: int, limit: float = 60.0) -> List[float]:
    """Time at most that many runs, within `limit` seconds but at least three."""
    times = []  # type: List[float]
    while len(times) < runs and (len(times) < 3 or sum(times) < limit):
        times.append(_timed(call))
    return times


def _peak_memory() -> Optional[int]:
    try:
        resource = importlib.import_module("resource")
    except ImportError:  # Windows
        return None
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if platform.system() == "Darwin" else peak * 1024


def attempt(folder: Path, place: str) -> Json:
    """Run the job on the CPU, or else on the device of its part, in this process."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    wanted = job.get("runtime", "")
    if place == "cpu":
        interpreter, runtime = _on_cpu(str(folder / job["model"]), int(job["threads"]), wanted)
    else:
        compiled = str(folder / job["compiled"])
        interpreter, runtime = _part(job).open_model(
            compiled, job["device"], lambda: _tflite(wanted)
        )
    answer = {"ran_on": place, "runtime": runtime, **measure(interpreter, job, folder)}
    if job.get("joins"):
        join(job, folder)
    return {**answer, "tail": finish(job, folder)} if job.get("tail") else answer


def join(job: Json, folder: Path) -> None:
    """Put outputs together of which the model returns the parts, as real numbers."""
    import numpy as np

    made = {}  # type: Json
    with np.load(str(folder / job["results"]), allow_pickle=False) as results:
        for one in job["joins"]:
            parts, places = [], []  # type: List[Any], List[int]
            for source, scale, zero_point, slices in one["parts"]:
                parts.append(_real(results[str(source)], scale, zero_point))
                places += [place for ends in slices for place in range(*ends)]
            whole = np.concatenate(parts, one["axis"] + 1)
            made[one["output"]] = np.take(whole, np.argsort(places), one["axis"] + 1)
    with (folder / job["joined"]).open("wb") as file:
        np.savez(file, **made)


def _real(array: Any, scale: Optional[float], zero_point: Optional[int]) -> Any:
    """Return the real numbers that stored values stand for; as they are without a scale."""
    return array if scale is None else (array.astype("float32") - zero_point) * scale


def finish(job: Json, folder: Path) -> Json:
    """Run the end of the model, which was cut off for the CPU, on what the model returned."""
    import numpy as np

    tail, stored, feeds = job["tail"], {}, {}  # type: Json, Json, Json
    for kind in ("inputs", "results", *(["joined"] if job.get("joins") else [])):
        with np.load(str(folder / job[kind]), allow_pickle=False) as archive:
            stored[kind] = {name: archive[name] for name in archive.files}
    for place, (kind, source, scale, zero_point) in enumerate(tail["feeds"]):
        feeds[str(place)] = _real(stored[kind][str(source)], scale, zero_point)
    with (folder / tail["inputs"]).open("wb") as file:
        np.savez(file, **feeds)
    model = str(folder / tail["model"])
    interpreter, _ = _on_cpu(model, int(job["threads"]), job.get("runtime", ""))
    return measure(interpreter, {**job, **tail}, folder)


def isolated(folder: Path, place: str, seconds: float) -> Json:
    """Run `attempt` in a process of its own; return its answer, or ``failure`` with all it said."""
    command = [sys.executable, str(Path(__file__).resolve()), str(folder), "--attempt", place]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failure": "time-out after %g seconds" % seconds}
    said = done.stderr.decode("utf-8", "replace")
    if done.returncode < 0:
        return {"failure": said[-4000:] + "\nkilled by " + signal.Signals(-done.returncode).name}
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    if done.returncode or not lines:
        return {"failure": said[-4000:] or "exit status " + str(done.returncode)}
    return dict(json.loads(lines[-1]))


def run(folder: Path) -> Json:
    """Run the job: on the device if the model is compiled and one works, else on the CPU."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    part = _part(job)
    seconds = float(job["seconds"])
    answer = {"fallback": job.get("why_not")}  # type: Json
    if job["compiled"] is not None:
        found = isolated(folder, job["place"], seconds)
        if "failure" not in found:
            return {**answer, **found, **_machine()}
        meaning, advice = explain(found["failure"], job["place"], part)
        answer = {"fallback": meaning, "advice": advice, "details": found["failure"]}
    if not job["cpu_fallback"] and answer["fallback"]:
        return {**answer, "failure": answer["fallback"], **_machine()}
    found = isolated(folder, "cpu", seconds)
    if "failure" in found:
        meaning, advice = explain(found["failure"], "cpu", part)
        found = {"failure": meaning, "advice": advice, "details": found["failure"]}
    return {**answer, **found, **_machine()}


def _machine() -> Json:
    return {
        "python": platform.python_version(),
        "machine": platform.machine() + " " + platform.system(),
    }


def main() -> int:
    """Run as a program; the answer is the last line on stdout."""
    parser = argparse.ArgumentParser(
        description="Run a TFLite model, on an accelerator if possible."
    )
    parser.add_argument("folder", nargs="?", default=str(Path(__file__).resolve().parent))
    parser.add_argument("--attempt", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = Path(arguments.folder)
    place = arguments.attempt
    answer = attempt(folder, place) if place else run(folder)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    if arguments.attempt:
        # Delegates of some versions fail while they are torn down, after the work is done.
        os._exit(0)
    return 1 if "failure" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
