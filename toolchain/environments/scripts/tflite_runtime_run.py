"""Runs in the environment of tflite-runtime: samples through a .tflite file. Python 3.8 and up."""

from __future__ import annotations

import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

try:
    from tflite_runtime.interpreter import Interpreter
except ImportError:  # an old TensorFlow has the same interpreter
    from tensorflow.lite.python.interpreter import Interpreter


class Refused(Exception):
    """The runtime refuses the model."""


def _load(request: dict[str, Any]) -> Any:
    try:
        interpreter = Interpreter(
            model_path=request["model"], num_threads=int(request.get("threads", 1))
        )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise Refused(str(error).strip()) from error
    return interpreter


def describe(interpreter: Any) -> dict[str, Any]:
    """Return the inputs and outputs as JSON values."""
    return {
        kind: [
            {
                "name": item["name"],
                "shape_signature": [int(size) for size in item["shape_signature"]],
                "dtype": np.dtype(item["dtype"]).name,
                "quantization": [float(item["quantization"][0]), int(item["quantization"][1])],
            }
            for item in details
        ]
        for kind, details in (
            ("inputs", interpreter.get_input_details()),
            ("outputs", interpreter.get_output_details()),
        )
    }


def _resize(interpreter: Any, feeds: dict[str, Any]) -> None:
    changed = False
    for item in interpreter.get_input_details():
        shape = feeds[item["name"]].shape[1:]
        if tuple(item["shape"]) != shape:
            interpreter.resize_tensor_input(item["index"], shape)
            changed = True
    if changed:
        interpreter.allocate_tensors()


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run every sample; write the outputs, stacked, in their order."""
    interpreter = _load(request)
    described = describe(interpreter)
    with np.load(request["feeds"]) as archive:
        feeds = {name: archive[name] for name in archive.files}
    collected: list[list[Any]] = [[] for _ in interpreter.get_output_details()]
    seconds = []
    for index in range(len(next(iter(feeds.values())))):
        _resize(interpreter, feeds)
        for item in interpreter.get_input_details():
            interpreter.set_tensor(item["index"], feeds[item["name"]][index, ...])
        began = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - began)
        outputs = [
            interpreter.get_tensor(item["index"]) for item in interpreter.get_output_details()
        ]
        for kept, array in zip(collected, outputs):  # noqa: B905 - no strict= before Python 3.10
            kept.append(array)
    arrays: dict[str, Any] = {
        f"output_{place}": np.stack(kept) for place, kept in enumerate(collected)
    }
    np.savez(request["results"], **arrays)
    return {**described, "version": metadata.version("tflite-runtime"), "seconds": seconds}


def op_versions(request: dict[str, Any]) -> dict[str, Any]:
    """Say of each file whether the runtime has its operators."""
    found = []
    for path in request["models"]:
        try:
            Interpreter(model_path=path)
            found.append(True)
        except (RuntimeError, ValueError):
            found.append(False)
    return {"known": found, "runtime": _runtime()}


def _runtime() -> str:
    for package in ("tflite-runtime", "tensorflow-cpu", "tensorflow"):
        try:
            return f"{package.replace('-cpu', '')} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    raise Refused("no runtime is installed")


def main() -> None:
    """Answer one request."""
    asked, answered = map(Path, sys.argv[1:])
    request = json.loads(asked.read_text())
    action = {"run": run, "op_versions": op_versions}[request["action"]]
    try:
        answer = {"result": action(request)}
    except Refused as error:
        message = "tflite-runtime refuses the model"
        answer = {"error": {"kind": "model", "message": message, "why": str(error)}}
    partial = answered.with_suffix(".part")
    partial.write_text(json.dumps(answer))
    partial.replace(answered)


if __name__ == "__main__":
    main()
