"""Which values of a graph are images.

A rank-4 value is an image if it reaches, or comes from, an operator that treats its second axis
as channels (convolution, pool, resize, ...), through operators that keep the axes where they are.
Image inputs and outputs of a model are stored channels last.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

CHANNEL_OPS = frozenset(
    {
        "AveragePool",
        "BatchNormalization",
        "Conv",
        "ConvInteger",
        "ConvTranspose",
        "DeformConv",
        "DepthToSpace",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GlobalMaxPool",
        "GridSample",
        "GroupNormalization",
        "InstanceNormalization",
        "LRN",
        "LpPool",
        "MaxPool",
        "MaxRoiPool",
        "MaxUnpool",
        "QLinearConv",
        "Resize",
        "RoiAlign",
        "SpaceToDepth",
        "Upsample",
    }
)
"""Operators whose first input and first output are ``[N, C, ...]``."""

AXIS_KEEPERS = frozenset(
    {
        "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift",
        "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu",
        "CenterCropPad", "Clip", "Concat", "Cos", "Cosh", "CumSum", "DequantizeLinear", "Div",
        "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand", "FakeQuantize", "Floor", "Gelu",
        "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "IsInf",
        "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "Max",
        "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or",
        "PRelu", "Pad", "Pow", "QuantizeLinear", "Reciprocal", "Relu", "ReverseSequence", "Round",
        "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Slice", "Softmax", "Softplus",
        "Softsign", "Split", "Sqrt", "Sub", "Sum", "SwiGLU", "Swish", "Tan", "Tanh",
        "ThresholdedRelu", "Tile", "Where", "Xor",
    }
)  # fmt: skip
"""Operators whose output axes are their input axes."""


def image_values(graph: ir.Graph) -> frozenset[str]:
    """Return the names of the rank-4 values of a graph that are images."""
    groups = _Groups()
    anchors: list[ir.Value] = []
    for node in graph:
        if node.op_type in CHANNEL_OPS:
            ends = (node.inputs[0], node.outputs[0])
            anchors += [value for value in ends if value is not None and _has_rank_4(value)]
        elif node.op_type in AXIS_KEEPERS:
            groups.join(v for v in (*node.inputs, *node.outputs) if _has_rank_4(v))
    roots = {groups.root(_name(value)) for value in anchors}
    names = {_name(value) for value in anchors} | set(groups.names())
    return frozenset(name for name in names if groups.root(name) in roots)


def _has_rank_4(value: ir.Value | None) -> bool:
    if value is None or value.const_value is not None or value.shape is None:
        return False
    return len(value.shape) == 4


def _name(value: ir.Value | None) -> str:
    assert value is not None and value.name is not None, "values in a loaded graph have names"
    return value.name


class _Groups:
    """Disjoint sets of value names; each search for a root halves the path that it walks."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def names(self) -> Iterable[str]:
        return tuple(self._parents)

    def root(self, name: str) -> str:
        parents = self._parents
        while (parent := parents.get(name, name)) != name:
            parents[name] = name = parents.get(parent, parent)
        return name

    def join(self, values: Iterable[ir.Value | None]) -> None:
        names = [_name(value) for value in values]
        for name in names:
            self._parents[self.root(name)] = self.root(names[0])
