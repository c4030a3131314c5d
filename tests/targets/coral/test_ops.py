"""Each rule of the operator table: what maps, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeconv.targets.coral.placement.ops import REWRITES, RULES, refusal
from edgeconv.tflite.view import Op
from tests.targets.coral.graphs import Graph

_Image = (1, 8, 8, 4)


def _conv(**options: Any) -> Op:
    g = Graph()
    bias = g.constant(np.zeros(4))
    return g.op(
        "CONV_2D",
        g.tensor(*_Image),
        g.weight(4, 3, 3, 4),
        bias,
        out=g.tensor(*_Image),
        **{"dilationWFactor": 1, "dilationHFactor": 1, **options},
    )


def _linear(rows: int, weight: bool = True, **options: Any) -> Op:
    g = Graph()
    factor = g.weight(5, 8) if weight else g.tensor(5, 8)
    return g.op(
        "FULLY_CONNECTED", g.tensor(rows, 8), factor, None, out=g.tensor(rows, 5), **options
    )


def _unary(
    name: str,
    shape: tuple[int, ...],
    out: tuple[int, ...] | None = None,
    dtype: str = "int8",
    **options: Any,
) -> Op:
    g = Graph()
    return g.op(
        name, g.tensor(*shape, dtype=dtype), out=g.tensor(*(out or shape), dtype=dtype), **options
    )


def _with(
    name: str, shape: tuple[int, ...], value: Any, out: tuple[int, ...], **options: Any
) -> Op:
    g = Graph()
    return g.op(name, g.tensor(*shape), g.constant(value), out=g.tensor(*out), **options)


def _concat(constant: Any = None, inputs: int = 2, axis: int = 3) -> Op:
    g = Graph()
    parts = [g.tensor(*_Image) for _ in range(inputs)]
    if constant is not None:
        parts[-1] = g.constant(np.full(_Image, constant), "int8")
    return g.op("CONCATENATION", *parts, out=g.tensor(1, 8, 8, 4 * inputs), axis=axis)


def _slice(strides: list[int], **options: Any) -> Op:
    g = Graph()
    ends = (g.constant([0] * 4), g.constant([1, 8, 8, 2]), g.constant(strides))
    return g.op("STRIDED_SLICE", g.tensor(*_Image), *ends, out=g.tensor(1, 8, 8, 2), **options)


def _resize(before: int, after: int, name: str = "RESIZE_BILINEAR") -> Op:
    return _with(name, (1, before, before, 8), [after, after], (1, after, after, 8))


def _quantize(dtype: str) -> Op:
    g = Graph()
    return g.op("QUANTIZE", g.tensor(*_Image, dtype=dtype), out=g.tensor(*_Image))


def _float_add() -> Op:
    g = Graph()
    a, b, c = (g.tensor(*_Image, dtype="float32") for _ in range(3))
    return g.op("ADD", a, b, out=c)


def _split(axis: int) -> Op:
    g = Graph()
    return g.op("SPLIT", g.constant(axis), g.tensor(*_Image), out=g.tensor(1, 8, 8, 2))


def _prelu(*alpha: int) -> Op:
    g = Graph()
    return g.op("PRELU", g.tensor(*_Image), g.weight(*alpha), out=g.tensor(*_Image))


def _deconvolution(constant: bool = True, **options: Any) -> Op:
    g = Graph()
    kernel = g.weight(4, 3, 3, 4) if constant else g.tensor(1, 3, 3, 4)
    shape = g.constant([1, 16, 16, 4])
    return g.op(
        "TRANSPOSE_CONV", shape, kernel, g.tensor(*_Image), out=g.tensor(1, 16, 16, 4), **options
    )


def _lstm() -> Op:
    g = Graph()
    state = replace(g.tensor(1, 20, dtype="int16"), variable=True)
    inputs = (g.tensor(1, 28, 28), g.weight(20, 28), state)
    return g.op("UNIDIRECTIONAL_SEQUENCE_LSTM", *inputs, out=g.tensor(1, 28, 20))


def _pack(axis: int) -> Op:
    g = Graph()
    parts = (g.tensor(1, 8, 4), g.tensor(1, 8, 4))
    return g.op("PACK", *parts, out=g.tensor(1, 2, 8, 4), axis=axis)


MAPPED: dict[str, Callable[[], Op]] = {
    "a convolution": _conv,
    "a dilated convolution": lambda: _conv(dilationWFactor=2, dilationHFactor=2),
    "a convolution with ReLU6": lambda: _conv(fusedActivationFunction=3),
    "one row": lambda: _linear(1),
    "two tensors": _concat,
    "a concatenated zero": lambda: _concat(0),
    "a mean over the image": lambda: _with("MEAN", _Image, [1, 2], (1, 4)),
    "a mean over four channels": lambda: _with("MEAN", _Image, [-1], (1, 8, 8)),
    "a sum over rows": lambda: _with("SUM", _Image, [1], (1, 8, 4)),
    "zeros around": lambda: _with("PAD", _Image, [[0, 0], [1, 1], [1, 1], [0, 0]], (1, 10, 10, 4)),
    "uint8 to int8": lambda: _quantize("uint8"),
    "twice the size": lambda: _resize(6, 12),
    "twice the size, nearest": lambda: _resize(6, 12, "RESIZE_NEAREST_NEIGHBOR"),
    "the same size": lambda: _resize(33, 33),
    "a slice": lambda: _slice([1] * 4),
    "a split of channels": lambda: _split(3),
    "a softmax of 16384": lambda: _unary("SOFTMAX", (1, 16384)),
    "leading ones": lambda: _unary("SQUEEZE", (1, 1, 1, 9), (9,)),
    "height and width exchanged": lambda: _with(
        "TRANSPOSE", (1, 6, 8, 4), [0, 2, 1, 3], (1, 8, 6, 4)
    ),
    "ones moved": lambda: _with("TRANSPOSE", (1, 1, 8, 4), [0, 2, 1, 3], (1, 8, 1, 4)),
    "one alpha for each channel": lambda: _prelu(1, 1, 4),
    "repeated pixels": lambda: _with("TILE", (1, 1, 1, 8), [1, 33, 33, 1], (1, 33, 33, 8)),
    "a pool": lambda: _unary("MAX_POOL_2D", _Image),
    "a sigmoid": lambda: _unary("LOGISTIC", _Image),
    "a transposed convolution": _deconvolution,
    "the least over the image": lambda: _with("REDUCE_MIN", _Image, [1, 2], (1, 4)),
    "a mean over eight channels": lambda: _with("MEAN", (1, 8, 8, 8), [3], (1, 8, 8)),
    "a state": _lstm,
    "a constant for each channel": lambda: _with("ADD", _Image, [1, 2, 3, 4], _Image),
    "a fused ReLU of a sum": lambda: _with("ADD", _Image, [1], _Image, fusedActivationFunction=1),
    "a large window": lambda: _unary("AVERAGE_POOL_2D", _Image, filterHeight=33, filterWidth=33),
    "rows put side by side": lambda: _pack(1),
    "a slice that drops an axis": lambda: _slice([1] * 4, shrinkAxisMask=1),
    "half the size": lambda: _resize(8, 4),
}

REFUSED: dict[str, tuple[Callable[[], Op], str]] = {
    "uneven dilation": (lambda: _conv(dilationWFactor=2), "dilates by 1 x 2"),
    "a convolution with tanh": (lambda: _conv(fusedActivationFunction=4), "fused activation"),
    "two rows": (lambda: _linear(2), "more than one row"),
    "shuffled weights": (lambda: _linear(1, weightsFormat=1), "shuffled"),
    "computed weights": (lambda: _linear(1, weight=False), "is computed"),
    "a concatenated one": (lambda: _concat(1), "concatenates a constant"),
    "a zero among three": (lambda: _concat(0, inputs=3), "concatenates a constant"),
    "a concatenated batch": (lambda: _concat(axis=0), "along the batch"),
    "a mean over the batch": (lambda: _with("MEAN", _Image, [0], (8, 8, 4)), "the batch"),
    "a mean over three channels": (
        lambda: _with("MEAN", (1, 8, 8, 3), [3], (1, 8, 8)),
        "averages 3 channels",
    ),
    "a padded batch": (
        lambda: _with("PAD", _Image, [[1, 0], [0, 0], [0, 0], [0, 0]], (2, 8, 8, 4)),
        "2, 8, 8, 4",
    ),
    "float to int8": (lambda: _quantize("float32"), "quantizes float32"),
    "float": (_float_add, "is float32"),
    "three times the size": (lambda: _resize(6, 18), "enlarges"),
    "one pixel enlarged": (lambda: _resize(1, 33), "enlarges"),
    "every second pixel": (lambda: _slice([1, 2, 2, 1]), "strides"),
    "a new axis": (lambda: _slice([1] * 4, newAxisMask=1), "new axis"),
    "a split batch": (lambda: _split(0), "splits the batch"),
    "too many classes": (lambda: _unary("SOFTMAX", (1, 16385)), "at most 16384"),
    "inner ones": (lambda: _unary("SQUEEZE", (1, 9, 1, 4), (9, 4)), "inner dimension"),
    "channels first": (
        lambda: _with("TRANSPOSE", _Image, [0, 3, 1, 2], (1, 4, 8, 8)),
        "moves the channels",
    ),
    "an alpha for each pixel": (lambda: _prelu(8, 8, 4), "alpha"),
    "a batch of two": (lambda: _unary("RELU", (2, 8, 8, 4)), "[2, 8, 8, 4]"),
    "five dimensions": (lambda: _unary("RELU", (1, 2, 8, 8, 4)), "[1, 2, 8, 8, 4]"),
    "a pool with ReLU": (lambda: _unary("MAX_POOL_2D", _Image, fusedActivationFunction=1), "fused"),
    "a transposed convolution with ReLU": (
        lambda: _deconvolution(fusedActivationFunction=1),
        "fused activation",
    ),
    "a computed kernel": (lambda: _deconvolution(constant=False), "is computed"),
    "packed along the batch": (lambda: _pack(0), "along the batch"),
    "a repeated batch": (lambda: _with("TILE", _Image, [2, 1, 1, 1], (2, 8, 8, 4)), "[2, 8, 8, 4]"),
    "the most over the batch": (lambda: _with("REDUCE_MAX", _Image, [0], (8, 8, 4)), "the batch"),
    "a sum over the batch": (lambda: _with("SUM", _Image, [0, 1], (8, 4)), "the batch"),
    "a softmax of rows": (lambda: _unary("SOFTMAX", (1, 4, 10)), "more than one row"),
    "an ellipsis": (lambda: _slice([1] * 4, ellipsisMask=1), "ellipsis"),
    "a concatenation with ReLU": (
        lambda: _unary("CONCATENATION", _Image, axis=3, fusedActivationFunction=1),
        "fused",
    ),
    "16 bits": (lambda: _unary("RELU", _Image, dtype="int16"), "int16"),
    "three times the size, nearest": (
        lambda: _resize(6, 18, "RESIZE_NEAREST_NEIGHBOR"),
        "enlarges",
    ),
    "what it does not have": (lambda: _unary("HARD_SWISH", _Image), "has no HARD_SWISH"),
    "a custom operator": (lambda: _unary("PosenetDecoderOp", _Image), "has no PosenetDecoderOp"),
}


@pytest.mark.parametrize("case", MAPPED)
def test_it_maps(case: str) -> None:
    assert refusal(MAPPED[case]()) is None


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_a_reason_and_advice(case: str) -> None:
    build, words = REFUSED[case]
    found = refusal(build())
    assert found is not None
    assert words in found.why
    assert found.advice
    assert found.status


@pytest.mark.parametrize(
    ("name", "oldest"),
    [("PRELU", 13), ("SUM", 13), ("EXPAND_DIMS", 13), ("RSQRT", 14), ("TRANSPOSE", 14),
     ("QUANTIZE", 13), ("UNIDIRECTIONAL_SEQUENCE_LSTM", 12)],
)  # fmt: skip
def test_operators_need_the_runtime_that_brought_them(name: str, oldest: int) -> None:
    assert RULES[name].min_runtime == oldest


def test_older_runtimes_have_fewer_operators() -> None:
    op = MAPPED["height and width exchanged"]()
    assert refusal(op, runtime=14) is None
    found = refusal(op, runtime=13)
    assert found is not None
    assert "runtime 14" in found.why


def test_no_operator_is_both_supported_and_to_be_rewritten() -> None:
    assert not RULES.keys() & REWRITES.keys()
