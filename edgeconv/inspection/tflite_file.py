"""What a ``.tflite`` file holds; of a compiled one also what is in its custom operators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeconv.core.artifacts import Format
from edgeconv.targets.coral.placement.followed import for_converted
from edgeconv.targets.coral.placement.package import Package, packages
from edgeconv.targets.coral.placement.parameters import macs
from edgeconv.targets.coral.placement.predict import predict_read
from edgeconv.tflite import file as tflite
from edgeconv.tflite import view as views
from edgeconv.toolchain.worker.limits import reading


def describe_file(path: str) -> dict[str, Any]:
    """Call `describe_tflite`, in a worker process."""
    size = Path(path).stat().st_size
    with reading(size, path):
        return describe_tflite(Path(path))


def place_file(path: str, target: str, *, converted: bool) -> dict[str, Any]:
    """Say where each operator would run on a Coral, in a worker process.

    Args:
        path: The file.
        target: What it would run on.
        converted: Whether it was converted for that target.

    Returns:
        The prediction; for any other target, and of a compiled file, what `describe_tflite` does.

    Raises:
        InvalidModel: It cannot be read.
    """
    with reading(Path(path).stat().st_size, path):
        model = tflite.load(Path(path))
        found = packages(model, path)
        if found or target != "coral":
            return _described(model, found)
        prediction = predict_read(views.view(model), path)
        return (for_converted(prediction) if converted else prediction).to_dict()


def describe_tflite(path: Path) -> dict[str, Any]:
    """Describe a ``.tflite`` file.

    Raises:
        InvalidModel: It cannot be read.
    """
    model = tflite.load(path)
    return _described(model, packages(model, str(path)))


def _described(model: tflite.ModelT, found: Sequence[tuple[int, Package]]) -> dict[str, Any]:
    graph = model.subgraphs[0]
    view = views.view(model)
    return {
        "format": (Format.EDGETPU if found else Format.TFLITE).value,
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
                "macs": macs(op),
                "constant_bytes": op.constant_bytes,
                "inputs": [
                    None if item is None else _tensor(graph.tensors[item.index])
                    for item in op.inputs
                ],
                "outputs": [_tensor(graph.tensors[item.index]) for item in op.outputs],
            }
            for op in view.ops
        ],
        "packages": [{"op": index, **package.to_dict()} for index, package in found],
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
