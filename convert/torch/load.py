"""Read a model from whatever file or function it comes in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeconv.convert.onnx.file import open_onnx
from edgeconv.convert.torch.arguments import parameter_names
from edgeconv.convert.torch.checkpoints import read_safetensors
from edgeconv.convert.torch.files import (
    load_exported_program,
    load_state_dict,
    load_torchscript,
    unpickle,
)
from edgeconv.convert.torch.model import TorchModel, from_module, random_inputs
from edgeconv.convert.torch.program import from_program
from edgeconv.convert.torch.weight_limit import require_program_fits, require_weights_fit
from edgeconv.core.artifacts import Artifact, TensorSpec
from edgeconv.core.errors import UsageError
from edgeconv.core.input_shapes import (
    InputShapes,
    ShapesLike,
    as_input_shapes,
    parse_input_shapes,
    shapes_missing,
)
from edgeconv.core.sniff import Kind, kind_of, require_checksums
from edgeconv.core.user_code import failed, import_function, importable_from_here
from edgeconv.core.wording import named

if TYPE_CHECKING:
    import torch

__all__ = ["load_model", "parse_input_shapes"]

_log = logging.getLogger(__name__)


def load_model(
    source: str | Path | None,
    *,
    factory: str | None = None,
    input_shapes: ShapesLike = None,
    trust_pickle: bool = False,
    seed: int = 0,
    open_batch: bool = True,
) -> TorchModel | Artifact:
    """Read a model; what it is is told by its content, never by its name.

    Args:
        source: The file; None if the factory alone makes the model.
        factory: ``package.module:function`` that returns an `nn.Module`, with its weights or for
            the state dict in ``source``.
        input_shapes: Shapes for inputs that the file gives none for, by name or in order.
        trust_pickle: Unpickle what can run code.
        seed: Seed of generated example inputs.
        open_batch: Whether a batch that all inputs leave open stays open; else it becomes 1.

    Returns:
        The PyTorch model, run once to see that it works; or the artifact of an ONNX file.

    Raises:
        InvalidModel: The file is missing, damaged, unsafe, or not a model.
        UsageError: An option is missing, wrong, or does not fit the file.
    """
    shapes = as_input_shapes(input_shapes)
    if source is None:
        if factory is None:
            raise UsageError(
                "there is no model", hint=f"name a model file, or give {named('factory')}"
            )
        module = build(factory)
        name = factory.rpartition(":")[2]
        return _shaped(module, shapes, name, f"{named('factory')} {factory}", "factory", seed)
    path = Path(source)
    kind = kind_of(path)
    if kind is Kind.EXPORTED_PROGRAM:
        require_program_fits(path)
    if kind not in (Kind.ONNX, Kind.PICKLE, Kind.SAFETENSORS):
        require_checksums(path)
    if factory is not None and kind not in (Kind.TORCH_SAVE, Kind.PICKLE, Kind.SAFETENSORS):
        raise UsageError(
            f"{named('factory')} {factory} makes no sense here",
            where=str(path),
            why=f"the file is a {kind.value}, which holds its model",
            hint=f"leave {named('factory')} out",
        )
    if kind is Kind.ONNX:
        return open_onnx(path, shapes, open_batch=open_batch)
    if kind in (Kind.EXPORTED_PROGRAM, Kind.OLD_EXPORTED_PROGRAM):
        program = load_exported_program(path, trust_pickle=trust_pickle)
        require_weights_fit(program.state_dict.values(), str(path))
        return from_program(
            program, path.stem, shapes, seed, where=str(path), open_batch=open_batch
        )
    module = _module_of(path, kind, factory, trust_pickle=trust_pickle)
    return _shaped(module, shapes, path.stem, str(path), kind.value, seed)


def _module_of(
    path: Path, kind: Kind, factory: str | None, *, trust_pickle: bool
) -> torch.nn.Module:
    import torch

    if kind is Kind.TORCHSCRIPT:
        return load_torchscript(path)
    content: torch.nn.Module | dict[str, torch.Tensor]
    if kind is Kind.SAFETENSORS:
        content = read_safetensors(path)
    else:
        with importable_from_here():
            content = unpickle(path, trust_pickle=trust_pickle)
    if isinstance(content, torch.nn.Module):
        if factory is not None:
            raise UsageError(
                f"{named('factory')} {factory} makes no sense here",
                where=str(path),
                why="the file holds a whole module",
                hint=f"leave {named('factory')} out",
            )
        return content
    if factory is None:
        raise UsageError(
            "this is a state dict: weights without a model",
            where=str(path),
            why=f"it is a {kind.value}",
            hint=f"name the function that builds the model: {named('factory')} "
            "package.module:factory",
        )
    module = build(factory)
    load_state_dict(module, content, str(path), factory)
    return module


def build(factory: str) -> torch.nn.Module:
    """Call the function that ``package.module:function`` names, without arguments.

    Args:
        factory: The name; modules in the current directory are found too.

    Raises:
        UsageError: It cannot be imported, raises, or returns no `nn.Module`.
    """
    import torch

    function: Callable[[], Any] = import_function(factory, named("factory"))
    where = f"{named('factory')} {factory}"
    if isinstance(function, torch.nn.Module):
        return function
    with importable_from_here():
        try:
            module = function()
        except Exception as error:
            raise failed("the factory failed", where, error) from error
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"the factory returned a {type(module).__name__}, not a torch.nn.Module", where=where
        )
    return module


def _shaped(
    module: torch.nn.Module, shapes: InputShapes, name: str, where: str, kind: str, seed: int
) -> TorchModel:
    """Return the model of a module that says nothing of its inputs but their names."""
    names = parameter_names(module, len(shapes.positional))
    given = shapes.by_name([label for label, _ in names])
    missing = [label for label, required in names if required and label not in given]
    if missing or not given:
        raise shapes_missing(where, kind, missing)
    require_weights_fit(module.state_dict().values(), where)
    specs = [TensorSpec.plain(label, shape, "float32") for label, shape in given.items()]
    tensors = random_inputs(specs, seed)
    order = _call_order([label for label, _ in names], specs, tensors)
    return from_module(module, order, name, where=where)


def _call_order(
    names: Sequence[str], specs: Sequence[TensorSpec], tensors: Sequence[torch.Tensor]
) -> Any:
    """Return positional arguments, or keywords where an optional one before them is left out."""
    given = dict(zip((spec.name for spec in specs), tensors, strict=True))
    leading = names[: len(given)]
    if set(leading) == set(given):
        return tuple(given[name] for name in leading)
    return given
