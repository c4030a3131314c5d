"""Classification losses. Source of the semantics: ONNX operator spec."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.lowering import cast
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged, channels_last


@op("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood_loss(
    g: Context,
    x: Value,
    target: Value,
    weight: Value | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Value:
    """NegativeLogLikelihoodLoss: x [N, C, d...] log-probabilities, target [N, d...]."""
    rows = arranged(x, channels_last(x.rank))
    return _loss(rows, target, weight, ignore_index, reduction)


@op("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy_loss(
    g: Context,
    scores: Value,
    labels: Value,
    weights: Value | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[Value, ...]:
    """SoftmaxCrossEntropyLoss: scores [N, C, d...]; the loss, and the log-probabilities."""
    order = channels_last(scores.rank)
    log_prob = tf.nn.log_softmax(arranged(scores, order))
    return (
        _loss(log_prob, labels, weights, ignore_index, reduction),
        Value.of(log_prob, order),
    )[: len(g.outputs)]


def _loss(
    log_prob: Tensor, target: Value, weight: Value | None, ignored: int | None, reduction: str
) -> Value:
    """Pick the target's entry of each row, weigh it, and reduce.

    Args:
        log_prob: [N, d..., C].
        target: [N, d...].
        weight: [C].
        ignored: A target that counts nothing, and that may be no class at all.
        reduction: ``none``, ``sum`` or ``mean``.
    """
    classes = log_prob.shape[-1]
    labels = cast(tf.reshape(arranged(target, range(target.rank)), [-1]), np.int32)
    valid = None
    if ignored is not None:
        valid = tf.not_equal(labels, np.int32(ignored))
        labels = tf.where(valid, labels, np.int32(0))
    picked = tf.gather(tf.reshape(log_prob, [-1, classes]), labels, batch_dims=1)
    share = _shares(labels, valid, weight)
    loss = -picked if share is None else -picked * share
    if reduction == "none":
        return Value.of(tf.reshape(loss, target.shape))
    if reduction not in ("sum", "mean"):
        raise Unsupported(f"reduction {reduction}")
    total = tf.reduce_sum(loss)
    if reduction == "sum":
        return Value.of(total)
    return Value.of(tf.reduce_mean(loss) if share is None else total / tf.reduce_sum(share))


def _shares(labels: Tensor, valid: Tensor | None, weight: Value | None) -> Tensor | None:
    """Return each row's weight, or None where all count one."""
    if weight is None:
        return None if valid is None else cast(valid, np.float32)
    share = tf.gather(weight.tensor, labels)
    return share if valid is None else tf.where(valid, share, np.float32(0))
