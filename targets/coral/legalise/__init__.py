"""Rewrites that let more of a model map to the Edge TPU, each of which computes the same."""

from __future__ import annotations

from edgeconv.targets.coral.legalise.activation import ACTIVATION
from edgeconv.targets.coral.legalise.arithmetic import ARITHMETIC
from edgeconv.targets.coral.legalise.channel_shuffle import CHANNEL_SHUFFLE
from edgeconv.targets.coral.legalise.constant_concat import CONSTANT_CONCAT
from edgeconv.targets.coral.legalise.elu import ELU
from edgeconv.targets.coral.legalise.gelu import GELU, GELU_TANH
from edgeconv.targets.coral.legalise.grouped_conv import GROUPED_CONV
from edgeconv.targets.coral.legalise.hard_swish import HARD_SWISH
from edgeconv.targets.coral.legalise.indices import INDICES
from edgeconv.targets.coral.legalise.leaky_relu import LEAKY_RELU
from edgeconv.targets.coral.legalise.linear import LINEAR
from edgeconv.targets.coral.legalise.mean import MEAN
from edgeconv.targets.coral.legalise.moves import MOVES
from edgeconv.targets.coral.legalise.padding import PADDING
from edgeconv.targets.coral.legalise.prelu import PRELU
from edgeconv.targets.coral.legalise.resize import RESIZE
from edgeconv.targets.coral.legalise.rewrite import GraphRewrite, Rewrite
from edgeconv.targets.coral.legalise.slicing import SLICING
from edgeconv.targets.coral.legalise.transpose_conv import TRANSPOSE_CONV

REWRITES: tuple[Rewrite | GraphRewrite, ...] = (
    INDICES,
    *ARITHMETIC,
    HARD_SWISH,
    LEAKY_RELU,
    PRELU,
    ELU,
    GELU_TANH,
    GELU,
    *PADDING,
    GROUPED_CONV,
    TRANSPOSE_CONV,
    ACTIVATION,
    CONSTANT_CONCAT,
    *SLICING,
    CHANNEL_SHUFFLE,
    *MOVES,
    *RESIZE,
    MEAN,
    *LINEAR,
)
"""Every rewrite in the order in which they are applied."""
