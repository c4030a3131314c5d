"""A TFLite subgraph under rewriting: who makes and reads each tensor, and cheap additions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.core.errors import InvalidModel
from edgeconv.core.states import State
from edgeconv.tflite import file as tflite
from edgeconv.tflite.file import (
    BufferT,
    ModelT,
    OperatorT,
    QuantizationParametersT,
    SubGraphT,
    TensorT,
)
from edgeconv.tflite.templates import Templates

_Made = WeakKeyDictionary[BufferT, dict[Hashable, Array]]


class Graph:
    """One subgraph of a model, the first by default, with lookups that follow its changes.

    Attributes:
        model: The model; changed in place.
        subgraph: The subgraph concerned.
        states: Inputs that outputs are fed to in the next step of a stream; parts of outputs lie
            along their axes as stored.
    """

    def __init__(self, model: ModelT, position: int = 0) -> None:
        self.model = model
        self.states: tuple[State, ...] = ()
        self.subgraph = model.subgraphs[position]
        self._position = position
        self._values: dict[int, Array] = {}
        # What weights become hardly differs between copies that differ in ranges alone.
        self._made: _Made = WeakKeyDictionary()
        self._templates = Templates()

    def copy(self) -> Graph:
        """Return a copy that can be changed; what is only ever replaced as a whole is shared."""
        model = copy.copy(self.model)
        model.subgraphs = [_copied(graph) for graph in model.subgraphs]
        model.operatorCodes = [copy.copy(code) for code in model.operatorCodes]
        model.buffers = list(model.buffers)
        for name in ("metadata", "signatureDefs"):
            setattr(model, name, copy.deepcopy(getattr(model, name)))
        graph = Graph(model, self._position)
        graph._values = dict(self._values)
        graph._made = self._made
        graph._templates = self._templates
        graph.states = self.states
        return graph

    def serialized(self, buffers: Sequence[BufferT] | None = None) -> memoryview:
        """Return a file's content that runs as the model does; to keep it, use `tflite.save`.

        Args:
            buffers: In place of the model's own.
        """
        model = self.model
        if buffers is not None:
            model = copy.copy(model)
            model.buffers = list(buffers)
        return self._templates.serialize(model)

    @property
    def tensors(self) -> list[TensorT]:
        """Every tensor, by index."""
        tensors: list[TensorT] = self.subgraph.tensors
        return tensors

    @property
    def operators(self) -> list[OperatorT]:
        """Every operator in execution order."""
        operators: list[OperatorT] = self.subgraph.operators
        return operators

    @property
    def inputs(self) -> list[int]:
        """Tensor indices of the graph's inputs."""
        inputs: list[int] = self.subgraph.inputs
        return inputs

    @property
    def outputs(self) -> list[int]:
        """Tensor indices of the graph's outputs."""
        outputs: list[int] = self.subgraph.outputs
        return outputs

    def op(self, operator: OperatorT) -> str:
        """Return an operator's builtin name."""
        return tflite.operator_name(self.model, operator)

    def version(self, operator: OperatorT) -> int:
        """Return an operator's version."""
        version: int = self.model.operatorCodes[operator.opcodeIndex].version
        return version

    def name(self, index: int) -> str:
        """Return a tensor's name."""
        return tflite.tensor_name(self.tensors[index])

    def label(self, operator: OperatorT) -> str:
        """Return what to call an operator in messages: its first output."""
        return self.name(operator.outputs[0]) if operator.outputs else "(no output)"

    def shape(self, index: int) -> tuple[int, ...]:
        """Return a tensor's shape."""
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def dtype(self, index: int) -> str:
        """Return a tensor's numpy dtype name."""
        return tflite.dtype_of(self.tensors[index])

    def is_constant(self, index: int) -> bool:
        """Tell whether a tensor's value is stored in the model."""
        return index >= 0 and tflite.is_constant(self.model, self.tensors[index])

    def is_float(self, index: int) -> bool:
        """Tell whether a tensor is float32; ``-1``, an absent input, is not."""
        return index >= 0 and self.dtype(index) == "float32"

    def is_activation(self, index: int) -> bool:
        """Tell whether a tensor is a float32 activation."""
        return self.is_float(index) and not self.is_constant(index)

    def activations(self) -> list[int]:
        """Return the float32 tensors that are fed or computed."""
        made = [index for operator in self.operators for index in operator.outputs]
        return sorted(filter(self.is_activation, {*self.inputs, *made}))

    def value(self, index: int) -> Array:
        """Return a constant's value, as a view that must not be changed.

        Raises:
            InvalidModel: A float constant holds NaN or infinity.
        """
        if index not in self._values:
            array = tflite.constant(self.model, self.tensors[index])
            if array.dtype == np.float32 and not np.isfinite(array).all():
                raise InvalidModel("a weight is NaN or infinite", where=self.name(index))
            self._values[index] = array
        return self._values[index]

    def remembered(self, index: int, key: Hashable, make: Callable[[Array], Array]) -> Array:
        """Return what ``make`` makes of a constant; copies of the graph share the result.

        Args:
            index: The constant's tensor.
            key: What tells this result from others of the same constant.
            make: Takes the constant's value.
        """
        known = self._made.setdefault(self._buffer(index), {})
        whole = (self.shape(index), key)
        if whole not in known:
            known[whole] = make(self.value(index))
        return known[whole]

    def bytes_beyond(self, other: Graph) -> int:
        """Return the bytes of constants that another graph, of which this is a copy, has not."""
        known = {id(buffer) for buffer in other.model.buffers}
        return sum(
            len(buffer.data)
            for buffer in self.model.buffers
            if id(buffer) not in known and buffer.data is not None
        )

    def _buffer(self, index: int) -> BufferT:
        buffer: BufferT = self.model.buffers[self.tensors[index].buffer]
        return buffer

    def real(self, index: int, stored: Array) -> Array:
        """Return the real numbers that values of a tensor with one scale stand for."""
        parameters = self.tensors[index].quantization
        if parameters is None or parameters.scale is None or len(parameters.scale) == 0:
            return stored
        scale, zero_point = float(parameters.scale[0]), int(parameters.zeroPoint[0])
        reals: Array = (stored.astype(np.float64) - zero_point) * scale
        return reals

    def producers(self) -> dict[int, OperatorT]:
        """Return the operator that makes each computed tensor."""
        return {out: operator for operator in self.operators for out in operator.outputs}

    def consumers(self) -> dict[int, list[OperatorT]]:
        """Return the operators that read each tensor; twice where an operator reads it twice."""
        readers: dict[int, list[OperatorT]] = {}
        for operator in self.operators:
            for index in operator.inputs:
                if index >= 0:
                    readers.setdefault(index, []).append(operator)
        return readers

    def add_constant(
        self, name: str, value: Array, quantization: QuantizationParametersT | None = None
    ) -> int:
        """Add a constant tensor and return its index."""
        return tflite.add_tensor(
            self.model,
            self.subgraph,
            name,
            value.shape,
            value.dtype.name,
            value=value,
            quantization=quantization,
        )

    def add_activation(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quantization: QuantizationParametersT | None = None,
    ) -> int:
        """Add a computed tensor and return its index."""
        return tflite.add_tensor(
            self.model, self.subgraph, name, shape, dtype, quantization=quantization
        )

    def operator(
        self,
        builtin: str,
        version: int,
        inputs: Iterable[int],
        outputs: Iterable[int],
        options: tuple[int, Any] | None = None,
    ) -> OperatorT:
        """Return a new operator, not yet part of the graph.

        Args:
            builtin: Builtin name.
            version: Operator version.
            inputs: Tensor indices.
            outputs: Tensor indices.
            options: Code of the builtin options' type, and the options.
        """
        operator = OperatorT()
        operator.opcodeIndex = tflite.opcode_index(self.model, builtin, version)
        operator.inputs = list(inputs)
        operator.outputs = list(outputs)
        if options is not None:
            operator.builtinOptionsType, operator.builtinOptions = options
        return operator

    def set_version(self, operator: OperatorT, version: int) -> None:
        """Set the version of an operator, which keeps its builtin."""
        operator.opcodeIndex = tflite.opcode_index(self.model, self.op(operator), version)

    def signature_entries(self) -> list[Any]:
        """Return the entries of every signature that names a tensor of this subgraph."""
        signatures = [
            sig for sig in self.model.signatureDefs or [] if sig.subgraphIndex == self._position
        ]
        return [
            entry for sig in signatures for entry in (*(sig.inputs or ()), *(sig.outputs or ()))
        ]

    def replace_output(self, index: int, target: int) -> None:
        """Let another tensor be an output, under the name of the one that was."""
        name = self.name(index)
        self.tensors[index].name, self.tensors[target].name = f"{name}/inner", name
        self.subgraph.outputs = [target if out == index else out for out in self.outputs]
        for entry in self.signature_entries():
            if entry.tensorIndex == index and index not in self.inputs:
                entry.tensorIndex = target

    def compact(self) -> None:
        """Drop tensors, buffers and operator codes that nothing refers to, and renumber."""
        maps = self.signature_entries()
        used = {*self.inputs, *self.outputs, *(entry.tensorIndex for entry in maps)}
        for operator in self.operators:
            used.update(operator.inputs, operator.outputs, operator.intermediates or ())
        kept = sorted(used - {-1})
        to = {old: new for new, old in enumerate(kept)} | {-1: -1}
        self.subgraph.tensors = [self.tensors[old] for old in kept]
        self.subgraph.inputs = [to[index] for index in self.inputs]
        self.subgraph.outputs = [to[index] for index in self.outputs]
        for operator in self.operators:
            operator.inputs = [to[index] for index in operator.inputs]
            operator.outputs = [to[index] for index in operator.outputs]
            if operator.intermediates is not None:
                operator.intermediates = [to[index] for index in operator.intermediates]
        for entry in maps:
            entry.tensorIndex = to[entry.tensorIndex]
        self._values.clear()
        self._compact_buffers()
        self._compact_codes()

    def _compact_buffers(self) -> None:
        metadata = self.model.metadata or []
        used = {0, *(entry.buffer for entry in metadata)}
        tensors = [tensor for graph in self.model.subgraphs for tensor in graph.tensors]
        used.update(tensor.buffer for tensor in tensors)
        used.update(
            () if self.model.metadataBuffer is None else map(int, self.model.metadataBuffer)
        )
        kept = sorted(used)
        to = {old: new for new, old in enumerate(kept)}
        self.model.buffers = [self.model.buffers[old] for old in kept]
        for holder in (*tensors, *metadata):
            holder.buffer = to[holder.buffer]
        if self.model.metadataBuffer is not None:
            self.model.metadataBuffer = [to[int(old)] for old in self.model.metadataBuffer]

    def _compact_codes(self) -> None:
        operators = [operator for graph in self.model.subgraphs for operator in graph.operators]
        kept = sorted({operator.opcodeIndex for operator in operators})
        to = {old: new for new, old in enumerate(kept)}
        self.model.operatorCodes = [self.model.operatorCodes[old] for old in kept]
        for operator in operators:
            operator.opcodeIndex = to[operator.opcodeIndex]


def _copied(source: SubGraphT) -> SubGraphT:
    """Return a copy of a subgraph, its tensors and its operators with their options."""
    graph = copy.copy(source)
    graph.tensors = [copy.copy(tensor) for tensor in source.tensors]
    graph.operators = [copy.copy(operator) for operator in source.operators]
    for operator in graph.operators:
        operator.builtinOptions = copy.copy(operator.builtinOptions)
        operator.inputs, operator.outputs = list(operator.inputs), list(operator.outputs)
    graph.inputs, graph.outputs = list(source.inputs), list(source.outputs)
    return graph
