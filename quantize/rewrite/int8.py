"""Rewrite a float graph into an integer one: int8 or int16 activations, int8 weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ai_edge_litert.schema_py_generated import AddOptionsT, BuiltinOptions, SubOptionsT

from edgeconv.core.artifacts import Array
from edgeconv.quantize.params.needs import factor_need, stored_range, term_need
from edgeconv.quantize.params.qparams import (
    QuantParams,
    bias_scales,
    quantize_bias,
    scales_beside,
    symmetric,
)
from edgeconv.quantize.rewrite import casts, magnitude, quotient, tables
from edgeconv.quantize.rewrite.edges import QUANTIZE_VERSION, IoDtype, connect
from edgeconv.quantize.rewrite.stored import scales_of, stored_weight
from edgeconv.quantize.rules.table import COMPARISONS, RULES, Rule, Scaling, version
from edgeconv.tflite.file import OperatorT, tensor_type
from edgeconv.tflite.graph import Graph

KnownScales = Callable[[Array, int | None], Array | None]
"""From a weight and the axis of its slices to the scales that it must have."""

CROSSINGS = ("QUANTIZE", "DEQUANTIZE")
"""Operators between tensors of different precision."""


def rewrite(
    graph: Graph,
    affine: Mapping[int, QuantParams],
    io_dtype: IoDtype,
    known: KnownScales = lambda weight, axis: None,  # noqa: ARG005
    rescaled: Mapping[int, QuantParams] | None = None,
) -> None:
    """Quantize a graph in place.

    Args:
        graph: The float graph, lowered to operators of the rules' table; where precisions meet,
            QUANTIZE and DEQUANTIZE stand between.
        affine: Scale and zero point of every float activation that becomes an integer one.
            Operators without any keep computing in float.
        io_dtype: dtype of the graph's inputs and outputs that stand for real numbers.
        known: Returns the scales that a weight must have, or ``None``.
        rescaled: Scales that outputs get behind QUANTIZE, beside those that they have inside.
    """
    affine = {**affine, **_Rewriter(graph, affine, known).run(rescaled or {})}
    for index, found in affine.items():
        graph.tensors[index].type = tensor_type(found.dtype)
        graph.tensors[index].quantization = found.stored()
    connect(graph, affine, io_dtype)
    graph.compact()


class _Rewriter:
    def __init__(self, graph: Graph, affine: Mapping[int, QuantParams], known: KnownScales) -> None:
        self._graph = graph
        self._affine = affine
        self._known = known
        self._operators: list[OperatorT] = []
        self._requantized: dict[tuple[int, QuantParams], int] = {}
        self._constants: dict[tuple[int, QuantParams], int] = {}
        self._weights: dict[tuple[int, int | None, bytes], int] = {}
        self._magnitudes = {
            output: found
            for output, found in magnitude.find(graph).items()
            if self._all8(output, *found.parts)
        }
        self._quotients = {
            output: found
            for output, found in quotient.find(graph).items()
            if self._all8(output, found.dividend, found.divisor)
        }

    def run(self, rescaled: Mapping[int, QuantParams]) -> dict[int, QuantParams]:
        """Rewrite every operator that reads or makes a quantized activation.

        Returns:
            The scales of new outputs.
        """
        absorbed = {id(one) for found in self._magnitudes.values() for one in found.absorbed}
        absorbed |= {id(found.absorbed) for found in self._quotients.values()}
        for operator in list(self._graph.operators):
            tensors = (*operator.inputs, *operator.outputs)
            crossing = self._graph.op(operator) in CROSSINGS
            if id(operator) in absorbed:
                continue
            if not crossing and any(index in self._affine for index in tensors):
                self._rewrite(operator)
            else:
                self._operators.append(operator)
        outputs = {index: self._requantize(index, wanted) for index, wanted in rescaled.items()}
        self._graph.subgraph.operators = self._operators
        for index, target in outputs.items():
            self._graph.replace_output(index, target)
        return {target: rescaled[index] for index, target in outputs.items()}

    def _rewrite(self, operator: OperatorT) -> None:
        rule = RULES[self._graph.op(operator)]
        if operator.outputs[0] in self._magnitudes:
            self._magnitude(operator.outputs[0])
        elif operator.outputs[0] in self._quotients:
            found = self._quotients[operator.outputs[0]]
            self._operators += quotient.divide(self._graph, operator, found, self._affine)
        elif rule.scaling is Scaling.TABLE:
            self._table(operator)
        elif rule.scaling is Scaling.CAST:
            self._operators += casts.rewrite(self._graph, operator, self._affine)
        else:
            lowest = self._version(operator)
            if self._has_weight(operator, rule):
                self._weighted(operator, rule)
            elif self._compares_large(operator):
                self._compare(operator)
            else:
                self._plain(operator, rule)
            self._ask_for_any_scale(operator)
            self._graph.set_version(operator, lowest)
            self._operators.append(operator)

    def _all8(self, *tensors: int) -> bool:
        return all(index in self._affine and self._affine[index].bits == 8 for index in tensors)

    def _bits(self, operator: OperatorT) -> int:
        """Return the bits of an operator's activations."""
        tensors = (*operator.outputs, *operator.inputs)
        return next(self._affine[index].bits for index in tensors if index in self._affine)

    def _version(self, operator: OperatorT) -> int:
        graph, bits = self._graph, self._bits(operator)
        lowest = max(version(graph.op(operator), bits), graph.version(operator))
        if graph.op(operator) == "MUL" and bits == 8:
            scales = [
                (self._limited(operator, slot) or self._operand_affine(index, bits)).scale
                for slot, index in enumerate(operator.inputs)
            ]
            product = scales[0] * scales[1]
            # The rescaling of version 2 cannot enlarge.
            if product >= self._affine[operator.outputs[0]].scale:
                lowest = max(lowest, 3)
        return lowest

    def _ask_for_any_scale(self, operator: OperatorT) -> None:
        """Set the option without which int16 kernels want scales that are powers of two."""
        if self._graph.op(operator) in ("ADD", "SUB") and self._bits(operator) == 16:
            if operator.builtinOptions is None:
                kind = self._graph.op(operator).capitalize()
                operator.builtinOptionsType = getattr(BuiltinOptions, f"{kind}Options")
                operator.builtinOptions = AddOptionsT() if kind == "Add" else SubOptionsT()
            operator.builtinOptions.potScaleInt16 = False

    def _operand_affine(self, index: int, bits: int) -> QuantParams:
        if index in self._affine:
            return self._affine[index]
        return QuantParams.of(stored_range(self._graph, index), bits)

    def _plain(self, operator: OperatorT, rule: Rule) -> None:
        tied = rule.scaling in (Scaling.SAME, Scaling.SHARED)
        output = next((index for index in operator.outputs if index in self._affine), None)
        wanted = self._affine[output] if tied and output is not None else None
        limited = [wanted or self._limited(operator, slot) for slot in range(len(operator.inputs))]
        bits = self._bits(operator)
        operator.inputs = [
            self._operand(index, affine, bits)
            for index, affine in zip(operator.inputs, limited, strict=True)
        ]

    def _limited(self, operator: OperatorT, slot: int) -> QuantParams | None:
        """Return a constant's scale without the values that make the result saturate anyway.

        A mask of -1e9, for example, would leave no precision to what it is added to.
        """
        graph, name = self._graph, self._graph.op(operator)
        index, bits = operator.inputs[slot], self._bits(operator)
        if name not in ("ADD", "SUB", "MUL") or not graph.is_constant(index):
            return None
        output = self._affine[operator.outputs[0]].limits
        other = self._operand_affine(operator.inputs[1 - slot], bits)
        if name == "MUL":
            needed = factor_need(output, other.scale)
        else:
            needed = term_need(name, slot, output, other.limits)
        return QuantParams.of(stored_range(graph, index).meet(needed), bits)

    def _compares_large(self, operator: OperatorT) -> bool:
        """Tell whether a comparison's scales are more than its kernel can express."""
        if self._graph.op(operator) not in COMPARISONS:
            return False
        bits = self._bits(operator)
        return any(self._operand_affine(index, bits).scale >= 1 for index in operator.inputs)

    def _compare(self, operator: OperatorT) -> None:
        """Compare the stored integers of a common scale, as int32."""
        graph, bits = self._graph, self._bits(operator)
        left, right = (self._operand_affine(index, bits) for index in operator.inputs)
        common = QuantParams.of(left.limits.join(right.limits), bits)
        wide: list[int] = []
        for index in operator.inputs:
            stored = self._operand(index, common, bits)
            name = f"{graph.label(operator)}/code_{len(wide)}"
            wide.append(graph.add_activation(name, graph.shape(stored), "int32"))
            self._operators.append(casts.cast(graph, stored, wide[-1], (common.dtype, "int32"), 3))
        operator.inputs = wide

    def _operand(self, index: int, wanted: QuantParams | None, bits: int) -> int:
        """Return the integer tensor to read instead of a float one."""
        if not self._graph.is_float(index):
            return index
        if index in self._affine:
            return (
                index if wanted in (None, self._affine[index]) else self._requantize(index, wanted)
            )
        return self._constant(index, wanted or self._operand_affine(index, bits))

    def _requantize(self, index: int, wanted: QuantParams) -> int:
        key = (index, wanted)
        if key not in self._requantized:
            graph = self._graph
            name = f"{graph.name(index)}/rescaled_{len(self._requantized)}"
            target = graph.add_activation(name, graph.shape(index), wanted.dtype, wanted.stored())
            lowest = QUANTIZE_VERSION[wanted.bits]
            self._operators.append(graph.operator("QUANTIZE", lowest, (index,), (target,)))
            self._requantized[key] = target
        return self._requantized[key]

    def _constant(self, index: int, affine: QuantParams) -> int:
        key = (index, affine)
        if key not in self._constants:
            graph = self._graph
            stored = affine.quantize(graph.value(index))
            self._constants[key] = graph.add_constant(graph.name(index), stored, affine.stored())
        return self._constants[key]

    def _has_weight(self, operator: OperatorT, rule: Rule) -> bool:
        return rule.weight is not None and self._graph.is_constant(operator.inputs[rule.weight])

    def _weighted(self, operator: OperatorT, rule: Rule) -> None:
        assert rule.weight is not None
        graph = self._graph
        inputs = list(operator.inputs)
        source = next(index for index in inputs if index in self._affine)
        scale, bits = self._affine[source].scale, self._affine[source].bits
        bias = inputs[rule.bias] if rule.bias is not None and rule.bias < len(inputs) else -1
        value = graph.value(bias) if bias >= 0 else None
        scales = self._known(graph.value(inputs[rule.weight]), rule.axis)
        if scales is None:
            scales = scales_of(graph, inputs[rule.weight], rule.axis)
            if value is not None:
                scales = scales_beside(scales, value, scale, rule.axis, bits)
        inputs[rule.weight] = self._weight(inputs[rule.weight], scales, rule.axis)
        if value is not None and rule.bias is not None:
            stored = quantize_bias(value, scale, scales, bits)
            products = symmetric(bias_scales(scale, scales), 0)
            inputs[rule.bias] = graph.add_constant(graph.name(bias), stored, products)
        operator.inputs = inputs

    def _weight(self, index: int, scales: Array, axis: int | None) -> int:
        key = (index, axis, scales.tobytes())
        if key not in self._weights:
            graph = self._graph
            stored = stored_weight(graph, index, scales, axis)
            parameters = symmetric(scales, axis)
            self._weights[key] = graph.add_constant(graph.name(index), stored, parameters)
        return self._weights[key]

    def _table(self, operator: OperatorT) -> None:
        found = tables.function(self._graph, operator)
        assert found is not None, "checked before calibration"
        source, compute = found
        (output,) = operator.outputs
        table = tables.int8_table(compute, self._affine[source], self._affine[output])
        self._operators += tables.lookup(self._graph, source, table, output)

    def _magnitude(self, output: int) -> None:
        found = self._magnitudes[output]
        first, second = (self._affine[part] for part in found.parts)
        common = QuantParams.of(first.limits.join(second.limits)) if first != second else first
        parts = tuple(self._operand(part, common, 8) for part in found.parts)
        to = self._affine[output]
        self._operators += magnitude.lookup(
            self._graph, (parts[0], parts[1]), common, found, output, to
        )
