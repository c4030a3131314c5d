"""Element-wise functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Giles 2010, "Approximating the erfinv function": single precision, for w below 5 and from it on.
_CENTRAL = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip
# Abramowitz and Stegun 1964, 9.8.1 and 9.8.2: the modified Bessel function of order 0.
_BESSEL_NEAR = (0.0045813, 0.0360768, 0.2659732, 1.2067492, 3.0899424, 3.5156229, 1.0)
_BESSEL_FAR = (
    0.00392377, -0.01647633, 0.02635537, -0.02057706, 0.00916281, -0.00157565, 0.00225319,
    0.01328592, 0.39894228,
)  # fmt: skip
# Lanczos 1964, "A precision approximation of the gamma function", g = 5.
_LANCZOS = (
    76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155,
    0.1208650973866179e-2, -0.5395239384953e-5,
)  # fmt: skip


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    result = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result


def hypot(a: Tensor, b: Tensor) -> Tensor:
    """``aten::hypot``."""
    return torch.sqrt(a * a + b * b)


def copysign(a: Tensor, b: Any) -> Tensor:
    """``aten::copysign``."""
    if isinstance(b, Tensor):
        return torch.where(torch.signbit(b), -a.abs(), a.abs())
    return -a.abs() if math.copysign(1, b) < 0 else a.abs()


def erfinv(x: Tensor) -> Tensor:
    """``aten::erfinv``, to float32's precision."""
    w = -torch.log((1 - x) * (1 + x))
    near = _polynomial(_CENTRAL, w - 2.5)
    far = _polynomial(_TAIL, torch.sqrt(torch.clamp(w, min=5)) - 3)
    return torch.where(x.abs() == 1, x * torch.inf, x * torch.where(w < 5, near, far))


def i0(x: Tensor) -> Tensor:
    """``aten::i0``."""
    size = x.abs()
    near = _polynomial(_BESSEL_NEAR, (torch.clamp(size, max=3.75) / 3.75) ** 2)
    clipped = torch.clamp(size, min=3.75)
    far = torch.exp(clipped) * torch.rsqrt(clipped) * _polynomial(_BESSEL_FAR, 3.75 / clipped)
    return torch.where(size < 3.75, near, far)


def lgamma(x: Tensor) -> Tensor:
    """``aten::lgamma`` of positive numbers, and of others by reflection."""
    positive = torch.where(x > 0, x, 1 - x)
    series = torch.full_like(x, 1.000000000190015)
    for number, coefficient in enumerate(_LANCZOS, 1):
        series = series + coefficient / (positive + number)
    shifted = positive + 5.5
    value = (positive + 0.5) * torch.log(shifted) - shifted
    value = value + torch.log(math.sqrt(2 * math.pi) * series / positive)
    reflected = math.log(math.pi) - torch.log(torch.sin(math.pi * x).abs()) - value
    return torch.where(x > 0, value, reflected)


def _power_of_two(amount: Any, like: Tensor) -> Any:
    if isinstance(amount, Tensor):
        return torch.pow(2, amount).to(like.dtype)
    return 1 << int(amount)


def shift_right(x: Any, amount: Any) -> Tensor:
    """``aten::bitwise_right_shift`` of integers: division downwards by a power of two."""
    like = x if isinstance(x, Tensor) else amount
    if like.is_floating_point():
        return NotImplemented  # type: ignore[no-any-return]
    x = x if isinstance(x, Tensor) else torch.full_like(like, x)
    return torch.div(x, _power_of_two(amount, like), rounding_mode="floor")


def shift_left(x: Any, amount: Any) -> Tensor:
    """``aten::bitwise_left_shift`` of integers: multiplication by a power of two."""
    like = x if isinstance(x, Tensor) else amount
    if like.is_floating_point():
        return NotImplemented  # type: ignore[no-any-return]
    product: Tensor = x * _power_of_two(amount, like)
    return product


_SHIFTS = {
    f"{name}.{overload}": function
    for names, overloads, function in (
        (("__rshift__",), ("Scalar", "Tensor"), shift_right),
        (("__lshift__",), ("Scalar", "Tensor"), shift_left),
        (("bitwise_right_shift",), ("Tensor", "Tensor_Scalar", "Scalar_Tensor"), shift_right),
        (("bitwise_left_shift",), ("Tensor", "Tensor_Scalar", "Scalar_Tensor"), shift_left),
    )
    for name in names
    for overload in overloads
}

TABLE: dict[str, Callable[..., Any]] = {
    "hypot": hypot,
    "copysign.Tensor": copysign,
    "copysign.Scalar": copysign,
    "erfinv": erfinv,
    "i0": i0,
    "lgamma": lgamma,
    **_SHIFTS,
}
