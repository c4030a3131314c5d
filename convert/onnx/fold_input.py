"""Fold the preprocessing of an input into the first layers that read it.

What a layer reads is ``a * x + b`` of the bytes ``x``. The factors are followed through operators
that move or average values, and end in a convolution, a dense layer or a batch normalisation, whose
constants take them over. Zeros that a convolution pads with stand for the value that ``b`` makes a
zero of: that is padded with instead. Nothing is approximated; what cannot be taken over is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeconv.convert.onnx.constants import Editor
from edgeconv.convert.onnx.file import MAX_INLINE, write_onnx
from edgeconv.convert.onnx.folded_layers import absorb_batch_norm, absorb_conv, absorb_dense
from edgeconv.core.artifacts import Array, Artifact
from edgeconv.core.errors import ConversionError
from edgeconv.core.preprocess import Preprocessing
from edgeconv.core.wording import named

if TYPE_CHECKING:
    from onnx import NodeProto

_MOVES = frozenset(
    ("DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice",
     "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze")
)  # fmt: skip
"""Operators that only move values; the factors move as they do."""

_MEANS = frozenset(("AveragePool", "GlobalAveragePool", "MaxPool", "Resize", "Upsample"))
"""Operators over areas of one channel, which factors that are the same all over one pass."""

_ARITHMETIC = frozenset(("Add", "Div", "Mul", "Sub"))

_HINT = f"leave {named('preprocess', 'fold')} out, and give samples as they are preprocessed"


@dataclass(frozen=True, slots=True)
class Factors:
    """A value stands for ``scale * x + offset``; both float64, of its shape with a batch of 1."""

    scale: Array
    offset: Array


def fold_input(model: Artifact, preprocessing: Mapping[str, Preprocessing]) -> Artifact:
    """Rewrite an ONNX file so that it takes bytes, 0 to 255, in the dtype that it has.

    Args:
        model: The file, which is replaced.
        preprocessing: Of inputs, by name.

    Returns:
        The artifact of the new file.

    Raises:
        ConversionError: Some operator cannot take the factors over exactly.
    """
    import onnx

    proto = onnx.load(str(model.path), load_external_data=False)
    size = sum(item.stat().st_size for item in model.path.parent.glob(f"{model.path.name}*"))
    if size <= MAX_INLINE:
        onnx.load_external_data_for_model(proto, str(model.path.parent))
    editor = Editor(proto.graph, proto.opset_import)
    held: dict[str, Factors] = {}
    for spec in model.inputs:
        if spec.name in preprocessing:
            shape = tuple(dim or 1 for dim in spec.source_shape)
            scale, offset = preprocessing[spec.name].factors(len(shape))
            held[spec.name] = Factors(np.broadcast_to(scale, shape), np.broadcast_to(offset, shape))
    _Folding(editor, held).run([output.name for output in proto.graph.output])
    editor.finish()
    del proto.graph.value_info[:]
    return write_onnx(proto, model.path, base=model.path.parent, inline=size <= MAX_INLINE)


class _Folding:
    """Follows factors through a graph."""

    def __init__(self, editor: Editor, held: dict[str, Factors]) -> None:
        self._editor = editor
        self._held = held

    def run(self, outputs: list[str]) -> None:
        for node in list(self._editor.nodes):
            slots = [slot for slot, name in enumerate(node.input) if name in self._held]
            if slots:
                self._node(node, slots)
            elif any(name in self._held for name in self._editor.captured(node)):
                raise _refused(node, "a branch or a loop reads the input")
        left = [name for name in outputs if name in self._held]
        if left:
            raise ConversionError(
                "the input's preprocessing cannot be folded",
                where=f"output {left[0]}",
                why="it returns what the input is made of",
                hint=_HINT,
            )

    def _node(self, node: NodeProto, slots: list[int]) -> None:
        kind = node.op_type
        if kind in ("Cast", "CastLike"):
            self._hand_on(node, self._of(node))
        elif kind in ("Shape", "Size"):
            return
        elif kind == "Concat":
            self._concat(node, slots)
        elif kind in _MOVES and slots == [0]:
            self._moved(node)
        elif kind in _MEANS and slots == [0]:
            self._averaged(node)
        elif kind == "Pad" and slots == [0]:
            self._padded(node)
        elif kind in _ARITHMETIC and len(slots) == 1:
            self._arithmetic(node, slots[0])
        elif kind in _LAYERS and slots == [0]:
            why = _LAYERS[kind](self._editor, node, self._of(node).scale, self._of(node).offset)
            if why:
                raise _refused(node, why)
        else:
            raise _refused(node, "it is none that mean and standard deviation pass through")

    def _of(self, node: NodeProto) -> Factors:
        return self._held[node.input[0]]

    def _hand_on(self, node: NodeProto, factors: Factors) -> None:
        self._held.update(dict.fromkeys((name for name in node.output if name), factors))

    def _moved(self, node: NodeProto) -> None:
        factors = self._of(node)
        scales = self._editor.evaluate(node, {node.input[0]: factors.scale})
        offsets = self._editor.evaluate(node, {node.input[0]: factors.offset})
        if scales is None or offsets is None:
            raise _refused(node, "how it moves values is known at run time only")
        for name, scale, offset in zip(node.output, scales, offsets, strict=True):
            self._held[name] = Factors(scale, offset)

    def _concat(self, node: NodeProto, slots: list[int]) -> None:
        if len(slots) != len(node.input):
            raise _refused(node, "it joins the input with other values")
        parts = [self._held[name] for name in node.input]
        axis = self._editor.attribute(node, "axis", 0)
        scale, offset = (
            np.concatenate([getattr(part, name) for part in parts], axis)
            for name in ("scale", "offset")
        )
        self._hand_on(node, Factors(scale, offset))

    def _averaged(self, node: NodeProto) -> None:
        factors = _per_channel(self._of(node))
        shape = self._editor.shape(node.output[0])
        if factors is None or shape is None or len(shape) != factors.scale.ndim:
            raise _refused(node, "the factors differ within a channel")
        if node.op_type == "MaxPool" and (factors.scale < 0).any():
            raise _refused(node, "a factor is negative")
        why = self._fills_in(node, factors)
        if why:
            raise _refused(node, why)
        scale, offset = (np.broadcast_to(one, shape) for one in (factors.scale, factors.offset))
        self._hand_on(node, Factors(scale, offset))

    def _fills_in(self, node: NodeProto, factors: Factors) -> str:
        """Say what an operator over areas makes up beyond the border, if it does."""
        ask = self._editor.attribute
        padded = node.op_type == "AveragePool" and any(ask(node, "pads", ()))
        if padded and ask(node, "count_include_pad", 0) and factors.offset.any():
            return "it averages with zeros beyond the border"
        mode = ask(node, "coordinate_transformation_mode", b"")
        if node.op_type == "Resize" and mode == b"tf_crop_and_resize":
            return "it fills in what lies beyond the border"
        return ""

    def _padded(self, node: NodeProto) -> None:
        factors = self._of(node)
        pads = self._editor.pads(node, factors.scale.ndim)
        if pads is None or any(end < 0 for pair in pads for end in pair):
            raise _refused(node, "how much it pads is known at run time only")
        mode = self._editor.attribute(node, "mode", b"constant").decode()
        how: Any = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}.get(mode, "edge")
        spread = _per_channel(factors) if mode == "constant" else factors
        if spread is None:
            raise _refused(node, "the factors differ within a channel")
        if mode == "constant":
            value = self._editor.pad_value(node)
            if value is None or any(map(any, pads[:2])):
                raise _refused(node, "it pads channels, or with what is known at run time only")
            self._editor.pad_with(node, pads, (value - spread.offset) / spread.scale)
        scale, offset = (np.pad(one, pads, how) for one in (factors.scale, factors.offset))
        self._hand_on(node, Factors(scale, offset))

    def _arithmetic(self, node: NodeProto, slot: int) -> None:
        factors = self._held[node.input[slot]]
        other = self._editor.constant(node.input[1 - slot])
        if other is None:
            raise _refused(node, "it joins the input with other values")
        value, scale, offset = other.astype(np.float64), factors.scale, factors.offset
        if node.op_type == "Div" and slot == 1:
            raise _refused(node, "it divides by the input")
        if node.op_type in ("Add", "Sub"):
            sign = -1.0 if node.op_type == "Sub" else 1.0
            scale = scale if slot == 0 else sign * scale
            offset = offset + sign * value if slot == 0 else value + sign * offset
        else:
            by = value if node.op_type == "Mul" else 1 / value
            scale, offset = scale * by, offset * by
        if np.broadcast_shapes(scale.shape, offset.shape) != factors.scale.shape:
            raise _refused(node, "it makes more of the input than there is")
        self._editor.bypass(node, node.input[slot])
        shape = factors.scale.shape
        self._hand_on(node, Factors(np.broadcast_to(scale, shape), np.broadcast_to(offset, shape)))


def _per_channel(factors: Factors) -> Factors | None:
    """Return the factors of each channel, ``[1, C, 1, ...]``; ``None`` where they differ within."""
    if factors.scale.ndim < 2:
        return None
    pick = (slice(0, 1), slice(None), *[slice(0, 1)] * (factors.scale.ndim - 2))
    found = Factors(factors.scale[pick], factors.offset[pick])
    same = (found.scale == factors.scale).all() and (found.offset == factors.offset).all()
    return found if same and (found.scale != 0).all() else None


_Absorb = Callable[[Editor, Any, Array, Array], str]
"""Takes factors into a node's constants; returns why it cannot, or nothing."""

_LAYERS: dict[str, _Absorb] = {
    "BatchNormalization": absorb_batch_norm,
    "Conv": absorb_conv,
    "Gemm": absorb_dense,
    "MatMul": absorb_dense,
}


def _refused(node: NodeProto, why: str) -> ConversionError:
    return ConversionError(
        "the input's preprocessing cannot be folded",
        where=f"{node.op_type} {node.name or node.output[0]}",
        why=why,
        hint=_HINT,
    )


def write_copy(model: Artifact, path: Path) -> Artifact:
    """Write an ONNX file to another place, with its weights where they fit inside."""
    import onnx

    proto = onnx.load(str(model.path), load_external_data=True)
    size = proto.ByteSize()
    return write_onnx(proto, path, base=model.path.parent, inline=size <= MAX_INLINE)
