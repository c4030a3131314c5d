"""Layers whose constants take over that what they read is ``scale * x + offset``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeconv.convert.onnx.constants import Editor
from edgeconv.core.artifacts import Array

if TYPE_CHECKING:
    from onnx import NodeProto

_RUN_TIME = "its weights are known at run time only"
_WITHIN = "mean and standard deviation differ within a channel"


def _channels(scale: Array, offset: Array) -> tuple[Array, Array] | None:
    """Return the factors of each channel; ``None`` where they differ within one."""
    flat = [one.reshape(*one.shape[:2], -1) for one in (scale, offset)]
    if scale.ndim < 3 or any((one != one[:1, :, :1]).any() for one in flat):
        return None
    first, second = (one[0, :, 0] for one in flat)
    return first, second


def absorb_conv(editor: Editor, node: NodeProto, scale: Array, offset: Array) -> str:
    """Change the weights and the bias of a Conv, and what it pads with; see `fold_input`."""
    weight, found = editor.constant(node.input[1]), _channels(scale, offset)
    has_bias = len(node.input) > 2 and node.input[2] != ""
    bias = editor.constant(node.input[2]) if has_bias else None
    if weight is None or (has_bias and bias is None):
        return _RUN_TIME
    if found is None or (found[0] == 0).any():
        return _WITHIN
    factor, shift = found
    groups = int(editor.attribute(node, "group", 1))
    each = weight.shape[0] // groups
    # The channels that each filter reads, [filter, channel of its group, 1, ...].
    shape = (weight.shape[0], weight.shape[1], *[1] * (weight.ndim - 2))
    factors, shifts = (
        np.repeat(one.reshape(groups, -1), each, axis=0).reshape(shape) for one in (factor, shift)
    )
    axes = tuple(range(1, weight.ndim))
    real = weight.astype(np.float64)
    more = (real * shifts).sum(axis=axes)
    start = np.zeros(weight.shape[0]) if bias is None else bias.astype(np.float64)
    pads = _pads(editor, node, weight.shape[2:], scale.shape[2:])
    if pads is None:
        return "how much it pads is known at run time only"
    inputs = [node.input[0], editor.add(node.output[0], real * factors, weight.dtype)]
    inputs.append(editor.add(node.output[0], start + more, weight.dtype))
    if any(map(any, pads)) and shift.any():
        values = (-shift / factor).reshape(1, -1, *[1] * (weight.ndim - 2))
        inputs[0] = editor.padded(node, node.input[0], [(0, 0), (0, 0), *pads], values)
        kept = [one for one in node.attribute if one.name not in ("pads", "auto_pad")]
        del node.attribute[:]
        node.attribute.extend(kept)
    del node.input[:]
    node.input.extend(inputs)
    return ""


def _pads(
    editor: Editor, node: NodeProto, kernel: tuple[int, ...], size: tuple[int, ...]
) -> list[tuple[int, int]] | None:
    """Return how much a Conv pads at both ends of each axis of space."""
    rank = len(kernel)
    automatic = editor.attribute(node, "auto_pad", b"NOTSET").decode()
    if automatic == "VALID":
        return [(0, 0)] * rank
    if automatic == "NOTSET":
        flat = [int(one) for one in editor.attribute(node, "pads", [0] * 2 * rank)]
        return list(zip(flat[:rank], flat[rank:], strict=True))
    strides = editor.attribute(node, "strides", [1] * rank)
    dilations = editor.attribute(node, "dilations", [1] * rank)
    found = []
    for length, taps, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        outputs = -(-length // stride)
        total = max(0, (outputs - 1) * stride + (taps - 1) * dilation + 1 - length)
        less, more = total // 2, total - total // 2
        found.append((less, more) if automatic == "SAME_UPPER" else (more, less))
    return found


def absorb_dense(editor: Editor, node: NodeProto, scale: Array, offset: Array) -> str:
    """Change the weights and the bias of a MatMul or Gemm; see `fold_input`."""
    weight = editor.constant(node.input[1])
    if weight is None or weight.ndim != 2:
        return _RUN_TIME
    if editor.attribute(node, "transA", 0):
        return "it reads its input transposed"
    rows = [one.reshape(-1, one.shape[-1]) for one in (scale, offset)]
    if any((one != one[:1]).any() for one in rows):
        return "mean and standard deviation differ from row to row"
    factor, shift = (one[0] for one in rows)
    turned = bool(editor.attribute(node, "transB", 0))
    real = weight.astype(np.float64)
    factors = factor[np.newaxis] if turned else factor[:, np.newaxis]
    more = real @ shift if turned else shift @ real
    folded = editor.add(node.output[0], real * factors, weight.dtype)
    if node.op_type == "Gemm":
        return _gemm(editor, node, folded, more)
    node.input[1] = folded
    return _added(editor, node, more.astype(weight.dtype))


def _gemm(editor: Editor, node: NodeProto, weight: str, more: Array) -> str:
    alpha, beta = (float(editor.attribute(node, name, 1.0)) for name in ("alpha", "beta"))
    bias: Array | None = np.zeros(1)
    if len(node.input) > 2 and node.input[2]:
        bias = editor.constant(node.input[2])
    if bias is None or beta == 0:
        return "its bias is known at run time only"
    total = bias.astype(np.float64) + alpha / beta * more
    inputs = [node.input[0], weight, editor.add(node.output[0], total, editor.real(node))]
    del node.input[:]
    node.input.extend(inputs)
    return ""


def _added(editor: Editor, node: NodeProto, more: Array) -> str:
    """Add a vector to what a MatMul makes: to the bias that is added anyway where there is one."""
    if not more.any():
        return ""
    made = node.output[0]
    readers = editor.consumers(made)
    if len(readers) == 1 and readers[0].op_type == "Add" and not editor.is_output(made):
        slot = 1 - list(readers[0].input).index(made)
        bias = editor.constant(readers[0].input[slot])
        if bias is not None and bias.ndim <= 1:
            total = bias.astype(np.float64) + more
            readers[0].input[slot] = editor.add(made, total, more.dtype)
            return ""
    product = editor.insert(node, "MatMul", list(node.input))
    inputs = [product, editor.add(made, more, more.dtype)]
    del node.input[:]
    node.input.extend(inputs)
    node.op_type = "Add"
    return ""


def absorb_batch_norm(editor: Editor, node: NodeProto, scale: Array, offset: Array) -> str:
    """Change the scale and the mean of a BatchNormalization; see `fold_input`."""
    constants = [editor.constant(name) for name in node.input[1:5]]
    flat = _channels(scale, offset)
    if flat is None and scale.ndim == 2:
        flat = scale[0], offset[0]
    if any(one is None for one in constants) or editor.attribute(node, "training_mode", 0):
        return _RUN_TIME
    if flat is None or (flat[0] == 0).any():
        return _WITHIN
    factor, shift = flat
    gain, _, mean, _ = (np.asarray(one, np.float64) for one in constants)
    dtype = editor.real(node)
    node.input[1] = editor.add(node.output[0], gain * factor, dtype)
    node.input[3] = editor.add(node.output[0], (mean - shift) / factor, dtype)
    return ""
