"""Read, check, pin and write ONNX files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.convert.onnx.infer_shapes import first_line, infer_shapes
from edgeconv.convert.onnx.limits import (
    require_bounded,
    require_convertible,
    require_known_opset,
    require_room,
    require_small_inputs,
    sound,
)
from edgeconv.convert.onnx.tensors import (
    is_external,
    require_external_data,
    tensor_size,
    tensors_of,
)
from edgeconv.convert.onnx.weight_limit import require_onnx_fits
from edgeconv.core.artifacts import Artifact, Format, TensorSpec
from edgeconv.core.errors import EdgeconvError, InvalidModel
from edgeconv.core.input_shapes import (
    InputShapes,
    Shape,
    ShapesLike,
    as_input_shapes,
    batch_is_open,
    of_one,
    require_fit,
    shape_dynamic,
)
from edgeconv.core.sniff import truncated
from edgeconv.toolchain.worker.limits import reading

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, ValueInfoProto

# Protobuf messages end at 2 GiB; some room is left for what shape inference adds.
MAX_INLINE = 1_900_000_000
# Small constants stay inside in any case; shape inference reads them.
_INLINE_TENSOR = 1024
_BATCH = "batch"


def open_onnx(path: Path, input_shapes: ShapesLike = None, *, open_batch: bool = True) -> Artifact:
    """Check an ONNX file and return it with its inputs fixed, but for an open batch.

    The file is not changed. Where shapes are given for open dimensions, the inputs of the
    artifact say so; `adopt` writes the file that has them.

    Args:
        path: The file; its external data must lie in or below its directory.
        input_shapes: Shapes for the inputs that leave dimensions open.
        open_batch: Whether a batch that all inputs leave open stays open; else it becomes 1.

    Raises:
        InvalidModel: It is damaged, unsafe, or the checker refuses it.
        UsageError: A shape is missing or does not fit.
        ConversionError: Its weights are more than a .tflite file holds.
    """
    model = read(path, before=require_convertible)
    with sound(path):
        require_onnx_fits(tensors_of(model.graph), str(path))
        inputs = _fixed_inputs(model.graph, as_input_shapes(input_shapes), str(path))
        if not open_batch:
            inputs = of_one(inputs)
        outputs = tuple(_spec(value, str(path)) for value in model.graph.output)
    return Artifact(Format.ONNX, path, inputs, outputs)


def read(path: Path, before: Callable[[ModelProto, str], None] | None = None) -> ModelProto:
    """Read and check an ONNX file, its external data left where it is.

    Args:
        path: The file.
        before: A check of the caller's that comes before those that take long.

    Raises:
        InvalidModel: It is damaged, unsafe, or the checker refuses it.
    """
    with sound(path):
        model = _parse(path)
        if before is not None:
            before(model, str(path))
        require_known_opset(model, str(path))
        require_bounded(model, str(path))
        require_external_data(model, path)
        _check(path)
    return model


def open_dimensions(path: Path) -> dict[str, list[int | str | None]]:
    """Return the declared shapes of the inputs that leave dimensions open, by name.

    A string or None stands for an open dimension.

    Raises:
        InvalidModel: The file is damaged.
    """
    shapes = {value.name: _declared_shape(value) or [] for value in _inputs(_parse(path).graph)}
    return {
        name: shape
        for name, shape in shapes.items()
        if not all(isinstance(size, int) for size in shape)
    }


def describe_onnx(path: Path) -> Artifact:
    """Return an ONNX file of our own as an artifact.

    Raises:
        InvalidModel: It is damaged.
    """
    model = _parse(path)
    inputs = tuple(_spec(value, str(path)) for value in _inputs(model.graph))
    outputs = tuple(_spec(value, str(path)) for value in model.graph.output)
    return Artifact(Format.ONNX, path, inputs, outputs)


def adopt(source: Artifact, path: Path) -> Artifact:
    """Write an ONNX artifact to another place: inputs pinned, shapes inferred, weights inside.

    Args:
        source: What `open_onnx` returned.
        path: The file to write, under a temporary name first.

    Returns:
        The artifact of the new file, its outputs with the inferred shapes.

    Raises:
        InvalidModel: Shape inference finds a contradiction.
    """
    import onnx

    with sound(source.path):
        model = onnx.load(source.path, load_external_data=False)
        pin_inputs(model.graph, {spec.name: spec.source_shape for spec in source.inputs})
        size = source.path.stat().st_size + sum(
            tensor_size(tensor) for tensor in tensors_of(model.graph) if is_external(tensor)
        )
        if size <= MAX_INLINE:
            onnx.load_external_data_for_model(model, str(source.path.parent))
        return write_onnx(
            model,
            path,
            base=source.path.parent,
            inline=size <= MAX_INLINE,
            where=str(source.path),
        )


def write_onnx(
    model: ModelProto, path: Path, *, base: Path, inline: bool, where: str = ""
) -> Artifact:
    """Infer shapes, check, and write a model under a temporary name, then rename it.

    Args:
        model: The model; its weights loaded if ``inline``.
        path: The file to write.
        base: Directory of the external data of a model that is not ``inline``.
        inline: Whether the weights go into the file; else they go to ``<path>.data`` beside it.
        where: What errors name; the file to write by default.
    """
    import onnx

    if inline:
        temporary = _temporary(path)
        try:
            weights = sum(map(tensor_size, tensors_of(model.graph)))
            infer_shapes(model, where or str(path))
            require_room(model, weights, where or str(path))
            temporary.write_bytes(model.SerializeToString())
            del model  # the checker needs as much memory again
            _check(temporary, shown=path)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return describe_onnx(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        onnx.load_external_data_for_model(model, str(base))
        draft = Path(folder) / path.name
        data = path.name + ".data"
        onnx.save_model(
            model, draft, save_as_external_data=True, location=data, size_threshold=_INLINE_TENSOR
        )
        onnx.shape_inference.infer_shapes_path(str(draft), strict_mode=False, data_prop=True)
        _check(draft, shown=path)
        if (Path(folder) / data).exists():  # tensors below a kilobyte stay inside
            (Path(folder) / data).replace(path.with_name(data))
        draft.replace(path)
    return describe_onnx(path)


def pin_inputs(graph: GraphProto, shapes: Mapping[str, Sequence[int | None]]) -> None:
    """Give the inputs of a graph their shapes and forget what was said of the values after them."""
    for value in _inputs(graph):
        shape = value.type.tensor_type.shape
        given = shapes[value.name]
        if [dim.dim_value or None for dim in shape.dim] == list(given):
            continue
        del shape.dim[:]
        for size in given:
            shape.dim.add(**({"dim_param": _BATCH} if size is None else {"dim_value": size}))
        del graph.value_info[:]
        for output in graph.output:
            _forget_open_dimensions(output)


def _forget_open_dimensions(value: ValueInfoProto) -> None:
    for dim in value.type.tensor_type.shape.dim:
        if dim.HasField("dim_param"):
            dim.ClearField("dim_param")


def _temporary(path: Path) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    # mkstemp makes the file private; the finished one gets the usual mode.
    mask = os.umask(0)
    os.umask(mask)
    Path(name).chmod(0o666 & ~mask)
    return Path(name)


def _parse(path: Path) -> ModelProto:
    import onnx

    try:
        with reading(path.stat().st_size, str(path)):
            return onnx.load(path, load_external_data=False)
    except EdgeconvError:
        raise
    except Exception as error:
        # protobuf's DecodeError, whose class depends on the implementation that is installed.
        raise truncated(path, "ONNX file") from error


def _check(path: Path, shown: Path | None = None) -> None:
    import onnx

    try:
        # By path, so that the checker sees external data of any size where it is.
        with reading(path.stat().st_size, str(shown or path)):
            onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise InvalidModel(
            "this is not a valid ONNX model",
            where=str(shown or path),
            why=first_line(error),
            hint="export it again; onnx.checker.check_model says the same",
            details=str(error),
        ) from error


def _inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """Return the inputs without initializers, which IR versions below 4 list as inputs too."""
    constant = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constant]


def _spec(value: ValueInfoProto, where: str) -> TensorSpec:
    shape = _declared_shape(value)
    sizes = tuple(size if isinstance(size, int) else None for size in shape or ())
    return TensorSpec.plain(value.name, sizes, _dtype(value, where))


def _dtype(value: ValueInfoProto, where: str) -> str:
    import onnx

    kind = value.type.WhichOneof("value")
    element = value.type.tensor_type.elem_type
    if kind != "tensor_type" or element in (0, onnx.TensorProto.STRING):
        shown = "string" if kind == "tensor_type" else str(kind).removesuffix("_type")
        raise InvalidModel(
            f"{value.name!r} is a {shown}, which edge runtimes do not have",
            where=where,
            hint="export a model whose inputs and outputs are tensors of numbers",
        )
    return onnx.helper.tensor_dtype_to_np_dtype(element).name


def _declared_shape(value: ValueInfoProto) -> list[int | str | None] | None:
    """Return the sizes, names of open dimensions, or None for an unknown rank."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param or None
        for dim in value.type.tensor_type.shape.dim
    ]


def _fixed_inputs(graph: GraphProto, given: InputShapes, where: str) -> tuple[TensorSpec, ...]:
    values = _inputs(graph)
    if not values or not graph.output:
        raise InvalidModel("the model has no inputs or no outputs", where=where)
    shapes = given.by_name([value.name for value in values])
    if not shapes and batch_is_open([_declared_shape(value) or [] for value in values]):
        return tuple(_spec(value, where) for value in values)
    specs = tuple(_fixed_input(value, shapes.get(value.name), where) for value in values)
    require_small_inputs({spec.name: spec.nbytes for spec in specs}, where)
    return specs


def _fixed_input(value: ValueInfoProto, given: Shape | None, where: str) -> TensorSpec:
    dtype = _dtype(value, where)
    declared = _declared_shape(value) or []
    if given is not None:
        require_fit(where, value.name, declared, given)
        return TensorSpec.plain(value.name, given, dtype)
    sizes = tuple(size for size in declared if isinstance(size, int))
    if len(sizes) != len(declared):
        raise shape_dynamic(where, value.name, declared)
    return TensorSpec.plain(value.name, sizes, dtype)
