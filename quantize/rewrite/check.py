"""Refuse what cannot be quantized, before the work; check what was written, after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.core.errors import ConversionError, InvalidModel, UnsupportedModel, UnsupportedNode
from edgeconv.core.wording import named
from edgeconv.quantize.rewrite import tables
from edgeconv.quantize.rewrite.int8 import CROSSINGS
from edgeconv.quantize.rules.precision import BITS, Chosen
from edgeconv.quantize.rules.table import RULES, Scaling
from edgeconv.tflite.file import BUILTIN_CODES, OperatorT
from edgeconv.tflite.graph import Graph

STAGE = "float tflite to int8"


def float_model(graph: Graph, where: str) -> None:
    """Check that a model computes in float and has something to quantize.

    Raises:
        InvalidModel: It is quantized already, or no tensor is float.
    """
    for index, tensor in enumerate(graph.tensors):
        quantization = tensor.quantization
        if quantization is not None and quantization.scale is not None and len(quantization.scale):
            raise InvalidModel(
                "the model is quantized already",
                where=where,
                why=f"tensor {graph.name(index)} is {graph.dtype(index)} with a scale",
                hint="give the float32 .tflite file",
            )
    if not any(graph.is_float(index) for index in range(len(graph.tensors))):
        raise InvalidModel(
            "the model has nothing to quantize", where=where, why="no tensor is float32"
        )


def fixed_shapes(graph: Graph, where: str) -> None:
    """Check that every input has a fixed shape, but for the batch.

    Raises:
        InvalidModel: Another dimension than the first is known at run time only.
    """
    for index in graph.inputs:
        signature = graph.tensors[index].shapeSignature
        if signature is not None and any(int(size) < 0 for size in signature[1:]):
            raise InvalidModel(
                f"input {graph.name(index)} has no fixed shape",
                where=where,
                why=f"its shape is {[int(size) for size in signature]}, -1 being dynamic",
                hint=f"convert the model again with {named('input_shapes')}",
            )


def supported(graph: Graph, precisions: Sequence[str], *, mixed: bool = True) -> None:
    """Check that every operator that is to compute in int8 has an int8 form.

    Args:
        graph: The lowered float graph.
        precisions: The precision of each operator.
        mixed: Whether the target takes operators in float, which is what is advised then.

    Raises:
        UnsupportedModel: Naming every operator that has none.
    """
    nodes = [
        UnsupportedNode(graph.op(operator), graph.label(operator), reason)
        for operator, precision in zip(graph.operators, precisions, strict=True)
        if precision == "int8" and (reason := obstacle(graph, operator))
    ]
    nodes += [
        UnsupportedNode("variable", graph.name(index), "state kept between runs has no int8 form")
        for index, tensor in enumerate(graph.tensors)
        if tensor.isVariable and graph.is_float(index)
    ]
    if nodes:
        raise UnsupportedModel(STAGE, nodes, _advice(nodes, mixed=mixed))


def _advice(nodes: Sequence[UnsupportedNode], *, mixed: bool) -> str:
    kinds = list(dict.fromkeys(node.op for node in nodes if node.op in BUILTIN_CODES))
    if mixed and kinds:
        kept = " ".join(f"{named('keep_float')} {kind}" for kind in kinds)
        return f"keep these operators in float32: {kept}; or replace them"
    if not mixed:
        return (
            f"leave these operators, and what follows them, to the CPU with {named('cut')} "
            "NODE, convert "
            f"with {named('target', 'cpu')} and {named('keep_float')}, or replace them"
        )
    return f"quantize with {named('quantize', 'dynamic')} or fp16, or replace these operators"


def runs(path: Path) -> None:
    """Load a written model and run it once on zeros.

    Args:
        path: The ``.tflite`` file.

    Raises:
        ConversionError: The model does not run.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], _neutral(detail))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise ConversionError(
            "the quantized model does not run",
            where=str(path),
            why=str(error).splitlines()[0],
            hint="report this with the model",
            details=str(error),
        ) from error


def integers_meet(graph: Graph, chosen: Chosen) -> None:
    """Check that no operator of an integer precision is left with a float tensor.

    Args:
        graph: The rewritten graph.
        chosen: Tells the precision of the float graph's operators; ``""`` for those added.

    Raises:
        ConversionError: Naming the tensors.
    """
    left = {
        graph.name(index)
        for operator in graph.operators
        if graph.op(operator) not in CROSSINGS and chosen(operator) in ("", *BITS)
        for index in (*operator.inputs, *operator.outputs)
        if graph.is_float(index)
    }
    if left:
        raise ConversionError(
            "float32 tensors are left beside integer operators", why=", ".join(sorted(left))
        )


def _neutral(detail: dict[str, Any]) -> Any:
    scale, zero_point = detail["quantization"]
    return np.full(detail["shape"], zero_point if scale else 0, detail["dtype"])


def obstacle(graph: Graph, operator: OperatorT) -> str:
    """Return why an operator cannot be quantized, or an empty text."""
    if not any(map(graph.is_float, (*operator.inputs, *operator.outputs))):
        return ""
    rule = RULES.get(graph.op(operator))
    if rule is None:
        return "it has no int8 form"
    if rule.scaling is Scaling.TABLE and tables.function(graph, operator) is None:
        return "only one of its inputs may be computed, the other one must be a single constant"
    if rule.weight is not None:
        if not graph.is_constant(operator.inputs[rule.weight]) and not rule.dynamic_weight:
            return "its weight is computed, and must be constant"
        if rule.bias is not None and rule.bias < len(operator.inputs):
            bias = operator.inputs[rule.bias]
            if bias >= 0 and not graph.is_constant(bias):
                return "its bias is computed, and must be constant"
    return ""
