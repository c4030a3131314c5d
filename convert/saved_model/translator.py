"""Walk an ONNX graph in order and translate each node with the function registered for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import tensorflow as tf
from onnx.reference import ReferenceEvaluator

from edgeconv.convert.onnx.origin import origin_of
from edgeconv.convert.onnx.value_map import scope_name
from edgeconv.convert.translate.batch import HINT, Batch
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.registry import Registry, Unsupported, bind
from edgeconv.convert.translate.value import Value, arranged
from edgeconv.convert.translate.view import DYNAMIC, Shape, product
from edgeconv.core.artifacts import Array
from edgeconv.core.errors import UnsupportedModel, UnsupportedNode
from edgeconv.toolchain.runtimes.reference_ops import CORRECTED

_log = logging.getLogger(__name__)

STAGE = "onnx to saved_model"
_HINT = "replace these in the model, or report them with the model if you can"
_FOLD_LIMIT = 1 << 24  # elements; a larger constant is cheaper to compute at run time


class Translator:
    """Translate one graph.

    Args:
        model: The model; its graph is in topological order and its functions are inlined.
        registry: Translations to use.
        weight: See `Context.weight`; by default weights are constants of the graph.
    """

    def __init__(
        self,
        model: ir.Model,
        registry: Registry,
        weight: Callable[[Array], Any] = lambda array: array,
    ) -> None:
        self._graph = model.graph
        self._registry = registry
        self._weight = weight
        self._opsets = dict(model.opset_imports)
        self._values: dict[str, Value] = {}
        self._refused: list[UnsupportedNode] = []
        self._batch = Batch()

    def uncovered(self) -> list[UnsupportedNode]:
        """Return the nodes that have no translation at all."""
        return [
            _refusal(node, self._opset(node), "no translation for this operator", _advice(node))
            for node in self._graph
            if node.op_type != "Constant" and self._find(node) is None
        ]

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Translate the graph into the TensorFlow graph under construction.

        Args:
            inputs: Values of the graph's inputs, by name.

        Returns:
            Values of the graph's outputs, by name.

        Raises:
            UnsupportedModel: Nodes without a translation, or refused by theirs; all of them.
        """
        self._refused = self.uncovered()
        self._values = dict(inputs)
        self._batch.start(inputs)
        self._walk(self._graph)
        if self._refused:
            raise UnsupportedModel(STAGE, self._refused, hint=_HINT)
        return {str(output.name): self._values[str(output.name)] for output in self._graph.outputs}

    @property
    def values(self) -> Mapping[str, Value]:
        """Every value translated so far, by ONNX name."""
        return self._values

    def _walk(self, graph: ir.Graph) -> None:
        for name, initializer in graph.initializers.items():
            if initializer.const_value is not None:
                self._values[name] = Value.of(_array(initializer.const_value))
        for node in graph:
            self._translate(node)

    def _nested(self, graph: ir.Graph, inputs: Sequence[Value]) -> list[Value]:
        """Translate a graph that is an attribute; it sees the values around it."""
        formal = [str(value.name) for value in graph.inputs]
        self._values |= dict(zip(formal, inputs, strict=True))
        missing = [node.op_type for node in graph if self._find(node) is None]
        if missing:
            raise Unsupported(f"its subgraph needs {', '.join(missing)}")
        self._walk(graph)
        names = [str(output.name) for output in graph.outputs]
        if any(name not in self._values for name in names):
            raise Unsupported("its subgraph has unsupported nodes")
        return [self._values[name] for name in names]

    def _first_of_each(self) -> Any:
        """Return int32 zeros, as many as the open batch has samples.

        Their shape follows from an input's when memory is planned, which that of TFLite's
        BROADCAST_TO or TILE with computed operands does not; delegates need it.
        """
        name = next(str(value.name) for value in self._graph.inputs if value.name in self._values)
        value = self._values[name]
        elements = product(size for size in value.shape if size != DYNAMIC)
        rows = arranged(value, range(value.rank), (DYNAMIC, elements))
        return tf.argmax(rows[:, :1], axis=1, output_type=tf.int32)

    def _opset(self, node: ir.Node) -> int:
        return self._opsets.get(node.domain, 1)

    def _find(self, node: ir.Node) -> Any:
        return self._registry.find(node.domain, node.op_type, self._opset(node))

    def _translate(self, node: ir.Node) -> None:
        """Translate a node, unless one that it depends on was refused."""
        names = [None if value is None else str(value.name) for value in node.inputs]
        if any(name and name not in self._values for name in names):
            return
        inputs = [self._values[name] if name else None for name in names]
        try:
            results = None
            if self._batch.folds(node, inputs):
                results = _fold(node, self._opset(node), inputs)
            if results is None:
                results = self._call(node, inputs)
        except Unsupported as refusal:
            self._refused.append(_refusal(node, self._opset(node), refusal.reason, refusal.hint))
            return
        for output, value in zip(node.outputs, results, strict=False):
            self._values[str(output.name)] = value
        self._batch.note(node, inputs, self._values)

    def _call(self, node: ir.Node, inputs: Sequence[Value | None]) -> Sequence[Value]:
        function = self._find(node)
        if function is None:
            return ()
        attributes = {name: _attribute(attr) for name, attr in node.attributes.items()}
        positional, named = bind(function, inputs, attributes)
        wanted = tuple(bool(out.uses()) or out.is_graph_output() for out in node.outputs)
        context = Context(
            self._opset(node),
            wanted,
            self._nested,
            self._weight,
            self._batch.multiple(node),
            tuple(map(_declared, node.outputs)),
            self._first_of_each,
        )
        with tf.name_scope(scope_name(str(node.outputs[0].name))), _refusing_failures(node, inputs):
            result = function(context, *positional, **named)
        return (result,) if isinstance(result, Value) else result


