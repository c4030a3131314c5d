"""Grouped CONV_2D, a version that the compiler does not know, as one convolution per group."""

from __future__ import annotations

import numpy as np

from edgeconv.targets.coral.legalise.rewrite import Rewrite, Site, values


def _change(site: Site) -> bool | None:
    graph, (x, weight, *rest) = site.graph, site.inputs
    kernel = values(graph, weight)
    if kernel is None:
        return None
    groups = site.shape(x)[3] // kernel.shape[3]
    if groups <= 1:
        return None
    width, outputs = kernel.shape[3], kernel.shape[0] // groups
    bias = values(graph, rest[0]) if rest and rest[0] >= 0 else None
    if bias is None:
        bias = np.zeros(kernel.shape[0], np.float32)
    shape = (*site.shape(site.output)[:3], outputs)
    parts = []
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        part = site.cut(x, 3, group * width, (group + 1) * width)
        operands = (part, site.constant(kernel[rows]), site.constant(bias[rows]))
        parts.append(site.emit("CONV_2D", operands, shape, "Conv2DOptions", **vars(site.options)))
    site.concat(parts, 3, out=site.output)
    return True


GROUPED_CONV = Rewrite(
    "grouped-convolution",
    ("CONV_2D",),
    _change,
    "the compiler refuses a whole model that holds grouped convolutions, CONV_2D version 6",
)
