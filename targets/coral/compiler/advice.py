"""What the compiler's messages mean, and what to do about them: two tables."""

from __future__ import annotations

from dataclasses import dataclass

MAPPED = "Mapped to Edge TPU"

STATUSES: dict[str, str] = {
    "More than one subgraph is not supported": (
        "it would map, but stands behind an operator that does not: rewrite that one"
    ),
    "Operation is otherwise supported, but not mapped due to some unspecified limitation": (
        "this instance is too large or too awkward: quantize inputs and outputs, keep images "
        "channels last, reduce the size, or split the tensor"
    ),
    "Operation is working on an unsupported data type": (
        "quantize everything to 8 bits, inputs and outputs included, and cut the integer tail"
    ),
    "Operation not supported": "the Edge TPU does not have it: convert with --target coral",
    "Operation version not supported": (
        "the model uses a newer form of it: convert with --target coral"
    ),
    "Tensor has unsupported rank (up to 3 innermost dimensions mapped)": (
        "use a batch of 1 and at most three dimensions beside it"
    ),
    "Filter, bias, or other param is not constant at compile-time": (
        "store the weights in the model, inside the flatbuffer"
    ),
    "Image-interpolation layer won't run precisely enough on Edge TPU": (
        "enlarge in steps of two, or use nearest neighbours"
    ),
    "For example, a fully-connected or softmax layer with 2D output": (
        "its output has more than one row: flatten to [1, N]"
    ),
}
"""What to do about each status of the operator table."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What the compiler says when it fails.

    Attributes:
        pattern: Part of the text, in lower case.
        why: What it means.
        hint: What to do.
        bisectable: Whether one operator triggers it, so that a search finds which.
    """

    pattern: str
    why: str
    hint: str
    bisectable: bool = False


CAUSES: tuple[Cause, ...] = (
    Cause(
        "model not quantized",
        "no activation has 8 bits",
        "quantize the whole model: --quantize int8 --io-dtype int8",
    ),
    Cause(
        "didn't find op for builtin opcode",
        "an operator is newer than the compiler",
        "convert with --target coral, which writes versions that the compiler knows",
    ),
    Cause(
        "op builtin_code out of range",
        "an operator does not exist in the compiler's TensorFlow Lite",
        "rewrite it; --target coral --allow-approximate does with GELU",
    ),
    Cause(
        "dynamic-sized tensors",
        "a shape is known at run time only",
        "convert with fixed shapes and a batch of 1",
    ),
    Cause(
        "unresolved custom op",
        "the model has a custom operator that the compiler lacks",
        "cut the model before it",
    ),
    Cause(
        "large activation tensors",
        "an activation does not fit into the memory of the tiles",
        "use a smaller input, keep images channels last, or try --search-delegate",
        bisectable=True,
    ),
    Cause(
        "compilation timeout",
        "the compiler's own time limit passed, mostly because of large activations",
        "raise the limit, or use a smaller input",
        bisectable=True,
    ),
    Cause(
        "internal error",
        "the compiler's backend gives no reason",
        "find the operator that triggers it with --bisect, or try --search-delegate",
        bisectable=True,
    ),
    Cause(
        "internal compiler error",
        "the compiler gives no reason",
        "find the operator that triggers it with --bisect, or use compiler 16",
        bisectable=True,
    ),
    Cause(
        "intermediate_tensors doesn't match",
        "there must be one list of intermediate tensors for each model",
        "give as many lists, parted by colons, as models",
    ),
    Cause(
        "segmentation fault",
        "the compiler crashed",
        "find the operator that triggers it with --bisect; it is known of segments of models of "
        "fully connected layers only",
        bisectable=True,
    ),
    Cause(
        "non-broadcastable operands",
        "a factor was left channels first when the layout changed",
        "fold batch normalisations before the conversion",
    ),
    Cause(
        "scale_diff / output_scale",
        "the scale of a bias is not the product of its input's and its weight's",
        "quantize the model again instead of editing it",
    ),
    Cause(
        "input->dims->data",
        "shapes inside the model contradict each other",
        "store paddings as int32, and split grouped convolutions: --target coral does both",
    ),
    Cause(
        "model could not be parsed",
        "the compiler's TensorFlow Lite cannot read the model",
        "look at the lines before it with --verbose",
    ),
    Cause(
        "model failed in tflite interpreter",
        "the compiler's TensorFlow Lite cannot prepare the model",
        "look at the lines before it with --verbose",
    ),
)
"""Failures by their text. The first that fits counts, so the more telling ones come first."""

UNEXPLAINED = Cause(
    "",
    "the compiler says no more than that",
    "find the operator that triggers it with --bisect; very large fully connected layers, and "
    "weights that are all zero, are known to",
    bisectable=True,
)


def cause_of(text: str) -> Cause:
    """Return what a failed run's output means."""
    lower = text.lower()
    return next((cause for cause in CAUSES if cause.pattern in lower), UNEXPLAINED)


def advice_for(status: str) -> str:
    """Return what to do about a status; empty for a mapped operator or an unknown status."""
    return STATUSES.get(status, "")
