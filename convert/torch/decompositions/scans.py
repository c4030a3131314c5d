"""Running products, maxima and minima, in as many steps as the length has binary digits.

Source: Hillis and Steele 1986, "Data Parallel Algorithms": each element takes in the one 1, 2, 4,
... places before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _before(x: Tensor, dim: int, places: int, first: Tensor) -> Tensor:
    """Return each element's predecessor some places before it, ``first`` where there is none."""
    return torch.cat([first, x.narrow(dim, 0, x.shape[dim] - places)], dim)


def cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """``aten::cumprod``."""
    integral = not x.is_floating_point()
    y = x.to(dtype or (torch.int64 if integral else x.dtype))
    if x.dim() == 0:
        return y
    places = 1
    while places < x.shape[dim]:
        ones = torch.ones_like(y.narrow(dim, 0, places))
        y = y * _before(y, dim, places, ones)
        places *= 2
    return y


def _extreme(beats: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return ``aten::cummax`` or ``aten::cummin``; of equal values the last one counts."""

    def scan(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        if x.dim() == 0:
            return x.clone(), torch.zeros_like(x, dtype=torch.int64)
        sizes = [-1 if axis == dim % x.dim() else 1 for axis in range(x.dim())]
        places = torch.arange(x.shape[dim]).reshape(sizes).expand(x.shape)
        y, step = x, 1
        while step < x.shape[dim]:
            earlier = _before(y, dim, step, y.narrow(dim, 0, step))
            index = _before(places, dim, step, places.narrow(dim, 0, step))
            wins = beats(earlier, y)
            y, places = torch.where(wins, earlier, y), torch.where(wins, index, places)
            step *= 2
        return y, places

    return scan


TABLE: dict[str, Callable[..., Any]] = {
    "cumprod": cumprod,
    "cummax": _extreme(torch.gt),
    "cummin": _extreme(torch.lt),
}
