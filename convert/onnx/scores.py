"""Which outputs of shape ``[N, C]`` are no class scores, by what computes them.

The index of the largest element means something of class scores only. What the graph shows decides,
and where it shows nothing an output is taken for scores: a classifier that errs must not pass. No
scores are

- bounded on both sides of zero by Tanh, as joint angles and actions are;
- divided by their own norm, or normalised over their elements, as embeddings are;
- states of a recurrent layer: its operator's outputs, or products with a gate at the end;
- linear, while another output of the model goes through Softmax: then those are the scores, and
  boxes or landmarks beside them;
- work on the elements of the inputs alone, without any layer that has weights or mixes elements.

Sigmoids may be either. Each answers a question of its own, so that none, one or several may hold,
as of tags, of keys that sound together, or of neighbouring bins of a pitch; which of two close ones
is the larger says little. They are told apart (`labels`), and are left to who asks for the top
class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeconv.convert.onnx.facts import BINARY, UNARY, Facts

if TYPE_CHECKING:
    from onnx import NodeProto

_MOVING = frozenset(
    "Cast Dropout Expand Flatten Identity Reshape Slice Squeeze Transpose Unsqueeze".split()  # noqa: SIM905
)
_LINEAR = frozenset({"Conv", "Gemm", "MatMul"})
_SCORES = frozenset({"LogSoftmax", "Softmax"})
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
_NORMALISED = frozenset({"InstanceNormalization", "LayerNormalization", "LpNormalization"})
_NORMS = frozenset({"ReduceL2", "Sqrt"})
_GATES = frozenset({"HardSigmoid", "Sigmoid"})
_DEEPEST = 24
_ELEMENTS = _MOVING | UNARY | BINARY | frozenset({"Where"})
"""Operators that mix no elements, so that what they make are no more classes than the input is."""


def no_scores(facts: Facts) -> dict[str, str]:
    """Return why outputs are no class scores, by name; others may be."""
    ends = {name: _end(facts, name) for name in facts.outputs}
    found = {
        name: why for name, node in ends.items() if node is not None and (why := _why(facts, node))
    }
    for name in facts.outputs:
        if name not in found and _is_elementwise(facts, name):
            found[name] = "it is work on the elements of the inputs, without a layer"
    chosen = [name for name, node in ends.items() if node is not None and node.op_type in _SCORES]
    if chosen:
        for name, node in ends.items():
            if node is not None and node.op_type in _LINEAR:
                found[name] = f"it is linear, and {chosen[0]} has the scores"
    return found


def labels(facts: Facts) -> Iterator[str]:
    """Yield the outputs of which each element is a Sigmoid of its own."""
    for name in facts.outputs:
        node = _end(facts, name)
        if node is not None and node.op_type in _GATES:
            yield name


def single_rows(facts: Facts) -> Iterator[str]:
    """Yield the outputs that are one row of class scores: a softmax along the only axis they have.

    Of shape ``[N, C]`` outputs are taken for scores anyway, see `no_scores`.
    """
    for name in facts.outputs:
        shape, node = facts.shape(name), _end(facts, name)
        if shape is not None and node is not None and node.op_type in _SCORES:
            sizes = [size for size in shape if size != 1]
            if len(shape) != 2 and len(sizes) == 1 and sizes == [shape[-1]]:
                yield name


def _why(facts: Facts, node: NodeProto) -> str:
    """Return why what a node makes is no scores; ``""`` where it may be."""
    if node.op_type in ("Tanh", "HardTanh"):
        return "it is bounded by Tanh"
    if node.op_type in _NORMALISED:
        return f"{node.op_type} normalises it"
    if node.op_type in _RECURRENT:
        return f"it is a state of {node.op_type}"
    if node.op_type == "Div" and _is_norm(facts, node.input[1]):
        return "it is divided by its norm"
    if _is_gated(facts, node):
        return "a gate makes it, as of a recurrent layer"
    return ""


def _is_elementwise(facts: Facts, value: str) -> bool:
    """Tell whether all nodes from the inputs to a value work on elements alone, one at least."""
    open_, seen, worked = [value], {value}, False
    while open_:
        node = facts.node(open_.pop())
        if node is None:
            continue
        if node.op_type not in _ELEMENTS:
            return False
        worked |= node.op_type not in _MOVING
        new = {name for name in node.input if name and name not in facts.constant} - seen
        seen |= new
        open_ += sorted(new)
    return worked


def _end(facts: Facts, value: str) -> NodeProto | None:
    """Return the last node that does more than moving, scaling or shifting elements."""
    for _ in range(_DEEPEST):
        node = facts.node(value)
        if node is None:
            return None
        computed = [name for name in node.input if name and name not in facts.constant]
        scaled = node.op_type in ("Add", "Div", "Mul", "Neg", "Sub") and len(computed) == 1
        if node.op_type not in _MOVING and not scaled:
            return node
        value = computed[0] if computed else node.input[0]
    return None


def _is_norm(facts: Facts, value: str) -> bool:
    """Tell whether a value is a norm: a root of a sum, kept from zero perhaps."""
    for _ in range(_DEEPEST):
        node = facts.node(value)
        if node is None:
            return False
        if node.op_type in _NORMS:
            return True
        if node.op_type not in _MOVING | {"Add", "Clip", "Max"}:
            return False
        computed = [name for name in node.input if name and name not in facts.constant]
        if len(computed) != 1:
            return False
        value = computed[0]
    return False


def _is_gated(facts: Facts, node: NodeProto) -> bool:
    """Tell whether a node ends a cell: ``o * tanh(c)``, ``f * c + i * g``, ``n + z * (h - n)``."""
    makers = [_end(facts, name) for name in node.input if name]
    known = [maker for maker in makers if maker is not None]
    if node.op_type == "Mul":
        kinds = {maker.op_type for maker in known}
        return "Tanh" in kinds and bool(kinds & _GATES)
    if node.op_type not in ("Add", "Sub"):
        return False
    products = [maker for maker in known if maker.op_type == "Mul"]
    gates = [
        inner
        for maker in products
        for name in maker.input
        if (inner := _end(facts, name)) is not None and inner.op_type in _GATES
    ]
    others = [maker for maker in known if maker.op_type in ("Mul", "Tanh", "Sub")]
    return bool(gates) and (len(products) > 1 or len(others) > 1)
