"""Runs in the environment of onnx-tf: an ONNX file to a SavedModel, or a self-test."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import TensorProto, defs, helper, numpy_helper  # noqa: E402
from onnx_tf.backend import prepare  # noqa: E402
from onnx_tf.opset_version import backend_opset_version  # noqa: E402


class Refused(Exception):
    """The answer is an error; its arguments are kind, message and reason."""


def _walk(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _walk(inner)


def _missing(model: Any) -> list[str]:
    """Return the operators, with their versions, that onnx-tf has no handler for."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    missing = set()
    for node in _walk(model.graph):
        if node.domain not in ("", "ai.onnx"):
            missing.add(f"{node.domain}.{node.op_type}")
            continue
        version = defs.get_schema(node.op_type, opsets.get("", 1)).since_version
        if version not in backend_opset_version.get(node.op_type, ()):
            missing.add(f"{node.op_type}-{version}")
    return sorted(missing)


def convert(model_path: str, directory: str) -> dict[str, str]:
    """Convert a file; return the versions of what did."""
    model = onnx.load(model_path)
    missing = _missing(model)
    if missing:
        raise Refused("conversion", "onnx-tf does not have these operators", ", ".join(missing))
    try:
        prepare(model, logging_level="ERROR").export_graph(directory)
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        reason = f"{type(error).__name__}: {lines[-1].strip() or lines[0]}"
        raise Refused("conversion", "onnx-tf cannot convert the model", reason) from error
    return {name: _version(name) for name in ("onnx-tf", "tensorflow", "onnx")}


def _version(name: str) -> str:
    for distribution in (name, f"{name}-cpu"):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return "unknown"


def self_test() -> dict[str, str]:
    """Convert and run a convolution of ones, of which the sums are known."""
    import tensorflow as tf

    weights = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "self_test",
        [value("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [value("y", TensorProto.FLOAT, [1, 2, 4, 4])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        path, directory = f"{folder}/model.onnx", f"{folder}/saved_model"
        onnx.save(model, path)
        versions = convert(path, directory)
        loaded = tf.saved_model.load(directory)
        x = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
        y = loaded.signatures["serving_default"](x=tf.constant(x))["y"].numpy()
    expected = np.repeat(x.sum(axis=1, keepdims=True), 2, axis=1)
    if not np.allclose(y, expected, rtol=1e-5):
        raise Refused("self_test", "a convolution by onnx-tf computes something else", "")
    return versions


def main() -> None:
    """Answer one request."""
    asked, answered = map(Path, sys.argv[1:])
    request = json.loads(asked.read_text())
    answer: dict[str, Any]
    try:
        if request["action"] == "self_test":
            answer = {"result": self_test()}
        else:
            answer = {"result": convert(request["model"], request["directory"])}
    except Refused as error:
        kind, message, why = error.args
        answer = {"error": {"kind": kind, "message": message, "why": why}}
    partial = answered.with_suffix(".part")
    partial.write_text(json.dumps(answer))
    partial.replace(answered)


if __name__ == "__main__":
    main()