_SAME_SHAPE = frozenset({"Abs", "Cast", "Exp", "Identity", "Log", "Neg", "Relu", "Sqrt"})


def _declared(value: ir.Value) -> Shape | None:
    """Return the shape of a value where the file says it, of it or of what is computed from it."""
    shape = value.shape
    if shape is not None and all(isinstance(size, int) for size in shape):
        return tuple(int(size) for size in shape if isinstance(size, int))
    later = [node.outputs[0] for node, _ in value.uses() if node.op_type in _SAME_SHAPE]
    return next((found for found in map(_declared, later) if found is not None), None)


@contextmanager
def _refusing_failures(node: ir.Node, inputs: Sequence[Value | None]) -> Iterator[None]:
    """Refuse a node whose translation fails: with what TensorFlow says, or where it is at fault.

    What a node has in a form that nobody thought of must not reach users as an error of some
    library about something else.
    """
    is_open = any(value is not None and DYNAMIC in value.shape for value in inputs)
    try:
        yield
    except (Unsupported, OSError, MemoryError):
        raise
    except Exception as error:
        _log.debug("translating %s", node.name, exc_info=True)
        lines = str(error).strip().splitlines()
        text = lines[0] if lines else type(error).__name__
        if is_open:
            raise Unsupported(f"with an open batch it fails: {text}", HINT) from error
        raise Unsupported(
            f"its translation fails, {type(error).__name__}: {text}",
            "this is a fault of edgeconv, or the node contradicts itself",
        ) from error


def _advice(node: ir.Node) -> str:
    """What to do about an operator without a translation, where more than the usual is known."""
    if node.domain == "com.microsoft" and node.op_type.startswith("Q"):
        return "quantize the model in QDQ format, whose scales are kept, not as QOperator"
    return ""


def _refusal(node: ir.Node, opset: int, reason: str, hint: str = "") -> UnsupportedNode:
    module, source = origin_of(node)
    domain = f"{node.domain}::" if node.domain else ""
    return UnsupportedNode(
        op=f"{domain}{node.op_type}-{opset}",
        node=node.name or str(node.outputs[0].name),
        reason=reason,
        module=module,
        source=source,
        hint=hint,
    )


def _array(tensor: Any) -> Array:
    return np.asarray(tensor.numpy())


def _attribute(attribute: ir.Attr) -> Any:
    value = attribute.value
    if attribute.type == ir.AttributeType.TENSOR:
        return _array(value)
    if attribute.type == ir.AttributeType.STRING and isinstance(value, bytes):
        return value.decode()
    return value


def _fold(node: ir.Node, opset: int, inputs: Sequence[Value | None]) -> Sequence[Value] | None:
    """Compute a node of ONNX's own domain whose inputs are all constant; None if it is not."""
    arrays = [None if value is None else value.constant for value in inputs]
    missing = any(
        value is not None and array is None for value, array in zip(inputs, arrays, strict=True)
    )
    subgraphs = any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        for attribute in node.attributes.values()
    )
    if missing or node.domain or subgraphs or node.op_type.startswith("Random"):
        return None
    try:
        outputs = _evaluate(ir.to_proto(node), opset, arrays)
    except Exception as error:  # noqa: BLE001 - of numpy's, on what the reference does not have
        _log.debug("not folded: %s: %s", node.name, error)
        return None
    if any(array.size > _FOLD_LIMIT for array in outputs):
        return None
    return [Value.of(np.asarray(array)) for array in outputs]


def _evaluate(node: onnx.NodeProto, opset: int, arrays: Sequence[Array | None]) -> list[Array]:
    """Run one node with ONNX's reference implementation."""
    feeds = {name: array for name, array in zip(node.input, arrays, strict=True) if name}
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
        if array is not None
    ]
    names = [name for name in node.output if name]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in names]
    graph = onnx.helper.make_graph([node], "fold", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    evaluator = ReferenceEvaluator(model, new_ops=list(CORRECTED))
    return [np.asarray(array) for array in evaluator.run(names, feeds)]
