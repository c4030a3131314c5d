"""Read, inspect, modify and write ``.tflite`` flatbuffers through the schema's object API.

A model is a ``ModelT`` of ``ai_edge_litert.schema_py_generated``; this module adds what the
generated code lacks: validation of untrusted files, weights kept as numpy arrays so that reading
and writing never loops over bytes, weights that lie behind the flatbuffer brought back into it,
and the 16 byte alignment of weights that the schema asks for (``force_align: 16``).
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert.schema_py_generated import (
    BufferT,
    BuiltinOperator,
    ModelT,
    OperatorCodeT,
    OperatorT,
    QuantizationParametersT,
    SubGraphT,
    TensorT,
    TensorType,
)

from edgeconv.core.artifacts import Array
from edgeconv.core.errors import ConversionError, InvalidModel
from edgeconv.core.mapped import Content, mapped
from edgeconv.tflite.guard import complete_quantization, require_bounded

__all__ = [
    "BUILTIN_CODES",
    "BUILTIN_NAMES",
    "BufferT",
    "Builder",
    "ModelT",
    "OperatorT",
    "QuantizationParametersT",
    "SubGraphT",
    "TensorT",
    "TensorType",
    "add_buffer",
    "add_tensor",
    "builtin_name",
    "constant",
    "dtype_of",
    "is_constant",
    "load",
    "opcode_index",
    "operator_name",
    "parse",
    "save",
    "serialize",
    "tensor_name",
    "tensor_type",
]

IDENTIFIER = b"TFL3"
_ALIGNMENT = 16
_LIMIT = (1 << 31) - 1
"""A flatbuffer's offsets are signed 32 bit."""

BUILTIN_CODES: dict[str, int] = {
    name: value for name, value in vars(BuiltinOperator).items() if isinstance(value, int)
}
"""Code of every builtin operator by name."""

BUILTIN_NAMES: dict[int, str] = {code: name for name, code in BUILTIN_CODES.items()}
"""Name of every builtin operator by code."""

_DTYPES: dict[int, str] = {
    TensorType.FLOAT16: "float16",
    TensorType.FLOAT32: "float32",
    TensorType.FLOAT64: "float64",
    TensorType.INT8: "int8",
    TensorType.INT16: "int16",
    TensorType.INT32: "int32",
    TensorType.INT64: "int64",
    TensorType.UINT8: "uint8",
    TensorType.UINT16: "uint16",
    TensorType.UINT32: "uint32",
    TensorType.UINT64: "uint64",
    TensorType.BOOL: "bool",
    TensorType.COMPLEX64: "complex64",
    TensorType.COMPLEX128: "complex128",
}
_TYPES = {name: code for code, name in _DTYPES.items()}
_PARSE_ERRORS = (
    struct.error,
    ValueError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
)


class Builder(flatbuffers.Builder):  # type: ignore[misc]  # flatbuffers ships no types
    """A builder that aligns byte vectors, which hold weights, to 16 bytes."""

    def CreateNumpyVector(self, x: Array) -> Any:  # noqa: N802 - flatbuffers' name
        """Write a vector; see the base class."""
        if x.dtype != np.uint8:
            return super().CreateNumpyVector(x)
        self.StartVector(1, x.size, _ALIGNMENT)
        end = self.Head()
        self.Bytes[end - x.size : end] = np.ascontiguousarray(x).data
        self.head = end - x.size
        self.vectorNumElems = x.size
        return self.EndVector()


def load(path: Path, *, in_place: bool = False) -> ModelT:
    """Read a ``.tflite`` file, with all weights inside its buffers.

    Weights are read-only views into the file's bytes, which stay in memory; or, ``in_place``, are
    mapped from the file, which nobody must shorten then.

    Args:
        path: The file.
        in_place: See above.

    Raises:
        InvalidModel: The file is missing, is not TFLite, or is truncated or inconsistent.
    """
    try:
        raw = mapped(path) if in_place else path.read_bytes()
    except OSError as error:
        raise InvalidModel(
            "the model file cannot be read", where=str(path), why=error.strerror or str(error)
        ) from error
    return parse(raw, str(path))


