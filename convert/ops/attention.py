"""Scaled dot-product attention. Source of the semantics: ONNX operator spec, Attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.lowering import cast, dtype_of
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged
from edgeconv.core.artifacts import Array

_LOWEST = np.finfo(np.float32).min
_SCALED, _CAPPED, _BIASED, _SOFTMAX = range(4)  # values of qk_matmul_output_mode


@dataclass(frozen=True, slots=True)
class Bias:
    """What is added to the scores before the softmax.

    Attributes:
        values: Broadcasts to [batch, heads, queries, keys]; None adds nothing. An array where it
            is known at conversion time.
        masks_rows: A whole row may be minus infinity: its probabilities are then zeros.
    """

    values: Tensor | None
    masks_rows: bool


@op("Attention", since=23)
def attention(
    g: Context,
    q: Value,
    k: Value,
    v: Value,
    attn_mask: Value | None = None,
    past_key: Value | None = None,
    past_value: Value | None = None,
    nonpad_kv_seqlen: Value | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    left_window_size: int = -1,
    q_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int = 1,
) -> tuple[Value, ...]:
    """Attention: Y, and the present key and value and the score matrix if wanted."""
    query = _heads(q, q_num_heads)
    key = _with_past(_heads(k, kv_num_heads), past_key)
    value = _with_past(_heads(v, kv_num_heads), past_value)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    past = 0 if past_key is None else past_key.shape[2]
    windows = (left_window_size, 0 if is_causal else right_window_size)
    if is_causal and right_window_size > 0:
        windows = (left_window_size, 0)
    sizes = (query.shape[2], key.shape[2])
    bias = _bias(attn_mask, nonpad_kv_seqlen, past, windows, sizes)
    scores = {_SCALED: grouped_matmul(query * np.float32(factor), key, transpose=True)}
    scores[_CAPPED] = _capped(scores[_SCALED], softcap)
    scores[_BIASED] = scores[_CAPPED] if bias.values is None else scores[_CAPPED] + bias.values
    scores[_SOFTMAX] = _probabilities(scores[_BIASED], bias)
    y = Value.of(grouped_matmul(scores[_SOFTMAX], value))
    if q.rank == 3:
        y = y.transpose((0, 2, 1, 3)).reshape((*q.shape[:2], y.shape[1] * y.shape[3]))
    matrix = Value.of(scores[qk_matmul_output_mode])
    return (y, Value.of(key), Value.of(value), matrix)[: len(g.outputs)]


@op("FlexAttention", domain="ai.onnx.preview")
def flex_attention(
    g: Context,
    q: Value,
    k: Value,
    v: Value,
    *,
    prob_mod: Any = None,
    scale: float | None = None,
    score_mod: Any = None,
    softmax_precision: int = 1,
) -> Value:
    """FlexAttention: subgraphs may change the scores and the probabilities."""
    query, key, value = (arranged(x, (0, 1, 2, 3)) for x in (q, k, v))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = Value.of(grouped_matmul(query * np.float32(factor), key, transpose=True))
    if score_mod is not None:
        scores = g.nested(score_mod, [scores])[0]
    weights = Value.of(tf.nn.softmax(arranged(scores, (0, 1, 2, 3))))
    if prob_mod is not None:
        weights = g.nested(prob_mod, [weights])[0]
    return Value.of(grouped_matmul(arranged(weights, (0, 1, 2, 3)), value))


def _heads(x: Value, heads: int) -> Tensor:
    """Return [batch, heads, sequence, size]; a packed x is [batch, sequence, heads * size]."""
    if x.rank == 3:
        if not heads:
            raise Unsupported("rank-3 inputs without q_num_heads and kv_num_heads")
        batch, sequence, hidden = x.shape
        x = x.reshape((batch, sequence, heads, hidden // heads)).transpose((0, 2, 1, 3))
    return arranged(x, (0, 1, 2, 3))


def _with_past(x: Tensor, past: Value | None) -> Tensor:
    return x if past is None else tf.concat([arranged(past, (0, 1, 2, 3)), x], 2)


def grouped_matmul(a: Tensor, b: Tensor, *, transpose: bool = False) -> Tensor:
    """Multiply matrices by head where b may have fewer heads, each shared by a run of a's heads.

    The heads that share one are rows of one product; nothing is repeated.

    Args:
        a: [batch, heads, rows, inner].
        b: [batch, shared heads, inner, columns], the last two swapped with ``transpose``.
        transpose: b's matrices are transposed.
    """
    batch, heads, rows, inner = a.shape
    shared = b.shape[1]
    if heads == shared:
        return tf.matmul(a, b, transpose_b=transpose)
    stacked = tf.reshape(a, (batch, shared, heads // shared * rows, inner))
    y = tf.matmul(stacked, b, transpose_b=transpose)
    return tf.reshape(y, (batch, heads, rows, y.shape[-1]))


def _capped(scores: Tensor, cap: float) -> Tensor:
    if not cap:
        return scores
    return tf.tanh(scores * np.float32(1 / cap)) * np.float32(cap)


def _probabilities(scores: Tensor, bias: Bias) -> Tensor:
    probabilities = tf.nn.softmax(scores)
    if not bias.masks_rows:
        return probabilities
    # LiteRT starts a maximum from the lowest finite number.
    some = tf.reduce_max(bias.values, axis=-1, keepdims=True) > _LOWEST
    return tf.where(some, probabilities, np.float32(0))


def _bias(
    mask: Value | None,
    lengths: Value | None,
    past: int,
    windows: tuple[int, int],
    sizes: tuple[int, int],
) -> Bias:
    """Combine the mask, the window around each query's own position, and the valid lengths."""
    parts: list[Tensor] = []
    if mask is not None:
        parts.append(_from_mask(mask, sizes[1]))
    queries, keys = (np.arange(size) for size in sizes)
    ahead: Tensor = keys[None, :] - queries[:, None] - past
    if lengths is not None:
        valid = tf.reshape(cast(lengths.tensor, np.int32), (-1, 1, 1, 1))
        parts.append(_from_allowed(keys.astype(np.int32).reshape(1, 1, 1, -1) < valid))
        ahead = ahead.astype(np.int32) - (valid - np.int32(sizes[0]))
    left, right = windows
    if right >= 0:
        parts.append(_from_allowed(ahead <= right))
    if left >= 0:
        parts.append(_from_allowed(ahead >= -left))
    return _combined(parts)


