"""Writing at places of a tensor: scatters that ONNX does not have, masks, diagonals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
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


def index_put(
    x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    """``aten::index_put`` where a mask says: a selection, since how many places it has is open.

    Other places, and values that differ from one masked place to the next, are left.
    """
    given = [index for index in indices if index is not None]
    if len(given) != 1 or given[0].dtype != torch.bool:
        return NotImplemented  # type: ignore[no-any-return]
    before, mask = len(indices) - 1, given[0]
    after = x.dim() - before - mask.dim()
    if all(isinstance(size, int) and size == 1 for size in values.shape):
        values = values.reshape(())
    if indices[before] is None or values.dim() > after:
        return NotImplemented  # type: ignore[no-any-return]
    mask = mask.reshape(*mask.shape, *[1] * after)
    return torch.where(mask, x + values if accumulate else values, x)


def diagonal_scatter(
    x: Tensor, source: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """``aten::diagonal_scatter``: a selection along the diagonal."""
    moved = x.movedim((dim1, dim2), (-2, -1))
    rows, columns = moved.shape[-2:]
    length = rows if offset >= 0 else columns
    spread = F.pad(source, (0, length - source.shape[-1])).unsqueeze(-1 if offset >= 0 else -2)
    chosen = torch.where(_on_diagonal(rows, columns, offset), spread, moved)
    return chosen.movedim((-2, -1), (dim1, dim2))


def _on_diagonal(rows: int, columns: int, offset: int) -> Tensor:
    return torch.arange(columns) - torch.arange(rows)[:, None] == offset


def as_strided_scatter(
    x: Tensor,
    source: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int | None = None,
) -> Tensor:
    """``aten::as_strided_scatter``, as ``fill_diagonal_`` becomes: a selection of known places."""
    if not x.is_contiguous():
        return NotImplemented  # type: ignore[no-any-return]
    places = torch.full((), storage_offset or 0, dtype=torch.int64)
    for length, step in zip(size, stride, strict=True):
        places = places.unsqueeze(-1) + torch.arange(length) * step
    count = torch.arange(places.numel())
    origin = torch.zeros(x.numel(), dtype=torch.int64).scatter(0, places.reshape(-1), count)
    written = torch.zeros(x.numel(), dtype=torch.bool)
    written = written.scatter(0, places.reshape(-1), torch.ones_like(count, dtype=torch.bool))
    spread = source.reshape(-1)[origin.reshape(x.shape)]
    return torch.where(written.reshape(x.shape), spread, x)


TABLE: dict[str, Callable[..., Any]] = {
    "scatter_reduce.two": scatter_mean,
    "index_reduce": index_reduce,
    "index_put": index_put,
    "diagonal_scatter": diagonal_scatter,
    "as_strided_scatter": as_strided_scatter,
}