def parse(raw: Content, where: str = "model") -> ModelT:
    """Parse the content of a ``.tflite`` file; see `load`."""
    if len(raw) < 8 or raw[4:8] != IDENTIFIER:
        raise InvalidModel(
            "not a TFLite model",
            where=where,
            why="the identifier TFL3 is missing at byte 4",
            hint="give a .tflite file",
        )
    try:
        require_bounded(raw, where)
        model = ModelT.InitFromPackedBuf(raw)
        _inline_weights(model, raw)
        _check(model)
    except _PARSE_ERRORS as error:
        raise InvalidModel(
            "the TFLite file is truncated or corrupt",
            where=where,
            why=f"{type(error).__name__}: {error}",
            hint="copy or convert the file again",
        ) from error
    return model


def save(model: ModelT, path: Path) -> None:
    """Write a model under a temporary name, then rename it.

    Args:
        model: The model; buffer data must be one-dimensional uint8 arrays.
        path: The file to write.

    Raises:
        ConversionError: The model does not fit into 2 GiB.
        OSError: The file cannot be written.
    """
    raw = serialize(model)
    with _replacing(path) as temporary:
        temporary.write_bytes(raw)


def serialize(model: ModelT) -> memoryview:
    """Return the file content of a model.

    Raises:
        ConversionError: The model does not fit into 2 GiB.
    """
    size = sum(len(buffer.data) + 64 for buffer in model.buffers if buffer.data is not None)
    if size > _LIMIT:
        raise ConversionError(
            "the model does not fit into one .tflite file",
            why=f"{size / 2**30:.1f} GiB of weights; a flatbuffer holds less than 2 GiB",
            hint="quantize the weights",
        )
    builder = Builder(size + (1 << 16))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return memoryview(builder.Bytes)[builder.Head() :]


def operator_name(model: ModelT, operator: OperatorT) -> str:
    """Return the builtin name of an operator, ``"CONV_2D"``, or a custom op's own name."""
    return builtin_name(model.operatorCodes[operator.opcodeIndex])


def builtin_name(code: OperatorCodeT) -> str:
    """Return the builtin name of an operator code, or a custom op's own name."""
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == BuiltinOperator.CUSTOM and code.customCode:
        return _text(code.customCode)
    return BUILTIN_NAMES.get(number, f"BUILTIN_{number}")


