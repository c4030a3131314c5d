"""TRANSPOSE_CONV with a fused activation, version 4, which the compiler refuses; as two ops."""

from __future__ import annotations

from edgeconv.targets.coral.legalise.activation import unfuse
from edgeconv.targets.coral.legalise.rewrite import Rewrite

TRANSPOSE_CONV = Rewrite(
    "transposed-convolution-activation",
    ("TRANSPOSE_CONV",),
    unfuse,
    "the compiler refuses a whole model that holds TRANSPOSE_CONV with an activation, version 4",
)
