"""One step of each recurrent layer. Source: ONNX operator spec, LSTM, GRU and RNN, equations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.registry import Unsupported
from edgeconv.convert.translate.value import Tensor

Activation = Callable[[Tensor], Tensor]
State = tuple[Any, ...]
Step = Callable[[Sequence[Tensor], State], State]


@dataclass(frozen=True, slots=True)
class Gates:
    """One direction of a layer.

    Attributes:
        weights: What the inputs are multiplied by, [gates, I].
        bias: Added to that product, [gates], or None.
        sizes: How the product is divided into the inputs of ``step``.
        step: Takes the divided product [B, ...] of one time and the state; returns the new
            state, whose first part is the output. Parts of a state are None while they are zero.
    """

    weights: Tensor
    bias: Tensor | None
    sizes: tuple[int, ...]
    step: Step


def times(t: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply [R, in] by the transpose of [out, in] and add a bias."""
    if isinstance(matrix, np.ndarray):
        y = tf.matmul(t, np.ascontiguousarray(matrix.T))
    else:
        y = tf.matmul(t, matrix, transpose_b=True)
    return y if bias is None else tf.nn.bias_add(y, bias)


def lstm_step(
    recurrence: Tensor,
    peepholes: Tensor | None,
    functions: Sequence[Activation],
    clip: float,
    input_forget: bool,
) -> Step:
    """Return the step of an LSTM: state h, c; ``recurrence`` [4H, H]; ``peepholes`` [3H]."""
    f, g, h = functions
    size = recurrence.shape[1]
    peeks = [None] * 3 if peepholes is None else [peepholes[n * size :][:size] for n in range(3)]

    def gate(t: Tensor, peek: Tensor | None, cell: Tensor | None) -> Tensor:
        return f(_clipped(t if peek is None or cell is None else t + peek * cell, clip))

    def step(inputs: Sequence[Tensor], state: State) -> State:
        hidden, cell = state
        t = inputs[0] if hidden is None else inputs[0] + times(hidden, recurrence)
        if peepholes is None:
            sigmoids, candidate = tf.split(t, [3 * size, size], axis=1)
            i, o, forget = tf.split(f(_clipped(sigmoids, clip)), 3, axis=1)
        else:
            i, o, forget, candidate = tf.split(t, 4, axis=1)
            i, forget = gate(i, peeks[0], cell), gate(forget, peeks[2], cell)
        added = i * g(_clipped(candidate, clip))
        kept = 1 - i if input_forget else forget
        new = added if cell is None else kept * cell + added
        if peepholes is not None:
            o = gate(o, peeks[1], new)
        return o * h(new), new

    return step


def gru_step(
    recurrence: Tensor,
    bias: Tensor | None,
    functions: Sequence[Activation],
    clip: float,
    linear_before_reset: bool,
) -> Step:
    """Return the step of a GRU: state h; ``recurrence`` [3H, H]; ``bias`` [3H] inside the reset."""
    f, g = functions
    size = recurrence.shape[1]

    def reset_after(hidden: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if hidden is not None:
            return tuple(tf.split(times(hidden, recurrence, bias), [2 * size, size], axis=1))
        return (None, None) if bias is None else (bias[: 2 * size], bias[2 * size :])

    def step(inputs: Sequence[Tensor], state: State) -> State:
        gates, candidate = inputs
        (hidden,) = state
        if linear_before_reset:
            recurrent, inner = reset_after(hidden)
        else:
            recurrent = None if hidden is None else times(hidden, recurrence[: 2 * size])
            inner = None
        gates = gates if recurrent is None else gates + recurrent
        z, r = tf.split(f(_clipped(gates, clip)), 2, axis=1)
        if inner is not None:
            candidate = candidate + r * inner
        elif hidden is not None and not linear_before_reset:
            candidate = candidate + times(r * hidden, recurrence[2 * size :])
        new = g(_clipped(candidate, clip))
        return (new - z * new if hidden is None else new + z * (hidden - new),)

    return step


def rnn_step(recurrence: Tensor, functions: Sequence[Activation], clip: float) -> Step:
    """Return the step of a plain recurrent layer: state h; ``recurrence`` [H, H]."""
    (f,) = functions

    def step(inputs: Sequence[Tensor], state: State) -> State:
        (hidden,) = state
        t = inputs[0] if hidden is None else inputs[0] + times(hidden, recurrence)
        return (f(_clipped(t, clip)),)

    return step


def _clipped(t: Tensor, clip: float) -> Tensor:
    return tf.minimum(tf.maximum(t, -clip), clip) if clip else t


def take_activations(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> list[Activation]:
    """Return functions by ONNX name; those with parameters take them from the lists in turn.

    Raises:
        Unsupported: A name that ONNX does not have.
    """
    alpha, beta = iter(alphas), iter(betas)
    functions = []
    for name in names:
        if name not in _ACTIVATIONS:
            raise Unsupported(f"activation {name}")
        function, first, second = _ACTIVATIONS[name]
        parameters = [next(alpha, first)] if first is not None else []
        parameters += [next(beta, second)] if second is not None else []
        functions.append(_bound(function, parameters))
    return functions


def _bound(function: Callable[..., Tensor], parameters: Sequence[float]) -> Activation:
    return lambda t: function(t, *parameters)


_ACTIVATIONS: dict[str, tuple[Callable[..., Any], float | None, float | None]] = {
    "Affine": (lambda t, a, b: a * t + b, 1.0, 0.0),
    "Elu": (lambda t, a: tf.nn.elu(t) if a == 1 else tf.where(t < 0, a * (tf.exp(t) - 1), t),
            1.0, None),
    "HardSigmoid": (lambda t, a, b: tf.minimum(tf.maximum(a * t + b, 0.0), 1.0), 0.2, 0.5),
    "LeakyRelu": (tf.nn.leaky_relu, 0.01, None),
    "Relu": (tf.nn.relu, None, None),
    "ScaledTanh": (lambda t, a, b: a * tf.tanh(b * t), 1.0, 1.0),
    "Sigmoid": (tf.sigmoid, None, None),
    "Softplus": (lambda t: tf.nn.relu(t) + tf.math.log(1 + tf.exp(-tf.abs(t))), None, None),
    "Softsign": (lambda t: t / (1 + tf.abs(t)), None, None),
    "Tanh": (tf.tanh, None, None),
    "ThresholdedRelu": (lambda t, a: tf.where(t > a, t, tf.zeros_like(t)), 1.0, None),
}  # fmt: skip
"""The function, and the defaults of alpha and beta where it takes them."""
