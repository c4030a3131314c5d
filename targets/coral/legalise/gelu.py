"""GELU, a builtin that the compiler's parser does not know: the whole model would be refused.

The tanh form, x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), is x * sigmoid(2 * ...), all
of operators that map. The exact form needs erf, which has none; the tanh form is within 0.0005 of
it. Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
"""

from __future__ import annotations

import math

from edgeconv.targets.coral.legalise.rewrite import Rewrite, Site

_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = _LINEAR * 0.044715


def _tanh_form(site: Site) -> bool | None:
    return _write(site) if site.options.approximate else None


def _write(site: Site) -> bool:
    (x,) = site.inputs
    slope = site.binary("MUL", site.binary("MUL", x, x), site.constant(_CUBIC))
    slope = site.binary("ADD", slope, site.constant(_LINEAR))
    gate = site.unary("LOGISTIC", site.binary("MUL", slope, x))
    site.binary("MUL", x, gate, out=site.output)
    return True


_WHY = "the compiler refuses a whole model that holds GELU"
GELU_TANH = Rewrite("gelu-tanh", ("GELU",), _tanh_form, _WHY)
GELU = Rewrite("gelu", ("GELU",), _write, _WHY, "the tanh form is up to 0.0005 off the exact GELU")
