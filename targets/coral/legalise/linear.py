"""Linear layers over several rows, as 1x1 convolutions.

The Edge TPU's FULLY_CONNECTED has one row of output, and BATCH_MATMUL is not supported.
"""

from __future__ import annotations

import math

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.targets.coral.legalise.rewrite import NONE, Rewrite, Site, values


def _fully_connected(site: Site) -> bool | None:
    graph, (x, weight, *rest) = site.graph, site.inputs
    kernel = values(graph, weight)
    if kernel is None:
        return None
    if math.prod(site.shape(site.output)) == kernel.shape[0]:
        return _one_row(site)
    bias = values(graph, rest[0]) if rest and rest[0] >= 0 else None
    return _convolve(site, x, kernel, bias, site.options.fusedActivationFunction)


def _one_row(site: Site) -> bool | None:
    """Take the option away that has a version of its own: keeping the input's axes."""
    options, output = site.options, site.output
    if not options.keepNumDims:
        return None
    options.keepNumDims = False
    operator, graph = site.operator, site.graph
    row = graph.add_activation(
        f"{graph.label(operator)}/row", (1, graph.shape(output)[-1]), "float32"
    )
    operator.outputs = [row]
    graph.set_version(operator, 1)
    site.made.append(operator)
    site.reshape(row, graph.shape(output), out=output)
    return True


def _batch_matmul(site: Site) -> bool | None:
    x, weight = site.inputs
    kernel = values(site.graph, weight)
    if kernel is None or site.options.adjX or math.prod(kernel.shape[:-2]) != 1:
        return None
    matrix = kernel.reshape(kernel.shape[-2:])
    return _convolve(site, x, matrix if site.options.adjY else matrix.T, None, NONE)


def _convolve(site: Site, x: int, kernel: Array, bias: Array | None, activation: int) -> bool:
    outputs, width = kernel.shape
    shape, target = site.shape(x), site.shape(site.output)
    image = shape if _is_image(shape, width) else (1, 1, math.prod(shape) // width, width)
    weight = site.constant(kernel.reshape(outputs, 1, 1, width))
    offsets = site.constant(np.zeros(outputs, np.float32) if bias is None else bias)
    source = x if shape == image else site.reshape(x, image)
    if target == (*image[:3], outputs):
        site.conv(source, weight, offsets, out=site.output, activation=activation)
    else:
        y = site.conv(source, weight, offsets, activation=activation)
        site.reshape(y, target, out=site.output)
    return True


def _is_image(shape: tuple[int, ...], width: int) -> bool:
    return len(shape) == 4 and shape[0] == 1 and shape[3] == width


LINEAR = (
    Rewrite(
        "linear-over-rows",
        ("FULLY_CONNECTED",),
        _fully_connected,
        "FULLY_CONNECTED must have one row of output",
    ),
    Rewrite(
        "matmul-by-constant", ("BATCH_MATMUL",), _batch_matmul, "BATCH_MATMUL is not supported"
    ),
)
