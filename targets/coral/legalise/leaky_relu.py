"""LEAKY_RELU, which the Edge TPU does not know, as the larger or smaller of x and alpha * x."""

from __future__ import annotations

from edgeconv.targets.coral.legalise.rewrite import Rewrite, Site


def _change(site: Site) -> bool:
    (x,) = site.inputs
    alpha: float = site.options.alpha
    scaled = site.binary("MUL", x, site.constant(alpha))
    site.binary("MAXIMUM" if alpha <= 1 else "MINIMUM", x, scaled, out=site.output)
    return True


LEAKY_RELU = Rewrite("leaky-relu", ("LEAKY_RELU",), _change, "LEAKY_RELU is not supported")
