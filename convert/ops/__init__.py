"""Translations of ONNX operators, one file a family. A new family is listed here."""

from __future__ import annotations

from edgeconv.convert.ops import (
    activation,
    attention,
    bitwise,
    blocks,
    cast,
    comparison,
    conv,
    conv_transpose,
    create,
    cumulative,
    einsum,
    elementwise,
    indexing,
    loss,
    lp_pool,
    materialize,
    matmul,
    norm,
    pad,
    pool,
    quantized,
    reduce,
    resize,
    scatter,
    sequence,
    shape,
    slicing,
    softmax,
    trigonometry,
    unpool,
)
from edgeconv.convert.registry import Registry

FAMILIES = (
    activation,
    attention,
    bitwise,
    blocks,
    cast,
    comparison,
    conv,
    conv_transpose,
    create,
    cumulative,
    einsum,
    elementwise,
    indexing,
    loss,
    lp_pool,
    materialize,
    matmul,
    norm,
    pad,
    pool,
    quantized,
    reduce,
    resize,
    scatter,
    sequence,
    shape,
    slicing,
    softmax,
    trigonometry,
    unpool,
)


def default_registry() -> Registry:
    """Return the registry of everything that edgeconv translates."""
    return Registry.from_modules(FAMILIES)
