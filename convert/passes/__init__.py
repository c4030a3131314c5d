"""Graph rewrites on ONNX, one file a rewrite. The order is data: see `PASSES`."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgeconv.convert.passes.fold_batch_norm import fold_batch_norm
from edgeconv.convert.passes.fold_channel_order import fold_channel_order
from edgeconv.convert.passes.fold_pad import fold_pad
from edgeconv.convert.passes.fold_pair_softmax import fold_pair_softmax
from edgeconv.convert.passes.fold_scale import fold_scale
from edgeconv.convert.passes.fuse_depth_to_space import fuse_depth_to_space
from edgeconv.convert.passes.fuse_gelu import fuse_gelu
from edgeconv.convert.passes.fuse_hard_swish import fuse_hard_swish
from edgeconv.convert.passes.fuse_l2_normalize import fuse_l2_normalize
from edgeconv.convert.passes.fuse_quantization import fuse_quantization
from edgeconv.convert.passes.fuse_rsqrt import fuse_rsqrt
from edgeconv.convert.passes.mask_infinity import mask_infinity
from edgeconv.convert.passes.materialize_shared import materialize_shared
from edgeconv.convert.passes.merge_slices import merge_slices
from edgeconv.convert.passes.place_transposes import place_transposes
from edgeconv.convert.passes.route_channels import route_channels
from edgeconv.convert.passes.skip_expand import skip_expand

Pass = Callable[[ir.Graph], int]
"""Rewrites a graph in place and returns how many places it changed."""

PASSES: tuple[Pass, ...] = (
    fuse_quantization,  # first: other rewrites look for constant weights
    mask_infinity,
    fold_batch_norm,
    fold_pad,
    fold_pair_softmax,
    fuse_gelu,
    fuse_hard_swish,
    fuse_l2_normalize,
    fuse_rsqrt,
    fuse_depth_to_space,
    fold_channel_order,  # after batch norm is in the weights, and after shuffles are found
    route_channels,  # likewise
    skip_expand,  # after the fusions, some of which look for the Expand
    fold_scale,  # likewise, and a factor goes to the operand that is not expanded any more
    merge_slices,
    place_transposes,  # after all that changes what is moved
    materialize_shared,  # last: its node would hide the transpose from other rewrites
)


def run_passes(graph: ir.Graph) -> None:
    """Run every pass once, in order."""
    for rewrite in PASSES:
        rewrite(graph)
