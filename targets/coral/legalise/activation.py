"""Activations fused into operators that must not have one, as operators of their own."""

from __future__ import annotations

from ai_edge_litert.schema_py_generated import ActivationFunctionType

from edgeconv.targets.coral.legalise.rewrite import NONE, Rewrite, Site

_OPERATORS = {
    getattr(ActivationFunctionType, name): name
    for name in ("RELU", "RELU6", "RELU_N1_TO_1", "TANH")
}


def unfuse(site: Site) -> bool | None:
    """Take the activation out of an operator."""
    activation = getattr(site.options, "fusedActivationFunction", NONE)
    if activation not in _OPERATORS:
        return None
    operator, graph = site.operator, site.graph
    output = site.output
    site.options.fusedActivationFunction = NONE
    inner = graph.add_activation(f"{graph.label(operator)}/linear", site.shape(output), "float32")
    operator.outputs = [inner]
    if graph.op(operator) == "TRANSPOSE_CONV":
        has_bias = len(operator.inputs) > 3 and operator.inputs[3] >= 0
        graph.set_version(operator, 3 if has_bias else 1)
    site.made.append(operator)
    site.unary(_OPERATORS[activation], inner, out=output)
    return True


ACTIVATION = Rewrite(
    "fused-activation",
    ("AVERAGE_POOL_2D", "MAX_POOL_2D", "CONCATENATION", "L2_NORMALIZATION"),
    unfuse,
    "pools and concatenations must not have a fused activation",
)
