"""What a ``.tflite`` file holds; of a compiled one also what its target finds in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeconv import targets
from edgeconv.core.artifacts import Format
from edgeconv.core.errors import UsageError
from edgeconv.tflite import file as tflite
from edgeconv.tflite import view as views
from edgeconv.toolchain.worker.limits import reading


def describe_file(path: str) -> dict[str, Any]:
    """Call `describe_tflite`, in a worker process."""
    size = Path(path).stat().st_size
    with reading(size, path):
        return describe_tflite(Path(path))


def describe_compiled(path: str) -> dict[str, Any] | None:
    """Describe a file that may be of a target's own format, in a worker process.

    Returns:
        ``None`` where it is none of any target's.
    """
    with reading(Path(path).stat().st_size, path):
        return _compiled(Path(path))


def place_file(path: str, target: str, *, converted: bool) -> dict[str, Any]:
    """Say where each operator would run on a target, in a worker process.

    Args:
        path: The file.
        target: What it would run on.
        converted: Whether it was converted for that target.

    Returns:
        The placement; of a file that is compiled for the target, its description.

    Raises:
        NotOffered: The target predicts nothing.
        InvalidModel: It cannot be read.
        UsageError: It is compiled for another target.
    """
    file = Path(path)
    with reading(file.stat().st_size, path):
        made_for = _compiled(file)
        if made_for is None:
            return targets.find(target).placement(file, converted=converted).to_dict()
        if made_for["compiled_for"] == target:
            return describe_tflite(file)
        other = targets.find(made_for["compiled_for"])
        raise UsageError(
            f"a model compiled for {other.label} runs nowhere else",
            where=path,
            hint="give the model that it was made of",
        )


def describe_tflite(path: Path) -> dict[str, Any]:
    """Describe a ``.tflite`` file.

    Raises:
        InvalidModel: It cannot be read.
    """
    return {**_described(tflite.load(path)), **(_compiled(path) or {})}


def _compiled(path: Path) -> dict[str, Any] | None:
    """Return what the target that a file is compiled for says of it."""
    for target in targets.every():
        found = target.describe(path)
        if found is not None:
            return {**found, "format": target.word, "compiled_for": target.name}
    return None


def _described(model: tflite.ModelT) -> dict[str, Any]:
    graph = model.subgraphs[0]
    view = views.view(model)
    return {
        "format": Format.TFLITE.value,
        "description": _text(model.description),
        "subgraphs": len(model.subgraphs),
        "signatures": [_text(item.signatureKey) for item in model.signatureDefs or ()],
        "inputs": [_tensor(graph.tensors[index]) for index in graph.inputs],
        "outputs": [_tensor(graph.tensors[index]) for index in graph.outputs],
        "constant_bytes": sum(
            len(buffer.data) for buffer in model.buffers if buffer.data is not None
        ),
        "ops": [
            {
                "index": op.index,
                "op": op.name,
                "version": op.version,
                "macs": views.macs(op),
                "constant_bytes": op.constant_bytes,
                "inputs": [
                    None if item is None else _tensor(graph.tensors[item.index])
                    for item in op.inputs
                ],
                "outputs": [_tensor(graph.tensors[item.index]) for item in op.outputs],
            }
            for op in view.ops
        ],
        "packages": [],
    }


def _tensor(tensor: tflite.TensorT) -> dict[str, Any]:
    quantization = tensor.quantization
    scales = [] if quantization is None or quantization.scale is None else quantization.scale
    zeros = [] if quantization is None or quantization.zeroPoint is None else quantization.zeroPoint
    return {
        "name": tflite.tensor_name(tensor),
        "shape": [] if tensor.shape is None else [int(size) for size in tensor.shape],
        "dtype": tflite.dtype_of(tensor),
        "scale": [float(scale) for scale in scales],
        "zero_point": [int(zero) for zero in zeros],
    }


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
