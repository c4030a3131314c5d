"""What makes the compiler refuse a model as a whole, before it looks at single operators.

Its front end is a TensorFlow Lite interpreter of release 2.5 or 2.6: newer operators and newer
versions of operators are unknown to it, and so is the encoding of weights behind the flatbuffer.
What release 2.5 knows was measured, see `edgeconv.toolchain.runtimes.op_versions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgeconv.tflite.view import EIGHT_BIT, Op, View
from edgeconv.toolchain.runtimes.op_versions import op_versions

RELEASE = "tensorflow 2.5.3"

LEFT_FLOAT = (
    "CAST", "CEIL", "COS", "DIV", "EQUAL", "EXP", "FLOOR", "FLOOR_DIV", "FLOOR_MOD", "GREATER",
    "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOG", "NOT_EQUAL", "POW", "ROUND", "SIN", "SQRT",
)  # fmt: skip
"""Operators that never map and whose integer form, or a CAST of int8 that belongs to it, the front
end does not know. In float they only cut the graph; as integers they would cost the whole model."""

_BELOW_RELEASE = {"TRANSPOSE": 3}
"""Versions that the release registers but the compiler does not take: 4 has five axes."""

_FLEX = "Flex"
"""What the names of TensorFlow's own operators begin with."""

_VERSION_ADVICE = {
    "TRANSPOSE_CONV": "version 4 has a fused activation: write the activation separately",
    "TRANSPOSE": "version 4 has five dimensions: use at most four",
    **dict.fromkeys(LEFT_FLOAT, "convert with --target coral, which leaves it in float"),
}
_GROUPED = "it is a grouped convolution: convert with --target coral, which splits it"
_SHAPE_INPUTS = {
    "BROADCAST_TO": 1,
    "FILL": 0,
    "PAD": 1,
    "PADV2": 1,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 1,
    "RESIZE_NEAREST_NEIGHBOR": 1,
    "TILE": 1,
    "TRANSPOSE_CONV": 0,
}
_CUSTOM = 32
_CONVERT = "convert with --target coral, which writes the lowest version that expresses it"


@dataclass(frozen=True, slots=True)
class Objection:
    """Why the compiler refuses the whole model.

    Attributes:
        index: The operator concerned; ``None`` for the model.
        op: Its name.
        why: What is wrong.
        advice: What to change.
    """

    index: int | None
    op: str
    why: str
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)


def objections(view: View) -> list[Objection]:
    """Return everything that makes the compiler refuse the model; usually nothing."""
    newest = known_versions()
    return [*_of_model(view), *(item for op in view.ops for item in _of_op(op, newest))]


def known_versions() -> dict[str, int]:
    """Return the newest version that the front end takes of each builtin that it knows."""
    return {**op_versions()[RELEASE], **_BELOW_RELEASE}


def _of_model(view: View) -> Iterator[Objection]:
    if not any(t.dtype in EIGHT_BIT for op in view.ops for t in op.activations):
        yield Objection(
            None,
            "",
            "the model is not quantized: no activation has 8 bits",
            "use --quantize int8 --io-dtype int8",
        )
    if view.subgraphs > 1:
        yield Objection(
            None,
            "",
            f"the model has {view.subgraphs} subgraphs",
            "convert it without loops and conditions",
        )
    if view.outside:
        yield Objection(
            None,
            "",
            f"{view.outside} weights lie behind the flatbuffer, where the compiler does not look",
            "write the file again with the weights inside",
        )


def _of_op(op: Op, newest: Mapping[str, int]) -> Iterator[Objection]:
    if op.code == _CUSTOM:
        if op.name.startswith(_FLEX):
            why = f"{op.name} is an operator of TensorFlow, which the compiler does not have"
            yield Objection(op.index, op.name, why, "use --converter native, or cut it off: --cut")
        return
    if op.name not in newest:
        advice = "rewrite it; --target coral does with GELU when --allow-approximate is given"
        yield Objection(op.index, op.name, f"the compiler knows no builtin {op.code}", advice)
        return
    if op.version > newest[op.name]:
        yield Objection(
            op.index,
            op.name,
            f"version {op.version}, and the compiler knows {op.name} up to version "
            f"{newest[op.name]}",
            _GROUPED if _grouped(op) else _VERSION_ADVICE.get(op.name, _CONVERT),
        )
    yield from _of_tensors(op)


def _grouped(op: Op) -> bool:
    data, weight = op.input(0), op.input(1)
    if op.name != "CONV_2D" or not data or not weight:
        return False
    return data.shape[-1:] != weight.shape[-1:]


def _of_tensors(op: Op) -> Iterator[Objection]:
    pads = op.input(1) if op.name in ("PAD", "PADV2", "MIRROR_PAD") else None
    if pads is not None and pads.dtype == "int64":
        yield Objection(
            op.index, op.name, "its paddings are int64, read as int32", "store them as int32"
        )
    shape = op.input(_SHAPE_INPUTS[op.name]) if op.name in _SHAPE_INPUTS else None
    if shape is not None and not shape.constant:
        yield Objection(
            op.index,
            op.name,
            f"its shape is computed ({shape.name}), and so known at run time only",
            "convert with a fixed shape and a batch of 1",
        )
