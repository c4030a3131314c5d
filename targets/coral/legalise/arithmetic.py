"""Arithmetic without an Edge TPU form, in terms of MUL, ADD, MAXIMUM, RELU and RSQRT."""

from __future__ import annotations

import numpy as np

from edgeconv.targets.coral.legalise.rewrite import NONE, Rewrite, Site, values


def _square(site: Site) -> bool:
    (x,) = site.inputs
    site.binary("MUL", x, x, out=site.output)
    return True


def _neg(site: Site) -> bool:
    site.binary("MUL", site.inputs[0], site.constant(-1.0), out=site.output)
    return True


def _abs(site: Site) -> bool:
    (x,) = site.inputs
    site.binary("MAXIMUM", x, site.binary("MUL", x, site.constant(-1.0)), out=site.output)
    return True


def _add_n(site: Site) -> bool | None:
    if len(site.inputs) < 2:
        return None
    total, *terms = site.inputs
    for term in terms[:-1]:
        total = site.binary("ADD", total, term)
    site.binary("ADD", total, terms[-1], out=site.output)
    return True


def _div(site: Site) -> bool | None:
    divisor = values(site.graph, site.inputs[1])
    if divisor is None or not divisor.all():
        return None
    activation = site.options.fusedActivationFunction if site.options else NONE
    factor = site.constant(np.float32(1) / divisor)
    site.binary("MUL", site.inputs[0], factor, out=site.output, activation=activation)
    return True


def _pow(site: Site) -> bool | None:
    exponent = values(site.graph, site.inputs[1])
    if exponent is None or exponent.size != 1:
        return None
    x, number = site.inputs[0], float(exponent.reshape(()))
    if number == 2:
        site.binary("MUL", x, x, out=site.output)
    elif number == 3:
        site.binary("MUL", site.binary("MUL", x, x), x, out=site.output)
    elif number == -0.5:
        site.unary("RSQRT", x, out=site.output)
    else:
        return None
    return True


def _clip(site: Site) -> bool:
    (x,) = site.inputs
    site.binary("MINIMUM", site.unary("RELU", x), site.constant(1.0), out=site.output)
    return True


ARITHMETIC = (
    Rewrite("clip-to-one", ("RELU_0_TO_1",), _clip, "RELU_0_TO_1 is not supported"),
    Rewrite("square", ("SQUARE",), _square, "SQUARE is not supported"),
    Rewrite("negation", ("NEG",), _neg, "NEG is not supported"),
    Rewrite("absolute-value", ("ABS",), _abs, "ABS is not supported"),
    Rewrite("sum-of-many", ("ADD_N",), _add_n, "ADD_N is not supported"),
    Rewrite("division", ("DIV",), _div, "DIV is not supported"),
    Rewrite("power", ("POW",), _pow, "POW is not supported"),
)
