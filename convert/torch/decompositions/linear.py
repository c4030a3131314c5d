"""Inverses of small matrices, as homographies and affine maps need them, by cofactors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Cofactors of larger ones are many, and lose precision.
_LARGEST = 4


def _determinant(rows: list[list[Tensor]]) -> Tensor:
    if len(rows) == 1:
        return rows[0][0]
    terms = [
        (-factor if column % 2 else factor) * _determinant(_without(rows, 0, column))
        for column, factor in enumerate(rows[0])
    ]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _without(rows: list[list[Tensor]], row: int, column: int) -> list[list[Tensor]]:
    return [line[:column] + line[column + 1 :] for number, line in enumerate(rows) if number != row]


def inverse(x: Tensor, *, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """``aten::linalg_inv_ex``: the inverse, and that nothing went wrong."""
    del check_errors
    size = x.shape[-1]
    if size > _LARGEST:
        return NotImplemented  # type: ignore[no-any-return]
    rows = [[x[..., i, j] for j in range(size)] for i in range(size)]
    lines = []
    for i in range(size):
        line = []
        for j in range(size):
            minor = _without(rows, j, i)
            value = _determinant(minor) if minor else torch.ones_like(rows[0][0])
            line.append(-value if (i + j) % 2 else value)
        lines.append(torch.stack(line, -1))
    adjugate = torch.stack(lines, -2)
    fine = torch.zeros(x.shape[:-2], dtype=torch.int32)
    return adjugate / _determinant(rows)[..., None, None], fine


def solve(
    a: Tensor, b: Tensor, *, left: bool = True, check_errors: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``aten::_linalg_solve_ex``; the factors that it returns beside the solution are not used."""
    found = inverse(a, check_errors=check_errors)
    if found is NotImplemented:
        return NotImplemented  # type: ignore[no-any-return]
    inverted, fine = found
    vector = b.dim() == 1 or (b.dim() == a.dim() - 1 and b.shape == a.shape[:-1])
    right = b[..., None] if vector else b
    solution = inverted @ right if left else right @ inverted
    pivots = torch.zeros(a.shape[:-1], dtype=torch.int32)
    return solution[..., 0] if vector else solution, a, pivots, fine


def inverse_alone(x: Tensor) -> Tensor:
    """``aten::inverse``; torch's own also checks that it went well, which no ONNX file can."""
    found = inverse(x)
    return found if found is NotImplemented else found[0]


def solve_alone(a: Tensor, b: Tensor, *, left: bool = True) -> Tensor:
    """``aten::linalg_solve``."""
    found = solve(a, b, left=left)
    return found if found is NotImplemented else found[0]


TABLE: dict[str, Callable[..., Any]] = {
    "inverse": inverse_alone,
    "linalg_inv": inverse_alone,
    "linalg_inv_ex": inverse,
    "linalg_solve": solve_alone,
    "_linalg_solve_ex": solve,
}
