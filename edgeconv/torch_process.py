"""A PyTorch model in a process of its own; `edgeconv.remote_torch` calls these functions there.

``state`` is the process's own dictionary, which holds the model from `open_model` on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeconv.arrays import read_npz, write_npz
from edgeconv.artifacts import Artifact
from edgeconv.convert import torch_to_onnx
from edgeconv.convert.load import load_model
from edgeconv.convert.shapes import InputShapes
from edgeconv.convert.torch_limits import limited_loops
from edgeconv.convert.torch_values import TorchValues
from edgeconv.sources import TorchSource
from edgeconv.stream import Stream

_SOURCE = "source"


def open_model(state: dict[str, Any], shapes: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """Load a model that is no ONNX file, and keep it.

    Args:
        state: Where it is kept.
        shapes: The fields of `InputShapes`.
        arguments: The others of `load_model`.

    Returns:
        `TorchSource.artifact`, as a dictionary.
    """
    with limited_loops(arguments["source"]):
        model = load_model(input_shapes=InputShapes.from_dict(shapes), **arguments)
    assert not isinstance(model, Artifact)
    source = state[_SOURCE] = TorchSource(model)
    return source.artifact.to_dict()


def export(state: dict[str, Any], path: str) -> dict[str, Any]:
    """Export the model as ONNX.

    Returns:
        The ``artifact``, and whether the values inside the model are ``known``.
    """
    source: TorchSource = state[_SOURCE]
    artifact = torch_to_onnx.export(source.model, Path(path), keep=source.exported.append)
    return {"artifact": artifact.to_dict(), "known": bool(source.exported)}


def compute(state: dict[str, Any], onnx: dict[str, Any], feeds: str, results: str) -> None:
    """Run the samples of one ``.npz`` file; write the outputs, named as the ONNX file's."""
    source: TorchSource = state[_SOURCE]
    write_npz(
        Path(results), source.reference_outputs(Artifact.from_dict(onnx), read_npz(Path(feeds)))
    )


def stream(
    state: dict[str, Any], onnx: dict[str, Any], feeds: str, results: str, stream: dict[str, Any]
) -> None:
    """Run the samples of one ``.npz`` file as a stream; write the outputs of all steps."""
    source: TorchSource = state[_SOURCE]
    inputs, how = read_npz(Path(feeds)), Stream.from_dict(stream)
    write_npz(Path(results), source.stream_outputs(Artifact.from_dict(onnx), inputs, how))


def match(state: dict[str, Any], onnx: str) -> dict[str, Any]:
    """Return what an ONNX file has of the model's values; see `TorchValues.match`."""
    found = _values(state).match(Path(onnx))
    return {"shapes": dict(found.shapes), "unmatched": found.unmatched}


def record(state: dict[str, Any], feeds: str, names: Sequence[str], results: str) -> None:
    """Write values of the samples of one ``.npz`` file; see `TorchValues.record`."""
    _values(state).record(read_npz(Path(feeds)), names, Path(results))


def _values(state: dict[str, Any]) -> TorchValues:
    values: TorchValues = state[_SOURCE].values()
    return values
