"""Translations of ONNX operators, one file a family. A new family is listed here."""

from __future__ import annotations

from edgeconv.convert.ops import (
    activation,
    conv,
    elementwise,
    indexing,
    matmul,
    norm,
    pool,
    reduce,
    shape,
)
from edgeconv.convert.registry import Registry

FAMILIES = (activation, conv, elementwise, indexing, matmul, norm, pool, reduce, shape)


def default_registry() -> Registry:
    """Return the registry of everything that edgeconv translates."""
    return Registry.from_modules(FAMILIES)
