"""Tell where the sizes inside a PyTorch model depend on the values of its inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

# What PyTorch raises where a size, a number or a branch follows from the values of tensors.
_RAISED = (
    "GuardOnDataDependentSymNode",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "TooManySizes",
)
_NO_SIZE = re.compile(r"Size-like symbols: none")

MOST_SIZES = 16
"""So many sizes that depend on data one export may meet."""


class TooManySizes(Exception):
    """A model has more sizes that depend on data than any that converts."""


def innermost(error: BaseException) -> BaseException:
    """Return the error that an exporter's error came from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def depends_on_data(error: BaseException) -> bool:
    """Tell whether an export failed because something follows from the values of tensors."""
    return type(innermost(error)).__name__ in _RAISED


def size_depends_on_data(error: BaseException) -> bool:
    """Tell whether an export failed because the size of a tensor follows from values.

    A trace would keep the size that the example has, and be wrong on every other input; where
    only a branch depends on a value, it at least holds for inputs that take the same one.
    """
    cause = innermost(error)
    name = type(cause).__name__
    if name == "GuardOnDataDependentSymNode":
        return _NO_SIZE.search(str(cause)) is None
    return name in ("DynamicOutputShapeException", "TooManySizes")


@contextmanager
def few_sizes(most: int = MOST_SIZES) -> Iterator[None]:
    """Stop an export that meets more than ``most`` sizes that depend on data.

    PyTorch reasons about all of them together, in time that grows faster than their number: the
    ninety of a detector, one for each class, take minutes until the first comparison of their
    sum fails.

    Raises:
        TooManySizes: In the model's code that asks for one more.
    """
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    create = ShapeEnv.create_unbacked_symint
    count = 0

    def counted(self: ShapeEnv, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count > most:
            raise TooManySizes(f"more than {most} sizes depend on data")
        return create(self, *args, **kwargs)

    with patch.object(ShapeEnv, "create_unbacked_symint", counted):
        yield
