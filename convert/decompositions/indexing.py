"""Scatters with a reduction that ONNX does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def scatter_mean(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """``aten::scatter_reduce`` with a mean: a sum over a count."""
    if reduce != "mean":
        return NotImplemented  # type: ignore[no-any-return]
    base = x if include_self else x.scatter(dim, index, torch.zeros_like(source))
    total = base.scatter_add(dim, index, source)
    ones = torch.ones_like(x)
    held = ones if include_self else ones.scatter(dim, index, torch.zeros_like(source))
    count = torch.clamp(held.scatter_add(dim, index, torch.ones_like(source)), min=1)
    if x.is_floating_point():
        return total / count
    return torch.div(total, count, rounding_mode="floor")


def index_reduce(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """``aten::index_reduce``: a scatter of whole slices."""
    sizes = [-1 if axis == dim % x.dim() else 1 for axis in range(x.dim())]
    places = index.reshape(sizes).expand(source.shape)
    kind = {"prod": "prod", "mean": "mean", "amax": "amax", "amin": "amin"}[reduce]
    return torch.scatter_reduce(x, dim, places, source, kind, include_self=include_self)


TABLE: dict[str, Callable[..., Any]] = {
    "scatter_reduce.two": scatter_mean,
    "index_reduce": index_reduce,
}
