"""Measure the converted files of one model on LiteRT; runs in a process of its own.

    python -m benchmarks.peers_measure REQUEST

REQUEST is a JSON file with ``samples`` (an .npz), ``files`` (by converter) and ``result``, the
JSON file to write. Latency is the median of `ROUNDS` invocations on one thread with XNNPACK, the
converters taking turns so that a change of the machine's pace meets all of them.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROUNDS, WARM_UP = 40, 3

Array = npt.NDArray[Any]


class Loaded:
    """A TFLite file on LiteRT, fed with the source model's arrays in either layout."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_path=str(path), num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]
        self.output = self.interpreter.get_output_details()[0]

    def feed(self, array: Array) -> None:
        """Set the input, NCHW or NHWC, whichever the file has."""
        shape = tuple(self.input["shape"])
        if array.shape != shape:
            array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
        self.interpreter.set_tensor(self.input["index"], array)

    def invoke(self) -> float:
        """Run, and return the seconds that it took."""
        started = time.perf_counter()
        self.interpreter.invoke()
        return time.perf_counter() - started

    def result(self, shape: tuple[int, ...]) -> Array:
        """Return the output in the source model's layout."""
        found: Array = self.interpreter.get_tensor(self.output["index"])
        if found.shape != shape and found.ndim == len(shape) == 4:
            found = found.transpose(0, 3, 1, 2)
        if found.shape != shape:
            raise ValueError(f"output has shape {list(found.shape)}, not {list(shape)}")
        return found


def sqnr(loaded: Loaded, inputs: Array, outputs: Array) -> float:
    """Return signal over error of all samples in dB."""
    signal = noise = 0.0
    for sample, expected in zip(inputs, outputs, strict=True):
        loaded.feed(sample)
        loaded.invoke()
        found = loaded.result(expected.shape).astype(np.float64)
        signal += float(np.square(expected, dtype=np.float64).sum())
        noise += float(np.square(found - expected).sum())
    return 10 * float(np.log10(signal / max(noise, 1e-300)))


def operators(path: Path) -> dict[str, int]:
    """Return how many operators the file has, and how many of them move data."""
    from edgeconv.tflite import file as tflite

    model = tflite.load(path)
    counts = Counter(
        tflite.operator_name(model, operator)
        for graph in model.subgraphs
        for operator in graph.operators
    )
    return {"operators": counts.total(), "transposes": counts["TRANSPOSE"]}


def latencies(loaded: dict[str, Loaded]) -> dict[str, float]:
    """Return each file's median latency in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in loaded}
    for number in range(WARM_UP + ROUNDS):
        for name, model in loaded.items():
            seconds = model.invoke()
            if number >= WARM_UP:
                times[name].append(seconds)
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


def measure(request: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the figures of each file, ``error`` where it does not run."""
    with np.load(request["samples"]) as archive:
        inputs, outputs = archive["inputs"], archive["outputs"]
    figures: dict[str, dict[str, Any]] = {}
    loaded: dict[str, Loaded] = {}
    for name, path in request["files"].items():
        figures[name] = {"bytes": Path(path).stat().st_size, **operators(Path(path))}
        try:
            model = Loaded(Path(path))
            figures[name]["sqnr_db"] = sqnr(model, inputs, outputs)
        except (ValueError, RuntimeError) as error:
            figures[name]["error"] = " ".join(str(error).split())[:200]
        else:
            loaded[name] = model
    for name, milliseconds in latencies(loaded).items():
        figures[name]["latency_ms"] = milliseconds
    return figures


if __name__ == "__main__":
    wanted = json.loads(Path(sys.argv[1]).read_text())
    Path(wanted["result"]).write_text(json.dumps(measure(wanted)))
