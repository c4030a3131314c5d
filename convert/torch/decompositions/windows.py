"""Adaptive pools whose sizes do not divide: windows that differ in length or overlap.

Output ``i`` of ``n`` sees the inputs from ``floor(i * size / n)`` up to ``ceil((i+1) * size / n)``
of each axis, as PyTorch defines them. A rectangle's maximum or mean is taken axis by axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everyone calls it
from torch import Tensor


def windows(size: int, count: int) -> list[tuple[int, int]]:
    """Return the start and the end of each output's window along an axis."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _regular(size: int, count: int) -> tuple[int, int] | None:
    """Return kernel and stride where all windows of an axis are alike and evenly spaced."""
    found = windows(size, count)
    lengths = {end - start for start, end in found}
    steps = {after[0] - before[0] for before, after in pairwise(found)}
    if len(lengths) > 1 or len(steps) > 1:
        return None
    return lengths.pop(), steps.pop() if steps else size


def _along(x: Tensor, axis: int, count: int, reduce: Callable[..., Tensor]) -> Tensor:
    parts = [
        reduce(x.narrow(axis, start, end - start), axis, keepdim=True)
        for start, end in windows(x.shape[axis], count)
    ]
    return torch.cat(parts, axis)


def _pooled(
    x: Tensor, counts: Sequence[int], pool: Callable[..., Tensor], reduce: Callable[..., Tensor]
) -> Tensor:
    """Pool the last axes, with one pool where all of them are regular."""
    first = x.dim() - len(counts)
    regular = [_regular(size, count) for size, count in zip(x.shape[first:], counts, strict=True)]
    if all(item is not None for item in regular):
        kernels, strides = zip(*(item for item in regular if item is not None), strict=True)
        return pool(x, kernels, strides)
    for axis, count in enumerate(counts, first):
        x = _along(x, axis, count, reduce)
    return x


def _max_places(x: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the flat place of each output's maximum among the pooled axes."""
    first = x.dim() - len(counts)
    sizes = x.shape[first:]
    flat = torch.arange(sizes.numel()).reshape(sizes)
    cells: list[tuple[tuple[int, int], ...]] = [()]
    for size, count in zip(sizes, counts, strict=True):
        cells = [(*cell, span) for cell in cells for span in windows(size, count)]
    found = []
    for cell in cells:
        window, places = x, flat
        for axis, (start, end) in enumerate(cell):
            window = window.narrow(first + axis, start, end - start)
            places = places.narrow(axis, start, end - start)
        found.append(places.flatten()[window.flatten(first).argmax(-1)])
    return torch.stack(found, -1).reshape(*x.shape[:first], *counts)


def _max_pool(pool: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    def adaptive(x: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        return _pooled(x, counts, pool, torch.amax), _max_places(x, counts)

    return adaptive


def _mean_pool(x: Tensor, counts: Sequence[int]) -> Tensor:
    return _pooled(x, counts, F.avg_pool3d, torch.mean)


TABLE: dict[str, Callable[..., Any]] = {
    "adaptive_max_pool2d": _max_pool(F.max_pool2d),
    "adaptive_max_pool3d": _max_pool(F.max_pool3d),
    "_adaptive_avg_pool3d": _mean_pool,
}
