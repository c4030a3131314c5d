"""A PyTorch model in a process of its own, called from `edgeconv.sources.remote_torch`.

``state`` is the process's own dictionary, which holds each model, under its key, from `open_model`
on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeconv.convert.torch import export as torch_to_onnx
from edgeconv.convert.torch.limits import limited_loops
from edgeconv.convert.torch.load import load_model
from edgeconv.convert.torch.values import TorchValues
from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Artifact, TensorSpec
from edgeconv.core.input_shapes import InputShapes
from edgeconv.core.stream import Stream
from edgeconv.sources.load import TorchSource


def open_model(
    state: dict[str, Any], key: str, shapes: dict[str, Any], **arguments: Any
) -> dict[str, Any]:
    """Load a model that is no ONNX file, and keep it.

    Args:
        state: Where it is kept.
        key: Under which name.
        shapes: The fields of `InputShapes`.
        arguments: The others of `load_model`.

    Returns:
        `TorchSource.artifact`, as a dictionary.
    """
    with limited_loops(arguments["source"]):
        model = load_model(input_shapes=InputShapes.from_dict(shapes), **arguments)
    assert not isinstance(model, Artifact)
    source = state[key] = TorchSource(model)
    return source.artifact.to_dict()


def outputs(state: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return what the model returns for its example inputs, named by its place."""
    source: TorchSource = state[key]
    return [
        TensorSpec.plain(f"output{place}", array.shape, array.dtype.name).to_dict()
        for place, array in enumerate(source.model.run_examples())
    ]


def decompose(state: dict[str, Any], key: str) -> bool:
    """Tell whether the values inside the model can be known, without exporting it."""
    source: TorchSource = state[key]
    program = torch_to_onnx.decomposed(source.model)
    if program is not None:
        source.exported.append(program)
    return program is not None


def export(state: dict[str, Any], key: str, path: str) -> dict[str, Any]:
    """Export the model as ONNX.

    Returns:
        The ``artifact``, and whether the values inside the model are ``known``.
    """
    source: TorchSource = state[key]
    artifact = torch_to_onnx.export(source.model, Path(path), keep=source.exported.append)
    return {"artifact": artifact.to_dict(), "known": bool(source.exported)}


def compute(
    state: dict[str, Any], key: str, onnx: dict[str, Any], feeds: str, results: str
) -> None:
    """Run the samples of one ``.npz`` file; write the outputs, named as the ONNX file's."""
    source: TorchSource = state[key]
    write_npz(
        Path(results), source.reference_outputs(Artifact.from_dict(onnx), read_npz(Path(feeds)))
    )


def stream(
    state: dict[str, Any],
    key: str,
    onnx: dict[str, Any],
    feeds: str,
    results: str,
    stream: dict[str, Any],
) -> None:
    """Run the samples of one ``.npz`` file as a stream; write the outputs of all steps."""
    source: TorchSource = state[key]
    inputs, how = read_npz(Path(feeds)), Stream.from_dict(stream)
    write_npz(Path(results), source.stream_outputs(Artifact.from_dict(onnx), inputs, how))


def match(state: dict[str, Any], key: str, onnx: str) -> dict[str, Any]:
    """Return what an ONNX file has of the model's values; see `TorchValues.match`."""
    found = _values(state, key).match(Path(onnx))
    return {"shapes": dict(found.shapes), "unmatched": found.unmatched}


def record(state: dict[str, Any], key: str, feeds: str, names: Sequence[str], results: str) -> None:
    """Write values of the samples of one ``.npz`` file; see `TorchValues.record`."""
    _values(state, key).record(read_npz(Path(feeds)), names, Path(results))


def _values(state: dict[str, Any], key: str) -> TorchValues:
    values: TorchValues = state[key].values()
    return values
