"""What the tensors of a bundle's .tflite file that hold ONNX values are called."""

from __future__ import annotations

from pathlib import Path

from edgeconv.convert.onnx.value_map import read_map
from edgeconv.core.artifacts import Format
from edgeconv.core.bundle import open_bundle
from edgeconv.parity.layers.tflite_file import matched
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph


def tensor_names(bundle: Path, stage: str) -> dict[str, str]:
    """Return the tensor of each ONNX value in a stage's file; empty where they are not known.

    Raises:
        InvalidModel: The bundle or the file is damaged.
    """
    artifacts = open_bundle(bundle, allow_failed=True).artifacts
    artifact, saved = artifacts[stage], artifacts.get("saved_model")
    known = read_map(saved.path) if saved is not None else None
    if known is None:
        return {}
    if artifact.format is Format.SAVED_MODEL:
        return {item.value: item.node for item in known[0]}
    base = artifacts.get("tflite_fp32", artifact)
    graph = Graph(tflite.load(base.path))
    return {
        value.value: graph.name(index)
        for index, value in matched(graph, known[0], base.outputs).items()
    }
