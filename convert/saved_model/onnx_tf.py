"""ONNX to SavedModel by onnx-tf, as the rest of the pipeline wants it. Call it in a worker.

onnx-tf knows opsets up to 15, takes names that are Python identifiers, and keeps the axes as ONNX
has them. The model is brought to that opset and gets such names; the SavedModel that comes back is
wrapped under the names of the ONNX file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
import onnx.version_converter
import tensorflow as tf

from edgeconv.convert.saved_model.write import SIGNATURE, write_saved_model
from edgeconv.core.artifacts import Artifact, Format, TensorSpec
from edgeconv.core.errors import ConversionError
from edgeconv.core.scratch import scratch_directory
from edgeconv.core.wording import named
from edgeconv.toolchain.environments import onnx_tf
from edgeconv.toolchain.runtimes import saved_model

_NEWEST_OPSET = 15
_NEWEST_IR = 8  # the ONNX file format that its opset came with


def convert(source: Mapping[str, Any], directory: str) -> dict[str, Any]:
    """Convert an ONNX file to a SavedModel with the signature ``serving_default``.

    Args:
        source: The ONNX artifact, `Artifact.to_dict`.
        directory: Where the SavedModel is written.

    Returns:
        ``artifact``, whose inputs and outputs are stored as ONNX has them (images NCHW), and
        ``tools``, the versions of what converted.

    Raises:
        ToolMissing: onnx-tf is not installed.
        ConversionError: The model cannot be brought to an opset that onnx-tf knows, or onnx-tf
            cannot convert it.
        WorkerCrashed: onnx-tf died.
    """
    artifact = Artifact.from_dict(source)
    with scratch_directory() as scratch:
        adapted, foreign = Path(scratch, "model.onnx"), Path(scratch, "saved_model")
        model = at_known_opset(onnx.load(artifact.path))
        names = rename_ends(model)
        onnx.save(model, adapted)
        tools = onnx_tf.export(adapted, foreign)
        converted = _signed(foreign, names, artifact, Path(directory))
    return {"artifact": converted.to_dict(), "tools": tools}


def at_known_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its functions inlined, in an opset that onnx-tf knows.

    Raises:
        ConversionError: onnx's version converter cannot.
    """
    model = onnx.inliner.inline_local_functions(model)
    opset = next(
        (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1
    )
    if opset > _NEWEST_OPSET:
        try:
            model = onnx.version_converter.convert_version(model, _NEWEST_OPSET)
        except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
            lines = str(error).strip().splitlines() or ["no message"]
            raise ConversionError(
                f"onnx cannot take the model from opset {opset} to {_NEWEST_OPSET}, the newest "
                "that onnx-tf knows",
                why=lines[0],
                hint=f"use {named('converter', 'native')}, or export the model with that opset",
            ) from error
        _drop_newer_attributes(model.graph)
    model.ir_version = min(model.ir_version, _NEWEST_IR)
    return model


def _drop_newer_attributes(graph: onnx.GraphProto) -> None:
    """Remove attributes that the older operators lack, which the version converter leaves.

    Raises:
        ConversionError: One of them says what the older operator cannot do.
    """
    for node in graph.node:
        for inner in _subgraphs(node):
            _drop_newer_attributes(inner)
        if node.domain not in ("", "ai.onnx"):
            continue
        known = onnx.defs.get_schema(node.op_type, _NEWEST_OPSET).attributes
        newer = [item for item in node.attribute if item.name not in known]
        for item in newer:
            if not _says_nothing(node, item):
                raise ConversionError(
                    f"{node.op_type} has no {item.name} in opset {_NEWEST_OPSET}, the newest "
                    "that onnx-tf knows",
                    where=node.name,
                    hint=f"use {named('converter', 'native')}",
                )
            node.attribute.remove(item)


def _says_nothing(node: onnx.NodeProto, item: onnx.AttributeProto) -> bool:
    """Tell whether a node computes the same without the attribute."""
    value = onnx.helper.get_attribute_value(item)
    if item.name == "noop_with_empty_axes" and any(a.name == "axes" for a in node.attribute):
        return True
    default = onnx.defs.get_schema(node.op_type).attributes[item.name].default_value
    if default.type == onnx.AttributeProto.UNDEFINED:
        return False
    return bool(value == onnx.helper.get_attribute_value(default))


def rename_ends(model: onnx.ModelProto) -> dict[str, str]:
    """Give inputs and outputs names that are identifiers; return the old names by the new ones."""
    graph = model.graph
    stored = {item.name for item in graph.initializer}
    inputs = [item.name for item in graph.input if item.name not in stored]
    new = {name: f"edgeconv_input_{place}" for place, name in enumerate(inputs)}
    old = {value: key for key, value in new.items()}
    for place, item in enumerate(graph.output):
        if item.name in new or item.name in stored:
            # An input that is an output too, or a constant, cannot have both names.
            graph.node.append(
                onnx.helper.make_node("Identity", [item.name], [f"edgeconv_output_{place}"])
            )
        else:
            new[item.name] = f"edgeconv_output_{place}"
        old[f"edgeconv_output_{place}"] = item.name
        item.name = f"edgeconv_output_{place}"
    for item in graph.input:
        item.name = new.get(item.name, item.name)
    _rename(graph, new)
    return old


def _rename(graph: onnx.GraphProto, new: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        for inner in _subgraphs(node):
            _rename(inner, new)
            for item in inner.output:
                item.name = new.get(item.name, item.name)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _signed(
    foreign: Path, names: Mapping[str, str], onnx_file: Artifact, directory: Path
) -> Artifact:
    """Save onnx-tf's SavedModel again, under the names of the ONNX file."""
    loaded = saved_model.load(str(foreign))
    signature = loaded.signatures[SIGNATURE]
    taken = signature.structured_input_signature[1]
    inputs = tuple(TensorSpec.plain(spec.name, spec.shape, spec.dtype) for spec in onnx_file.inputs)
    places = {old: new for new, old in names.items() if new.startswith("edgeconv_input_")}
    results = [new for new in names if new.startswith("edgeconv_output_")]
    returned = signature.structured_outputs
    outputs = tuple(
        TensorSpec.plain(names[new], tuple(returned[new].shape.as_list()), returned[new].dtype.name)
        for new in results
    )

    def function(*tensors: Any) -> list[Any]:
        feeds = {places[spec.name]: tensor for spec, tensor in zip(inputs, tensors, strict=True)}
        # What the graph does not read, onnx-tf does not take.
        found = signature(**{name: feeds[name] for name in taken})
        return [found[new] for new in results]

    module = tf.Module()
    module.weights = list(signature.variables)
    write_saved_model(module, function, inputs, [spec.name for spec in outputs], directory)
    return Artifact(Format.SAVED_MODEL, directory, inputs, outputs)
