"""ELU, which the Edge TPU does not know, as relu(x) + (1 / sigmoid(relu(-x)) - 2).

Below zero, 1 / sigmoid(-x) = 1 + exp(x). The quotient is the square of RSQRT, whose argument lies
in [0.5, 1], so that no step loses range.
"""

from __future__ import annotations

from edgeconv.targets.coral.legalise.rewrite import RELU, Rewrite, Site


def _change(site: Site) -> bool:
    (x,) = site.inputs
    below = site.binary("MUL", x, site.constant(-1.0), activation=RELU)
    root = site.unary("RSQRT", site.unary("LOGISTIC", below))
    below = site.binary("ADD", site.binary("MUL", root, root), site.constant(-2.0))
    site.binary("ADD", site.unary("RELU", x), below, out=site.output)
    return True


ELU = Rewrite("elu", ("ELU",), _change, "ELU is not supported")
