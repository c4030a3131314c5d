"""Medians and other values by their place in order, from a sorted tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


def kth(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Pair:
    """``aten::kthvalue``: the k-th smallest value, counted from 1, and its place."""
    if x.dim() == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    values, places = torch.sort(x, dim)
    if keepdim:
        return values.narrow(dim, k - 1, 1), places.narrow(dim, k - 1, 1)
    return values.select(dim, k - 1), places.select(dim, k - 1)


def median_along(x: Tensor, dim: int, keepdim: bool = False) -> Pair:
    """``aten::median.dim``: the lower of two in the middle."""
    return kth(x, (x.shape[dim] + 1) // 2 if x.dim() else 1, dim, keepdim)


def median(x: Tensor) -> Tensor:
    """``aten::median``."""
    return median_along(x.flatten(), 0)[0]


def nanmedian_along(x: Tensor, dim: int, keepdim: bool = False) -> Pair:
    """``aten::nanmedian.dim``: NaN is sorted behind all others, and not counted."""
    if not x.is_floating_point() or x.dim() == 0:
        return median_along(x, dim, keepdim)
    missing = torch.isnan(x)
    values, places = torch.sort(torch.where(missing, torch.inf, x), dim)
    count = torch.logical_not(missing).to(torch.int64).sum(dim, keepdim=True)
    middle = torch.clamp((count - 1) // 2, min=0)
    value = torch.where(count == 0, torch.nan, torch.gather(values, dim, middle))
    place = torch.gather(places, dim, middle)
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))


def nanmedian(x: Tensor) -> Tensor:
    """``aten::nanmedian``."""
    return nanmedian_along(x.flatten(), 0)[0]


def mode(x: Tensor, dim: int = -1, keepdim: bool = False) -> Pair:
    """``aten::mode``: the smallest of the most frequent values, and its last place."""
    if x.dim() == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    rows = x.movedim(dim, -1)
    ordered = torch.sort(rows, -1)[0]
    counts = (ordered[..., None] == ordered[..., None, :]).to(torch.int64).sum(-1)
    value = torch.gather(ordered, -1, counts.to(torch.int32).argmax(-1, keepdim=True))
    places = torch.arange(rows.shape[-1])
    place = torch.where(rows == value, places, -1).amax(-1, keepdim=True)
    value, place = value.movedim(-1, dim), place.movedim(-1, dim)
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))


def stable_sort(
    x: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> Pair:
    """``aten::sort.stable``: ONNX's TopK, which sorts, takes the lower of two equal places."""
    del stable
    return torch.ops.aten.sort.default(x, dim, descending)  # type: ignore[no-any-return]


def search(
    ordered: Tensor,
    x: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """``aten::searchsorted``: how many boundaries lie below, or at it too."""
    if sorter is not None:
        ordered = torch.gather(ordered, -1, sorter)
    values = x if isinstance(x, Tensor) else torch.full((), x, dtype=ordered.dtype)
    borders = ordered if ordered.dim() == 1 else ordered[..., None, :]
    compare = torch.le if right or side == "right" else torch.lt
    counts = compare(borders, values[..., None]).to(torch.int64).sum(-1)
    return counts.to(torch.int32) if out_int32 else counts


TABLE: dict[str, Callable[..., Any]] = {
    "kthvalue": kth,
    "median": median,
    "median.dim": median_along,
    "nanmedian": nanmedian,
    "nanmedian.dim": nanmedian_along,
    "mode": mode,
    "sort.stable": stable_sort,
    "searchsorted.Tensor": search,
    "searchsorted.Scalar": search,
}
