"""CONCATENATION with a constant, such as a class token, as PAD and ADD.

The Edge TPU joins with a constant only where that is zero.
"""

from __future__ import annotations

import numpy as np

from edgeconv.targets.coral.legalise.rewrite import NONE, Rewrite, Site


def _change(site: Site) -> bool | None:
    graph, options = site.graph, site.options
    computed = [index for index in site.inputs if not graph.is_constant(index)]
    if len(computed) != 1 or len(site.inputs) < 2 or options.fusedActivationFunction != NONE:
        return None
    (x,) = computed
    shape = site.shape(site.output)
    axis, place = options.axis % len(shape), site.inputs.index(x)
    before = sum(site.shape(index)[axis] for index in site.inputs[:place])
    after = shape[axis] - before - site.shape(x)[axis]
    amounts = [[0, 0] for _ in shape]
    amounts[axis] = [before, after]
    parts = [
        np.zeros(site.shape(x), np.float32) if index == x else graph.value(index)
        for index in site.inputs
    ]
    padded = site.emit("PAD", (x, site.constant(amounts, "int32")), shape, "PadOptions")
    site.binary("ADD", padded, site.constant(np.concatenate(parts, axis)), out=site.output)
    return True


CONSTANT_CONCAT = Rewrite(
    "constant-concatenation",
    ("CONCATENATION",),
    _change,
    "a constant may be joined only where it is zero",
)
