"""SavedModel to float TFLite. Imports TensorFlow: call `convert` in a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import ConverterError, OpsSet, convert_saved_model

from edgeconv.convert.saved_model.distinct_outputs import copy_shared_outputs
from edgeconv.convert.saved_model.single_batch import record_shapes
from edgeconv.convert.saved_model.write import SIGNATURE
from edgeconv.core.artifacts import Artifact, Format, TensorSpec
from edgeconv.core.errors import ConversionError, UnsupportedModel, UnsupportedNode
from edgeconv.tflite import file as tflite

STAGE = "saved_model to tflite"


def convert(saved_model: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Convert a SavedModel to a float TFLite file of builtin ops.

    Inputs and outputs keep their order and names; the signature stays.

    Args:
        saved_model: The SavedModel artifact, `Artifact.to_dict`.
        path: The file to write.

    Returns:
        The TFLite artifact, `Artifact.to_dict`.

    Raises:
        UnsupportedModel: Ops that TFLite has no builtin for, all of them.
        ConversionError: TensorFlow's converter fails otherwise.
    """
    source = Artifact.from_dict(saved_model)
    model = tflite.parse(_converted(source.path), where=path)
    _name_and_order(model, source)
    if any(None in spec.shape for spec in source.inputs):
        record_shapes(model)
    tflite.save(model, Path(path))
    return Artifact(Format.TFLITE, Path(path), source.inputs, source.outputs).to_dict()


def _converted(directory: Path) -> bytes:
    """Run the converter's native part on the SavedModel.

    `tf.lite.TFLiteConverter` calls the same function, but loads and saves the whole graph in
    Python twice before, which for large weights takes longer than the conversion.
    """
    try:
        content: bytes = convert_saved_model(
            saved_model_dir=str(directory),
            saved_model_version=1,
            saved_model_tags={tf.saved_model.SERVING},
            saved_model_exported_names=[SIGNATURE],
            target_ops=[OpsSet.TFLITE_BUILTINS],
            enable_composite_direct_lowering=True,
        )
    except ConverterError as error:
        raise _explain(error) from error
    return content


def _explain(error: ConverterError) -> ConversionError:
    """Turn the converter's report into one of ours: which ops, and where they came from."""
    nodes = {
        (data.operator.name, _locations(data.location))
        for data in error.errors
        if data.operator.name
    }
    if not nodes:
        text = str(error).strip().splitlines()
        return ConversionError(
            "TensorFlow's converter failed",
            where=STAGE,
            why=text[0] if text else "no reason given",
            hint="run with --verbose for its whole report",
            details=str(error),
        )
    return UnsupportedModel(
        STAGE,
        [
            UnsupportedNode(
                op=name.removeprefix("tf."),
                node=place or "unknown place",
                reason="TFLite has no builtin operator for it",
            )
            for name, place in sorted(nodes)
        ],
        hint="replace the operation in the model; Flex operators are never used",
    )


def _locations(location: Any) -> str:
    return ", ".join(call.name.removesuffix(":") for call in location.call if call.name)


def _name_and_order(model: Any, source: Artifact) -> None:
    """Give the file's inputs and outputs the source's order, names and checked dtypes."""
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    graph.inputs = _ordered(graph, signature.inputs, source.inputs)
    graph.outputs = _ordered(graph, signature.outputs, source.outputs)
    copy_shared_outputs(model, graph)
    entries = {_text(entry.name): entry for entry in signature.outputs}
    for spec, index in zip(source.outputs, graph.outputs, strict=True):
        entries[spec.name].tensorIndex = int(index)
    taken = {tflite.tensor_name(tensor) for tensor in graph.tensors}
    for spec, index in zip(
        (*source.inputs, *source.outputs), (*graph.inputs, *graph.outputs), strict=True
    ):
        if tflite.tensor_name(graph.tensors[index]) != spec.name:
            for tensor in graph.tensors:
                if tflite.tensor_name(tensor) == spec.name:
                    tensor.name = _unused(spec.name, taken).encode()
            graph.tensors[index].name = spec.name.encode()
            taken.add(spec.name)


def _ordered(graph: Any, signature: Any, specs: tuple[TensorSpec, ...]) -> Any:
    indices = {_text(entry.name): entry.tensorIndex for entry in signature}
    for spec in specs:
        if spec.name not in indices:
            raise ConversionError(
                "the converter dropped an input or output", where=STAGE, why=spec.name
            )
        found = tflite.dtype_of(graph.tensors[indices[spec.name]])
        if found != spec.dtype:
            raise ConversionError(
                "the converter changed a dtype",
                where=STAGE,
                why=f"{spec.name} is {found} instead of {spec.dtype}",
            )
    return np.array([indices[spec.name] for spec in specs], np.int32)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _unused(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    taken.add(f"{name}_{number}")
    return f"{name}_{number}"
