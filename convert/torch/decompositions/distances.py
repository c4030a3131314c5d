"""Distances between the rows of matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Differences of all pairs, in elements; beyond them squares are taken apart.
_MOST_DIFFERENCES = 1 << 22


def pairwise(a: Tensor, b: Tensor, p: float, compute_mode: int | None = None) -> Tensor:
    """``aten::_cdist_forward``: distances [..., P, R] of the rows of [..., P, M] and [..., R, M].

    Squares are taken apart, as PyTorch does, only where all differences would take too much.
    """
    del compute_mode
    if p == 2 and a.numel() * b.shape[-2] > _MOST_DIFFERENCES:
        squares = (a * a).sum(-1)[..., :, None] + (b * b).sum(-1)[..., None, :]
        return torch.sqrt(torch.clamp(squares - 2 * a @ b.transpose(-1, -2), min=0))
    return _norm(a[..., :, None, :] - b[..., None, :, :], p)


def _norm(x: Tensor, p: float) -> Tensor:
    if p == 2:
        return torch.sqrt((x * x).sum(-1))
    if p == 1:
        return x.abs().sum(-1)
    if p == math.inf:
        return x.abs().amax(-1)
    if p == 0:
        return (x != 0).to(x.dtype).sum(-1)
    return torch.pow(torch.pow(x.abs(), p).sum(-1), 1 / p)


def condensed(x: Tensor, p: float = 2) -> Tensor:
    """``aten::_pdist_forward``: the distances of each row from those after it."""
    first, second = torch.triu_indices(x.shape[0], x.shape[0], 1)
    return _norm(x[first] - x[second], p)


TABLE: dict[str, Callable[..., Any]] = {
    "_cdist_forward": pairwise,
    "_pdist_forward": condensed,
}
