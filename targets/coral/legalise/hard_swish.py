"""HARD_SWISH, which the Edge TPU does not know, as x * (relu6(x + 3) / 6).

Below -3 that is zero whatever x is: cut there, int8 has the more steps for the rest.
"""

from __future__ import annotations

import numpy as np

from edgeconv.targets.coral.legalise.rewrite import RELU6, Rewrite, Site


def _change(site: Site) -> bool:
    (x,) = site.inputs
    x = site.binary("MAXIMUM", x, site.constant(-3.0))
    gate = site.binary("ADD", x, site.constant(3.0), activation=RELU6)
    # The int8 codes of [0, 6] and of [0, 1] are the same: dividing here, not later, costs nothing.
    gate = site.binary("MUL", gate, site.constant(np.float32(1 / 6)))
    site.binary("MUL", x, gate, out=site.output)
    return True


HARD_SWISH = Rewrite("hard-swish", ("HARD_SWISH",), _change, "HARD_SWISH is not supported")
