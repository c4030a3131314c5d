"""Models in half precision, bfloat16 or double, in float32: what TFLite's kernels compute in."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from edgeconv.convert.torch.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch.export import ExportedProgram

_log = logging.getLogger(__name__)

_CHECKS = ("aten::_assert_tensor_metadata",)


def _foreign() -> tuple[torch.dtype, ...]:
    import torch

    return torch.float16, torch.bfloat16, torch.float64


def _said(where: str, dtypes: Iterable[torch.dtype]) -> None:
    names = ", ".join(sorted({str(dtype).removeprefix("torch.") for dtype in dtypes}))
    _log.warning("%s is in %s: it is converted, and compared, in float32", where, names)


def in_float32(module: torch.nn.Module, where: str) -> torch.nn.Module:
    """Return a module whose weights are float32, and say so; the given one where they are.

    Args:
        module: The module; it is left as it is.
        where: What messages call it.
    """
    held = {*(p.dtype for p in module.parameters()), *(b.dtype for b in module.buffers())}
    found = held & set(_foreign())
    if not found:
        return module
    _said(where, found)
    return deepcopy(module).float()


def as_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of one of the other floating types as float32."""
    return tensor.float() if tensor.dtype in _foreign() else tensor


def program_in_float32(program: ExportedProgram, where: str) -> ExportedProgram:
    """Return a program that computes in float32, and say so; the given one where it does.

    Its module is traced again with weights, inputs, constants and casts in float32.

    Args:
        program: The program; it is left as it is.
        where: What messages call it.
    """
    import torch
    from torch.utils import _pytree as pytree

    found = _types_of(program) & set(_foreign())
    if not found or program.example_inputs is None:
        return program
    _said(where, found)
    with quiet():
        module: Any = deepcopy(program).module(check_guards=False)
        module.float()
        _retype(module)
        args, kwargs = pytree.tree_map_only(torch.Tensor, as_float32, program.example_inputs)
        shapes = open_dimensions(program)
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes)


def _types_of(program: ExportedProgram) -> set[torch.dtype]:
    """Return the types of the weights, constants and inputs, and what is computed in 16 bits."""
    import torch

    tensors = [*program.state_dict.values(), *program.constants.values()]
    found = {tensor.dtype for tensor in tensors if isinstance(tensor, torch.Tensor)}
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and (
            node.op == "placeholder" or value.dtype.itemsize == 2
        ):
            found.add(value.dtype)
    return found


def open_dimensions(program: ExportedProgram) -> Any:
    """Return what leaves the same dimensions open; None where all are fixed."""
    import torch

    if not program.range_constraints:
        return None
    names = set(program.graph_signature.user_inputs)
    sizes = [node.meta["val"].shape for node in program.graph.nodes if node.name in names]
    leaves = [
        {
            axis: torch.export.Dim.AUTO
            for axis, size in enumerate(shape)
            if not isinstance(size, int)
        }
        for shape in sizes
    ]
    args, kwargs = torch.utils._pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    return (*args, *kwargs.values())


def _retype(module: Any) -> None:
    """Replace other floating types in a graph module: constants, and the types that calls name."""
    import torch

    foreign = set(_foreign())
    for node in list(module.graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.name in _CHECKS:
            module.graph.erase_node(node)
        elif node.op == "get_attr":
            _retype_attribute(module, str(node.target))
        else:
            node.args, node.kwargs = torch.utils._pytree.tree_map(
                lambda item: (
                    torch.float32 if isinstance(item, torch.dtype) and item in foreign else item
                ),
                (node.args, dict(node.kwargs)),
            )
    module.recompile()


def _retype_attribute(module: Any, path: str) -> None:
    import torch

    owner, _, name = path.rpartition(".")
    holder = module.get_submodule(owner)
    value = getattr(holder, name)
    if isinstance(value, torch.Tensor) and value.dtype in _foreign():
        delattr(holder, name)
        holder.register_buffer(name, value.float())
