"""What makes the compiler refuse a model as a whole, before it looks at single operators.

Its front end is a TensorFlow Lite interpreter of release 2.5 or 2.6: newer operators and newer
versions of operators are unknown to it, and so is the encoding of weights behind the flatbuffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from edgeconv.targets.coral.graph import EIGHT_BIT, Op, View

LAST_BUILTIN = 141
"""Highest builtin number of TensorFlow 2.6; GELU is 150."""

HIGHEST_VERSIONS = {
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "EXP": 1,
    "FULLY_CONNECTED": 9,
    "RESIZE_BILINEAR": 3,
    "RESIZE_NEAREST_NEIGHBOR": 3,
    "TRANSPOSE": 3,
    "TRANSPOSE_CONV": 3,
}
"""Highest version that the front end registers, of the operators that exceed it in practice."""

_VERSION_ADVICE = {
    "EXP": "version 2 is the one for integers: leave it to the CPU with --cut",
    "TRANSPOSE_CONV": "version 4 has a fused activation: write the activation separately",
    "TRANSPOSE": "version 4 has five dimensions: use at most four",
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
    return [*_of_model(view), *(item for op in view.ops for item in _of_op(op))]


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


def _of_op(op: Op) -> Iterator[Objection]:
    if op.code > LAST_BUILTIN:
        advice = "rewrite it; --target coral does with GELU when --allow-approximate is given"
        yield Objection(op.index, op.name, f"the compiler knows no builtin {op.code}", advice)
        return
    highest = HIGHEST_VERSIONS.get(op.name)
    if highest is not None and op.version > highest:
        yield Objection(
            op.index,
            op.name,
            f"version {op.version}, and the compiler knows {op.name} up to version {highest}",
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
