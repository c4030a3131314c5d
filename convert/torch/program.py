"""Turn an exported program into a `TorchModel` with fixed shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeconv.convert.torch.arguments import Call
from edgeconv.convert.torch.model import TorchModel, numpy_dtype, random_inputs
from edgeconv.convert.torch.open_dimensions import advice, limits
from edgeconv.convert.torch.quiet import quiet
from edgeconv.convert.torch.single_precision import program_in_float32
from edgeconv.core.artifacts import TensorSpec
from edgeconv.core.errors import InvalidModel, UsageError
from edgeconv.core.input_shapes import (
    ShapesLike,
    as_input_shapes,
    batch_is_open,
    of_one,
    require_fit,
    shape_dynamic,
)
from edgeconv.core.wording import named

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram


def from_program(
    program: ExportedProgram,
    name: str,
    input_shapes: ShapesLike = None,
    seed: int = 0,
    *,
    where: str = "",
    open_batch: bool = True,
) -> TorchModel:
    """Return the model of an exported program.

    Args:
        program: The program.
        name: Name for the files made from it.
        input_shapes: Shapes for inputs with open dimensions; the program is exported again with
            them.
        seed: Seed of the example inputs where the program carries none.
        where: The file, for messages.
        open_batch: Whether a batch that all inputs leave open stays open; else it becomes 1.

    Raises:
        InvalidModel: The program trains, takes something else than tensors, or fails.
        UsageError: A shape is missing or does not fit.
    """
    where = where or name
    _refuse_training(program, where)
    program = program_in_float32(program, where)
    inputs = _user_inputs(program, where)
    given = as_input_shapes(input_shapes).by_name([label for label, _ in inputs])
    if not given and batch_is_open([_sizes(value) for _, value in inputs]):
        specs = tuple(_open(label, value, where) for label, value in inputs)
        if open_batch:
            return _model(program, name, specs, seed, where).check()
        specs = of_one(specs)
    else:
        _require_shapes(program, inputs, given, where)
        specs = tuple(_fixed(label, value, given, where) for label, value in inputs)
    if not all(_is_static(value) for _, value in inputs):
        program = _export_again(program, specs, seed, where)
    return _model(program, name, specs, seed, where).check()


def _refuse_training(program: ExportedProgram, where: str) -> None:
    reason = ""
    if mutated := [*program.graph_signature.buffers_to_mutate.values()]:
        reason = f"it changes its buffers when it runs: {', '.join(mutated[:3])}"
    elif training := [node.name for node in program.graph.nodes if _trains(node)]:
        reason = f"dropout or batch normalisation is in training mode: {', '.join(training[:3])}"
    if reason:
        raise InvalidModel(
            "the program was exported for training, or it keeps state",
            where=where,
            why=reason,
            hint="call model.eval() before torch.export.export; make state an input and an output",
        )


def _trains(node: torch.fx.Node) -> bool:
    """Tell whether a node is a normalisation or dropout that was exported in training mode."""
    import torch

    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    schema = node.target._schema
    if "norm" not in schema.name and "dropout" not in schema.name:
        return False
    for position, argument in enumerate(schema.arguments):
        if argument.name in ("train", "training"):
            given = node.args[position] if position < len(node.args) else None
            return bool(node.kwargs.get(argument.name, given))
    return False


def _user_inputs(program: ExportedProgram, where: str) -> list[tuple[str, torch.Tensor]]:
    """Return the inputs that are tensors, by name, each with the fake tensor that describes it."""
    import torch
    from torch.export.graph_signature import ConstantArgument, InputKind, TensorArgument

    values = {node.name: node.meta.get("val") for node in program.graph.nodes if not node.args}
    inputs = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is not InputKind.USER_INPUT or isinstance(spec.arg, ConstantArgument):
            continue
        value = values.get(spec.arg.name)
        if not isinstance(spec.arg, TensorArgument) or not isinstance(value, torch.Tensor):
            raise InvalidModel(
                f"the input {spec.arg.name!r} is not a tensor",
                where=where,
                hint="export the model with tensor inputs only",
            )
        inputs.append((spec.arg.name, value))
    if not inputs:
        raise InvalidModel("the model has no tensor inputs", where=where)
    return inputs


def _sizes(value: torch.Tensor) -> tuple[int | str, ...]:
    return tuple(size if isinstance(size, int) else str(size) for size in value.shape)


def _is_static(value: torch.Tensor) -> bool:
    return all(isinstance(size, int) for size in value.shape)


def _open(label: str, value: torch.Tensor, where: str) -> TensorSpec:
    _, *rest = value.shape
    return TensorSpec.plain(label, (None, *rest), numpy_dtype(value.dtype, label, where))


def _fixed(
    label: str, value: torch.Tensor, given: dict[str, tuple[int, ...]], where: str
) -> TensorSpec:
    declared = _sizes(value)
    dtype = numpy_dtype(value.dtype, label, where)
    shape = given.get(label)
    if shape is not None:
        require_fit(where, label, declared, shape)
        return TensorSpec.plain(label, shape, dtype)
    return TensorSpec.plain(label, tuple(value.shape), dtype)


def _require_shapes(
    program: ExportedProgram,
    inputs: Sequence[tuple[str, torch.Tensor]],
    given: dict[str, tuple[int, ...]],
    where: str,
) -> None:
    """Refuse open dimensions without a size, with sizes that the program takes."""
    for label, value in inputs:
        if label not in given and not _is_static(value):
            raise shape_dynamic(
                where,
                label,
                _sizes(value),
                limits=limits(program, inputs),
                advice=advice(program, inputs, given),
            )


def _export_again(
    program: ExportedProgram, specs: tuple[TensorSpec, ...], seed: int, where: str
) -> ExportedProgram:
    """Return the program with fixed shapes; its module traced again on inputs of these shapes."""
    import torch

    inputs = _user_inputs(program, where)
    args, kwargs = _arranger(program)(random_inputs(specs, seed))
    try:
        with quiet():
            return torch.export.export(program.module(), args, kwargs)
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise UsageError(
            "the program does not take inputs of these shapes",
            where=where,
            why=lines[0] if lines else type(error).__name__,
            hint=f"{named('input_shapes')} has to respect the ranges that the model was "
            "exported with "
            f"({limits(program, inputs)}), for example {advice(program, inputs, {})}",
        ) from error


def _arranger(program: ExportedProgram) -> Any:
    """Return what turns tensors, one for each tensor input, into the program's arguments."""
    import torch
    from torch.export.graph_signature import ConstantArgument, InputKind

    specs = [
        spec.arg
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.USER_INPUT
    ]
    tree = program.call_spec.in_spec

    def arrange(tensors: Sequence[torch.Tensor]) -> Call:
        values = iter(tensors)
        leaves = [
            argument.value if isinstance(argument, ConstantArgument) else next(values)
            for argument in specs
        ]
        call: Call = torch.utils._pytree.tree_unflatten(leaves, tree)
        return call

    return arrange


def _model(
    program: ExportedProgram, name: str, specs: tuple[TensorSpec, ...], seed: int, where: str
) -> TorchModel:
    try:
        with quiet():
            module = program.module()
    except Exception as error:
        raise InvalidModel(
            "the program cannot be turned into a module",
            where=where,
            why=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            hint="export it again with this version of PyTorch",
        ) from error
    examples = _own_examples(program, specs) or random_inputs(specs, seed)
    return TorchModel(name, program, specs, examples, module, _arranger(program), where)


def _own_examples(
    program: ExportedProgram, specs: tuple[TensorSpec, ...]
) -> tuple[torch.Tensor, ...] | None:
    """Return the inputs that the program was exported with, if it holds them and they fit."""
    import torch

    leaves = torch.utils._pytree.tree_leaves(program.example_inputs)
    tensors = tuple(leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor))
    if len(tensors) != len(specs) or not all(map(_fits, tensors, specs)):
        return None
    return tensors


def _fits(tensor: torch.Tensor, spec: TensorSpec) -> bool:
    return spec.takes(tuple(tensor.shape)) and str(tensor.dtype) == f"torch.{spec.dtype}"