def opcode_index(model: ModelT, builtin: str, version: int) -> int:
    """Return the index of the operator code of a builtin and version; add it if needed."""
    number = BUILTIN_CODES[builtin]
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == number and code.version == version:
            return index
    code = OperatorCodeT()
    code.builtinCode = number
    # Older readers know the deprecated 8 bit field only; 127 sends newer codes elsewhere.
    code.deprecatedBuiltinCode = min(number, BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def tensor_name(tensor: TensorT) -> str:
    """Return a tensor's name as text."""
    return _text(tensor.name)


def dtype_of(tensor: TensorT) -> str:
    """Return a tensor's numpy dtype name; ``"type 6"`` for what numpy cannot hold."""
    return _DTYPES.get(tensor.type, f"type {tensor.type}")


def tensor_type(dtype: str) -> int:
    """Return the schema's code of a numpy dtype name."""
    return _TYPES[dtype]


def is_constant(model: ModelT, tensor: TensorT) -> bool:
    """Tell whether a tensor's value is stored in the model."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0 and not tensor.isVariable


def constant(model: ModelT, tensor: TensorT) -> Array:
    """Return a constant tensor's value, in its own dtype and shape, without a copy.

    Raises:
        InvalidModel: The tensor has no stored value, or its size does not fit its shape.
    """
    if not is_constant(model, tensor):
        raise InvalidModel("the tensor has no stored value", where=tensor_name(tensor))
    data: Array = model.buffers[tensor.buffer].data
    try:
        return data.view(dtype_of(tensor)).reshape(_shape(tensor))
    except (ValueError, TypeError) as error:
        raise InvalidModel(
            "a constant's size does not fit its shape",
            where=tensor_name(tensor),
            why=f"{data.size} bytes for {_shape(tensor)} {dtype_of(tensor)}",
        ) from error


def add_buffer(model: ModelT, array: Array | None) -> int:
    """Append a buffer with an array's bytes (empty for ``None``) and return its index."""
    buffer = BufferT()
    if array is not None:
        buffer.data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def add_tensor(
    model: ModelT,
    graph: SubGraphT,
    name: str,
    shape: Sequence[int],
    dtype: str,
    *,
    value: Array | None = None,
    quantization: QuantizationParametersT | None = None,
) -> int:
    """Append a tensor to a subgraph and return its index.

    Args:
        model: The model that owns the subgraph.
        graph: The subgraph.
        name: Name of the tensor.
        shape: Its shape.
        dtype: Its numpy dtype name.
        value: Value of a constant tensor, in that dtype.
        quantization: Scale and zero point.
    """
    tensor = TensorT()
    tensor.name = name
    tensor.shape = np.asarray(shape, np.int32)
    tensor.type = tensor_type(dtype)
    tensor.buffer = 0 if value is None else add_buffer(model, value)
    tensor.quantization = quantization
    tensor.hasRank = True
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _shape(tensor: TensorT) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _inline_weights(model: ModelT, raw: Content) -> None:
    """Bring weights that lie behind the flatbuffer (``Buffer.offset``, ``size``) into it."""
    content = np.frombuffer(raw, np.uint8)
    for buffer in model.buffers or ():
        # The schema reserves offset 1 as a placeholder of writers that have not finished.
        if buffer.offset > 1:
            if buffer.offset + buffer.size > content.size:
                raise ValueError(f"a weight at byte {buffer.offset} lies behind the file's end")
            buffer.data = content[buffer.offset : buffer.offset + buffer.size]
        buffer.offset = buffer.size = 0
    for graph in model.subgraphs or ():
        for operator in graph.operators or ():
            if operator.largeCustomOptionsOffset > 1:
                start = operator.largeCustomOptionsOffset
                operator.customOptions = content[start : start + operator.largeCustomOptionsSize]
            operator.largeCustomOptionsOffset = operator.largeCustomOptionsSize = 0


def _check(model: ModelT) -> None:
    """Check every index, so that code behind this module need not."""
    if not model.subgraphs or not model.buffers or model.operatorCodes is None:
        raise ValueError("no subgraph, or no buffers")
    for graph in model.subgraphs:
        graph.tensors = graph.tensors or []
        graph.operators = graph.operators or []
        for tensor in graph.tensors:
            _check_tensor(model, tensor)
        for operator in graph.operators:
            _at(operator.opcodeIndex, len(model.operatorCodes), "operator code")
            operator.inputs = _indices(operator.inputs, len(graph.tensors), optional=True)
            operator.outputs = _indices(operator.outputs, len(graph.tensors), optional=True)
        graph.inputs = _indices(graph.inputs, len(graph.tensors))
        graph.outputs = _indices(graph.outputs, len(graph.tensors))


def _check_tensor(model: ModelT, tensor: TensorT) -> None:
    _at(tensor.buffer, len(model.buffers), "buffer")
    if getattr(tensor, "externalBuffer", 0):
        raise ValueError(f"the weights of {_text(tensor.name)} are in another file")
    shape = _shape(tensor)
    if any(size < 0 for size in shape):
        raise ValueError(f"negative shape {shape} of {_text(tensor.name)}")
    complete_quantization(tensor.quantization, _text(tensor.name))
    if is_constant(model, tensor) and tensor.type in _DTYPES and tensor.sparsity is None:
        wanted = int(np.prod(shape, dtype=np.int64)) * np.dtype(_DTYPES[tensor.type]).itemsize
        size = len(model.buffers[tensor.buffer].data)
        if size != wanted:
            raise ValueError(f"{size} bytes of data for {_text(tensor.name)}, not {wanted}")


def _indices(values: Sequence[int] | None, limit: int, *, optional: bool = False) -> list[int]:
    indices = [int(value) for value in (() if values is None else values)]
    for index in indices:
        if not (optional and index == -1):
            _at(index, limit, "tensor")
    return indices


def _at(index: int, limit: int, what: str) -> None:
    if not 0 <= index < limit:
        raise IndexError(f"{what} {index} of {limit}")
