"""Operators that mix the positions of a sequence, other than attention itself."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.attention import grouped_matmul
from edgeconv.convert.ops.conv import conv
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged

_LONGEST = 256  # steps of a recurrence that are worth unrolling
_RULES = {"linear": (False, False), "gated": (True, False), "delta": (False, True),
          "gated_delta": (True, True)}  # fmt: skip
"""For each update rule of LinearAttention: whether it decays, and whether it corrects."""


@op("RotaryEmbedding", since=23)
def rotary_embedding(
    g: Context,
    x: Value,
    cos_cache: Value,
    sin_cache: Value,
    position_ids: Value | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Value:
    """RotaryEmbedding: x [batch, heads, sequence, size] or [batch, sequence, heads * size].

    Source: Su et al. 2021, RoFormer, section 3.4.2.
    """
    packed = x.rank == 3
    if packed:
        batch, sequence, hidden = x.shape
        t = arranged(x, (0, 1, 2), (batch, sequence, num_heads, hidden // num_heads))
    else:
        t = arranged(x, (0, 1, 2, 3))
    head_axis = 2 if packed else 1
    cos, sin = (
        tf.expand_dims(_rows_at(cache, position_ids), head_axis) for cache in (cos_cache, sin_cache)
    )
    turned = rotary_embedding_dim or t.shape[-1]
    y = _rotated(t[..., :turned], cos, sin, interleaved=bool(interleaved))
    if turned < t.shape[-1]:
        y = tf.concat([y, t[..., turned:]], -1)
    return Value.of(y).reshape(x.shape)


def _rows_at(cache: Value, positions: Value | None) -> Tensor:
    if positions is None:
        return arranged(cache, range(cache.rank))
    return tf.gather(arranged(cache, (0, 1)), arranged(positions, (0, 1)))


def _rotated(t: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool) -> Tensor:
    half = t.shape[-1] // 2
    if interleaved:
        first, second = t[..., 0::2], t[..., 1::2]
    else:
        first, second = t[..., :half], t[..., half:]
    real, imaginary = cos * first - sin * second, sin * first + cos * second
    if interleaved:
        return tf.reshape(tf.stack([real, imaginary], -1), t.shape)
    return tf.concat([real, imaginary], -1)


@op("CausalConvWithState", since=27)
def causal_conv_with_state(
    g: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    past_state: Value | None = None,
    *,
    activation: str = "none",
) -> tuple[Value, ...]:
    """CausalConvWithState: x [batch, channels, length], weight [channels, 1, width]."""
    before = weight.shape[2] - 1
    t = arranged(x, (0, 2, 1))
    if past_state is not None:
        t = tf.concat([arranged(past_state, (0, 2, 1)), t], 1)
    elif before:
        t = tf.pad(t, [(0, 0), (before, 0), (0, 0)])
    padded = Value.of(t, (0, 2, 1))
    y: Value = conv(g, padded, weight, bias, group=x.shape[1])
    if activation in ("silu", "swish"):
        y = y.map(lambda u: u * tf.sigmoid(u))
    elif activation != "none":
        raise Unsupported(f"activation {activation}")
    state = t[:, t.shape[1] - before :]
    return (y, Value.of(state, (0, 2, 1)))[: len(g.outputs)]


@op("LinearAttention", since=27)
def linear_attention(
    g: Context,
    query: Value,
    key: Value,
    value: Value,
    past_state: Value | None = None,
    decay: Value | None = None,
    beta: Value | None = None,
    *,
    q_num_heads: int,
    kv_num_heads: int,
    chunk_size: int = 64,
    scale: float = 0.0,
    update_rule: str = "gated_delta",
) -> tuple[Value, ...]:
    """LinearAttention, one step of the recurrence after another.

    query, key, value are [batch, length, heads * size]; the state is [batch, kv heads, key size,
    value size].
    """
    if update_rule not in _RULES:
        raise Unsupported(f"update_rule {update_rule}")
    decays, corrects = _RULES[update_rule]
    batch, length, _ = query.shape
    if length > _LONGEST:
        raise Unsupported(f"{length} steps", f"at most {_LONGEST} are unrolled")
    queries, keys, values = (
        _by_step(x, heads)
        for x, heads in ((query, q_num_heads), (key, kv_num_heads), (value, kv_num_heads))
    )
    factor = scale or 1 / math.sqrt(queries[0].shape[-1])
    gates = _columns(decay, kv_num_heads) if decays and decay is not None else None
    rates = _by_step(beta, beta.shape[-1]) if corrects and beta is not None else None
    state = _initial(past_state, (batch, kv_num_heads, keys[0].shape[-1], values[0].shape[-1]))
    outputs = []
    for step in range(length):
        written = values[step]
        if gates is not None:
            state = state * tf.exp(gates[step])
        if rates is not None:
            written = rates[step] * (written - tf.matmul(keys[step], state))
        state = state + tf.matmul(keys[step], written, transpose_a=True)
        outputs.append(grouped_matmul(queries[step] * np.float32(factor), state))
    y = tf.concat(outputs, 2)  # [batch, heads, length, size]
    packed = Value.of(y).transpose((0, 2, 1, 3)).reshape((batch, length, y.shape[1] * y.shape[3]))
    return (packed, Value.of(state))[: len(g.outputs)]


def _initial(past: Value | None, shape: tuple[int, ...]) -> Tensor:
    return np.zeros(shape, np.float32) if past is None else arranged(past, (0, 1, 2, 3))


def _by_step(x: Value, heads: int) -> list[Tensor]:
    """Cut [batch, length, heads * size] into a [batch, heads, 1, size] for each step."""
    batch, length, hidden = x.shape
    t = arranged(x, (0, 1, 2), (batch, length, heads, hidden // heads))
    steps = [t[:, step] for step in range(length)]
    return [tf.reshape(row, (batch, heads, 1, hidden // heads)) for row in steps]


def _columns(x: Value, heads: int) -> list[Tensor]:
    """Return what `_by_step` does as columns, [batch, heads, size, 1]."""
    return [tf.reshape(row, (*row.shape[:2], row.shape[3], 1)) for row in _by_step(x, heads)]
