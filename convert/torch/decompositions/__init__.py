"""Operators that torch's ONNX exporter lacks or gets wrong, computed with those that it has.

The exporter decomposes a program before it translates it; these go into its table. A function
takes the operator's own arguments and is traced, so all shapes in it are static. One that returns
``NotImplemented`` leaves a call as it is. Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edgeconv.convert.torch.decompositions import (
    arithmetic,
    distances,
    indexing,
    linear,
    ordering,
    recurrent,
    scans,
    windows,
)

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_GROUPS = (arithmetic, distances, indexing, linear, ordering, recurrent, scans, windows)


def decompositions(program: ExportedProgram) -> Mapping[Any, Callable[..., Any]]:
    """Return what computes each operator: `torch._ops.OpOverload` to function.

    Args:
        program: The program; LSTMs that the exporter knows stay whole.
    """
    import torch

    found: dict[Any, Callable[..., Any]] = {}
    for group in _GROUPS:
        for name, function in group.TABLE.items():
            packet, _, overload = name.partition(".")
            operator = getattr(torch.ops.aten, packet, None)
            # Versions of torch differ in the operators that they have.
            if operator is not None and hasattr(operator, overload or "default"):
                found[getattr(operator, overload or "default")] = function
    if not any(recurrent.is_projected(node) for node in program.graph.nodes):
        del found[torch.ops.aten.lstm.input]
    return found