def _combined(parts: list[Tensor]) -> Bias:
    fixed: Array | None = None
    total: Tensor | None = None
    for part in parts:
        if isinstance(part, np.ndarray):
            fixed = part if fixed is None else fixed + part
        else:
            total = part if total is None else total + part
    if total is None:
        if fixed is None or not fixed.any():
            return Bias(None, masks_rows=False)
        return Bias(fixed, masks_rows=bool(np.isneginf(fixed.max(-1)).any()))
    return Bias(total if fixed is None or not fixed.any() else total + fixed, masks_rows=True)


def _from_allowed(allowed: Tensor) -> Tensor:
    """Return zero where attention is allowed, else minus infinity."""
    if isinstance(allowed, np.ndarray):
        return np.where(allowed, np.float32(0), np.float32(-np.inf))
    return tf.where(allowed, np.float32(0), np.float32(-np.inf))


def _from_mask(mask: Value, keys: int) -> Tensor:
    """Return a boolean or additive mask as an addition, padded to all keys with masked ones."""
    t = arranged(mask, range(mask.rank))
    if dtype_of(t) == np.bool_:
        t = _from_allowed(t)
    missing = keys - t.shape[-1]
    if missing <= 0:
        return t
    sides = [(0, 0)] * (len(t.shape) - 1) + [(0, missing)]
    if isinstance(t, np.ndarray):
        return np.pad(t, sides, constant_values=-np.inf)
    return tf.pad(t, sides, constant_values=np.float32(-np.inf))
