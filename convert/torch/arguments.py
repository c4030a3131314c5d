"""Match the arguments of a call with a module's ``forward()``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeconv.core.errors import UsageError

if TYPE_CHECKING:
    import torch

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""


def bound(module: torch.nn.Module, inputs: Any, where: str) -> Call:
    """Return the call with every argument positional that can be."""
    import torch

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, torch.Tensor):
        args = (inputs,)
    elif isinstance(inputs, Mapping):
        kwargs = dict(inputs)
    elif isinstance(inputs, (tuple, list)):
        args = tuple(inputs)
    else:
        raise UsageError(
            f"the example inputs are a {type(inputs).__name__}",
            where=where,
            hint="give a tensor, a tuple of tensors, or a mapping by argument name",
        )
    if isinstance(module, torch.jit.ScriptModule):
        return args, kwargs
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise UsageError(
            "the example inputs do not fit the module's forward()", where=where, why=str(error)
        ) from error
    return bound.args, bound.kwargs


def parameter_names(module: torch.nn.Module, count: int) -> list[tuple[str, bool]]:
    """Return the names of forward()'s arguments, and whether each must be given.

    Args:
        module: The module.
        count: How many positional arguments a call gives; for ``*args``.
    """
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        schema: Any = module.forward.schema  # type: ignore[attr-defined]  # a ScriptMethod
        arguments = schema.arguments[1:]
        return [(argument.name, not argument.has_default_value()) for argument in arguments]
    names: list[tuple[str, bool]] = []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            numbers = range(count - len(names))
            names += [(f"{parameter.name}_{number}", False) for number in numbers]
        elif parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            names.append((parameter.name, parameter.default is inspect.Parameter.empty))
    return names


def leaf_names(parameters: Sequence[str], paths: Sequence[Any]) -> list[str]:
    """Name each leaf after its argument and its place in it; names are unique."""
    names: list[str] = []
    for kind, argument, *rest in paths:
        index = argument.idx if kind.idx == 0 else argument.key
        base = parameters[index] if isinstance(index, int) else str(index)
        parts = [base, *(str(getattr(key, "idx", getattr(key, "key", key))) for key in rest)]
        name = "_".join(parts)
        while name in names:
            name += "_"
        names.append(name)
    return names
