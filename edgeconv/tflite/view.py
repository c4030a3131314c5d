"""A read-only view of a ``.tflite`` model for the rules: operators with their tensors at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.tflite import file as tflite
from edgeconv.tflite.flatbuffer import Damaged, Table

EIGHT_BIT = ("int8", "uint8")
_BUFFERS, _OFFSET = 4, 1  # fields of the schema's Model and Buffer


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor.

    Attributes:
        index: Its index in the subgraph.
        name: Its name.
        shape: Its shape.
        dtype: numpy name of its dtype.
        value: The stored value of a constant, else ``None``.
        variable: Whether it is the state of a recurrent layer.
        per_channel: Whether it has more than one scale.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    value: Array | None
    variable: bool
    per_channel: bool

    @property
    def constant(self) -> bool:
        """Whether its value is stored in the model."""
        return self.value is not None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Size in bytes; 0 for dtypes that numpy does not have."""
        known = not self.dtype.startswith("type ")
        return self.elements * np.dtype(self.dtype).itemsize if known else 0


@dataclass(frozen=True, slots=True)
class Op:
    """An operator.

    Attributes:
        index: Its index in the subgraph.
        name: Builtin name, or a custom operator's own.
        code: Number of the builtin.
        version: Version that the model asks for.
        inputs: Inputs; ``None`` for one that is left out.
        outputs: Outputs.
        options: The schema's option table, or ``None``.
    """

    index: int
    name: str
    code: int
    version: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Any

    def option(self, name: str, default: Any = 0) -> Any:
        """Return an option, or the default where the model has none."""
        return default if self.options is None else getattr(self.options, name, default)

    def input(self, slot: int) -> Tensor | None:
        """Return an input, ``None`` where it is left out."""
        return self.inputs[slot] if slot < len(self.inputs) else None

    @property
    def activations(self) -> tuple[Tensor, ...]:
        """The computed inputs and the outputs."""
        computed = [t for t in self.inputs if t and not t.constant and not t.variable]
        return (*computed, *self.outputs)

    @property
    def constant_bytes(self) -> int:
        """Bytes of its constants, as the model stores them."""
        return sum(tensor.bytes for tensor in self.inputs if tensor and tensor.constant)


@dataclass(frozen=True, slots=True)
class View:
    """The first subgraph of a model.

    Attributes:
        ops: Its operators in order.
        inputs: Indices of its inputs.
        subgraphs: How many subgraphs the model has.
        outside: How many weights lie behind the flatbuffer.
    """

    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    subgraphs: int
    outside: int

    def needs(self) -> list[set[int]]:
        """Return for each operator those whose outputs it reads."""
        maker = {tensor.index: op.index for op in self.ops for tensor in op.outputs}
        return [{maker[t.index] for t in op.inputs if t and t.index in maker} for op in self.ops]


def load(path: Path) -> View:
    """Read a model.

    Raises:
        InvalidModel: The file is missing, is not TFLite, or is truncated or inconsistent.
    """
    return view(tflite.load(path), _weights_outside(path.read_bytes()))


def view(model: tflite.ModelT, outside: int = 0) -> View:
    """Return the view of a model that is in memory."""
    graph = model.subgraphs[0]
    tensors = [_tensor(model, index, tensor) for index, tensor in enumerate(graph.tensors)]
    ops = tuple(
        Op(
            index,
            tflite.operator_name(model, operator),
            *_code(model.operatorCodes[operator.opcodeIndex]),
            tuple(tensors[slot] if slot >= 0 else None for slot in operator.inputs),
            tuple(tensors[slot] for slot in operator.outputs),
            operator.builtinOptions,
        )
        for index, operator in enumerate(graph.operators)
    )
    return View(ops, tuple(graph.inputs), len(model.subgraphs), outside)


def _code(code: Any) -> tuple[int, int]:
    return max(code.builtinCode, code.deprecatedBuiltinCode), code.version


def _tensor(model: tflite.ModelT, index: int, tensor: tflite.TensorT) -> Tensor:
    shape = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
    quantization = tensor.quantization
    scales = None if quantization is None else quantization.scale
    dtype = tflite.dtype_of(tensor)
    readable = tflite.is_constant(model, tensor) and not dtype.startswith("type ")
    if readable and tensor.sparsity is not None:
        readable = False
    return Tensor(
        index=index,
        name=tflite.tensor_name(tensor),
        shape=shape,
        dtype=dtype,
        value=tflite.constant(model, tensor) if readable else None,
        variable=bool(tensor.isVariable),
        per_channel=scales is not None and len(scales) > 1,
    )


def _weights_outside(raw: bytes) -> int:
    """Count the buffers that lie behind the flatbuffer; offset 1 is the writers' placeholder."""
    try:
        return sum(buffer.uint64(_OFFSET) > 1 for buffer in Table.root(raw).tables(_BUFFERS))
    except Damaged:
        return 0


def macs(op: Op) -> int:
    """Return the multiplications of an operator with weights, or of a matrix product; else 0."""
    weight, result = op.input(1), op.outputs[0] if op.outputs else None
    if weight is None or result is None or not weight.shape:
        return 0
    if op.name in ("CONV_2D", "FULLY_CONNECTED"):
        return result.elements * (weight.elements // max(weight.shape[0], 1))
    if op.name == "DEPTHWISE_CONV_2D":
        return result.elements * int(np.prod(weight.shape[1:-1], dtype=np.int64))
    if op.name == "TRANSPOSE_CONV":
        data = op.input(2)
        return 0 if data is None else data.elements * (weight.elements // max(weight.shape[-1], 1))
    if op.name == "BATCH_MATMUL":
        data = op.input(0)
        return 0 if data is None or not data.shape else result.elements * data.shape[-1]
    return 0
