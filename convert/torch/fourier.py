"""Fourier transforms in real arithmetic: products with constant matrices.

Short-time ones are convolutions with the windowed waves. Source: the definitions in the
documentation of `torch.fft`, `torch.stft` and `torch.istft`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as everyone calls it
from torch import Tensor


class Unreal(Exception):
    """An operator on complex numbers that is not known here; `str` names it."""


class Pair(NamedTuple):
    """A complex tensor."""

    re: Tensor
    im: Tensor


def _waves(rows: int, columns: int, length: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of 2 pi j k / length, whose turns are reduced before."""
    angles = 2 * np.pi * (np.outer(np.arange(rows), np.arange(columns)) % length) / length
    return torch.from_numpy(np.cos(angles).astype(np.float32)), torch.from_numpy(
        np.sin(angles).astype(np.float32)
    )


def _factor(norm: str | None, length: int, *, inverse: bool) -> float:
    if norm == "ortho":
        return 1 / math.sqrt(length)
    return 1 / length if (norm == "forward") != inverse else 1.0


def _sized(x: Tensor, dim: int, count: int) -> Tensor:
    """Return a tensor with its transformed axis last, cut or filled to a length."""
    x = x.movedim(dim, -1)
    return x[..., :count] if x.shape[-1] >= count else F.pad(x, (0, count - x.shape[-1]))


def _fourier(*, inverse: bool, onesided: bool) -> Callable[..., Pair]:
    """Return ``fft``, ``ifft`` or ``rfft``."""

    def transform(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Pair:
        re, im = (x.re, x.im) if isinstance(x, Pair) else (x, None)
        length = n or re.shape[dim]
        cosines, sines = _waves(length, length // 2 + 1 if onesided else length, length)
        factor = _factor(norm, length, inverse=inverse)
        cosines, sines = cosines * factor, (sines if inverse else -sines) * factor
        re = _sized(re, dim, length)
        real, imaginary = re @ cosines, re @ sines
        if im is not None:
            im = _sized(im, dim, length)
            real, imaginary = real - im @ sines, imaginary + im @ cosines
        return Pair(real.movedim(-1, dim), imaginary.movedim(-1, dim))

    return transform


def _inverse_waves(length: int, count: int) -> tuple[Tensor, Tensor]:
    """Return what real and imaginary parts of one-sided coefficients [count] are multiplied by."""
    cosines, sines = _waves(count, length, length)
    twice = torch.tensor([1.0 if k in (0, length - k) else 2.0 for k in range(count)])[:, None]
    return cosines * twice / length, -sines * twice / length


def _irfft(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    re, im = (x.re, x.im) if isinstance(x, Pair) else (x, torch.zeros_like(x))
    length = n or 2 * (re.shape[dim] - 1)
    count = length // 2 + 1
    factor = _factor(norm, length, inverse=True) * length
    cosines, sines = _inverse_waves(length, count)
    found = (_sized(re, dim, count) @ cosines + _sized(im, dim, count) @ sines) * factor
    return found.movedim(-1, dim)


def _along_axes(last: Callable[..., Any], rest: Callable[..., Pair], *, real_end: bool) -> Any:
    """Return a transform of several axes out of those of one."""

    def transform(
        x: Any, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: Any = None
    ) -> Any:
        sizes = list(s) if s is not None else [None] * len(dim)
        if not real_end:
            x = last(x, sizes[-1], dim[-1], norm)
        for axis, size in list(zip(dim, sizes, strict=True))[:-1]:
            x = rest(x, size, axis, norm)
        return last(x, sizes[-1], dim[-1], norm) if real_end else x

    return transform


def _window(window: Tensor | None, length: int, size: int) -> Tensor:
    """Return a window of an FFT's size, a shorter one in its middle."""
    held = torch.ones(length) if window is None else window
    left = (size - length) // 2
    return F.pad(held, (left, size - length - left)) if length != size else held


def _stft(
    x: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Pair:
    """``aten::stft`` of real signals [B, L] or [L]: a convolution with the windowed waves."""
    del return_complex, align_to_window
    count = n_fft if onesided is False else n_fft // 2 + 1
    cosines, sines = _waves(n_fft, count, n_fft)
    kernel = torch.cat([cosines.T, -sines.T]) * _window(window, win_length or n_fft, n_fft)
    if normalized:
        kernel = kernel / math.sqrt(n_fft)
    rows = x.reshape(-1, 1, x.shape[-1])
    found = F.conv1d(rows, kernel[:, None], stride=hop_length or n_fft // 4)
    found = found.reshape(*x.shape[:-1], 2 * count, found.shape[-1])
    return Pair(found.narrow(-2, 0, count), found.narrow(-2, count, count))


def _istft(
    x: Pair,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """``aten::istft``: frames by the inverse transform, added up, over the windows added up."""
    if return_complex or onesided is False:
        raise Unreal("complex numbers: aten.istft with a two-sided or complex result")
    hop, count = hop_length or n_fft // 4, n_fft // 2 + 1
    shape = _window(window, win_length or n_fft, n_fft)
    kernel = torch.cat(_inverse_waves(n_fft, count)) * shape
    if normalized:
        kernel = kernel * math.sqrt(n_fft)
    steps = x.re.shape[-1]
    rows = torch.cat([x.re, x.im], -2).reshape(-1, 2 * count, steps)
    summed = F.conv_transpose1d(rows, kernel[:, None], stride=hop)
    weights = F.conv_transpose1d(torch.ones(1, 1, steps), (shape * shape)[None, None], stride=hop)
    start = n_fft // 2 if center else 0
    whole = summed.shape[-1]
    end = start + length if length is not None else whole - start
    found = summed[..., start : min(end, whole)] / weights[..., start : min(end, whole)]
    if end > whole:
        found = F.pad(found, (0, end - whole))
    return found.reshape(*x.re.shape[:-2], end - start)


_FFT = _fourier(inverse=False, onesided=False)
_IFFT = _fourier(inverse=True, onesided=False)
_RFFT = _fourier(inverse=False, onesided=True)

TRANSFORMS: dict[str, Callable[..., Any]] = {
    "fft_fft": _FFT,
    "fft_ifft": _IFFT,
    "fft_rfft": _RFFT,
    "fft_irfft": _irfft,
    "fft_fft2": _along_axes(_FFT, _FFT, real_end=False),
    "fft_ifft2": _along_axes(_IFFT, _IFFT, real_end=False),
    "fft_rfft2": _along_axes(_RFFT, _FFT, real_end=False),
    "fft_irfft2": _along_axes(_irfft, _IFFT, real_end=True),
    "stft": _stft,
    "istft": _istft,
}
"""By operator what computes it on pairs; the arguments are the operator's own."""
