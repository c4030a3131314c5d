"""Shape inference of ONNX models that hold their weights, in little memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeconv.core.errors import InvalidModel
from edgeconv.toolchain.worker.limits import reading

if TYPE_CHECKING:
    from onnx import ModelProto

# Bytes; inference reads smaller constants, the shapes that operators take as inputs.
_SMALL = 2048


def infer_shapes(model: ModelProto, where: str) -> None:
    """Write all shapes that can be known into a model.

    Strict inference refuses operators of domains that it does not know; then what the others
    give has to do.

    Args:
        model: The model, its small constants loaded; it is changed.
        where: What errors name.

    Raises:
        InvalidModel: The shapes contradict each other.
    """
    from onnx import shape_inference

    light = _without_weights(model)
    try:
        # Ranges of constants are propagated number by number.
        with reading(light.ByteSize(), where):
            found = shape_inference.infer_shapes(
                light, check_type=True, strict_mode=True, data_prop=True
            )
    except shape_inference.InferenceError as strict:
        if all(node.domain in ("", "ai.onnx") for node in model.graph.node):
            raise InvalidModel(
                "the shapes in the model contradict each other",
                where=where,
                why=first_line(strict),
                details=str(strict),
            ) from strict
        with reading(light.ByteSize(), where):
            found = shape_inference.infer_shapes(light, data_prop=True)
    for field in ("node", "output", "value_info"):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(getattr(found.graph, field))


def _without_weights(model: ModelProto) -> ModelProto:
    """Return a copy without the data of large initializers; inference copies models four times."""
    from onnx import ModelProto, TensorProto

    light = ModelProto()
    _copy_fields(model, light, but="graph")
    _copy_fields(model.graph, light.graph, but="initializer")
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= _SMALL:
            light.graph.initializer.append(tensor)
            continue
        empty = light.graph.initializer.add(
            name=tensor.name, data_type=tensor.data_type, dims=tensor.dims
        )
        empty.data_location = TensorProto.EXTERNAL
    return light


def _copy_fields(source: Any, target: Any, *, but: str) -> None:
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if field.is_repeated:
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
