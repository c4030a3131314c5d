"""PRELU whose slope varies along more than the channels, as relu(x) + slope * min(x, 0)."""

from __future__ import annotations

from edgeconv.targets.coral.legalise.rewrite import Rewrite, Site


def _change(site: Site) -> bool | None:
    x, slope = site.inputs
    if site.graph.is_constant(slope) and all(size == 1 for size in site.shape(slope)[:-1]):
        return None
    below = site.binary("MINIMUM", x, site.constant(0.0))
    below = site.binary("MUL", below, slope)
    site.binary("ADD", site.unary("RELU", x), below, out=site.output)
    return True


PRELU = Rewrite("prelu", ("PRELU",), _change, "the slope of PRELU may vary by channel only")
