"""Runs in the environment of tflite-runtime: samples through a .tflite file. Python 3.8 and up."""

import json
import os
import sys
import time
from importlib import metadata

import numpy as np
from tflite_runtime.interpreter import Interpreter


class Refused(Exception):
    """The runtime refuses the model."""


def _load(request):
    try:
        interpreter = Interpreter(
            model_path=request["model"], num_threads=int(request.get("threads", 1))
        )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise Refused(str(error).strip()) from error
    return interpreter


def describe(interpreter):
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


def _resize(interpreter, feeds):
    changed = False
    for item in interpreter.get_input_details():
        shape = feeds[item["name"]].shape[1:]
        if tuple(item["shape"]) != shape:
            interpreter.resize_tensor_input(item["index"], shape)
            changed = True
    if changed:
        interpreter.allocate_tensors()


def run(request):
    """Run every sample; write the outputs, stacked, in their order."""
    interpreter = _load(request)
    described = describe(interpreter)
    with np.load(request["feeds"]) as archive:
        feeds = {name: archive[name] for name in archive.files}
    collected = None
    seconds = []
    for index in range(len(next(iter(feeds.values())))):
        _resize(interpreter, feeds)
        for item in interpreter.get_input_details():
            interpreter.set_tensor(item["index"], feeds[item["name"]][index])
        began = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - began)
        outputs = [
            interpreter.get_tensor(item["index"]) for item in interpreter.get_output_details()
        ]
        collected = collected or [[] for _ in outputs]
        for kept, array in zip(collected, outputs):
            kept.append(array)
    arrays = {f"output_{place}": np.stack(kept) for place, kept in enumerate(collected)}
    np.savez(request["results"], **arrays)
    return {**described, "version": metadata.version("tflite-runtime"), "seconds": seconds}


def op_versions(request):
    """Say of each file whether the runtime has its operators."""
    found = []
    for path in request["models"]:
        try:
            Interpreter(model_path=path)
            found.append(True)
        except (RuntimeError, ValueError):
            found.append(False)
    return {"known": found, "version": metadata.version("tflite-runtime")}


def main():
    """Answer one request."""
    asked, answered = sys.argv[1:]
    with open(asked) as file:
        request = json.load(file)
    action = {"run": run, "op_versions": op_versions}[request["action"]]
    try:
        answer = {"result": action(request)}
    except Refused as error:
        message = "tflite-runtime refuses the model"
        answer = {"error": {"kind": "model", "message": message, "why": str(error)}}
    with open(answered + ".part", "w") as file:
        json.dump(answer, file)
    os.replace(answered + ".part", answered)


if __name__ == "__main__":
    main()
