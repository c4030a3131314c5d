"""A PyTorch model that is ready to run and to export: the reference of every parity check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeconv.convert.torch.arguments import Call, bound, leaf_names, parameter_names
from edgeconv.convert.torch.output_names import field_names
from edgeconv.convert.torch.quiet import quiet
from edgeconv.convert.torch.single_precision import as_float32, in_float32
from edgeconv.core.artifacts import Array, Arrays, TensorSpec
from edgeconv.core.errors import InvalidData, InvalidModel, UsageError
from edgeconv.core.input_shapes import format_shape
from edgeconv.core.wording import named

if TYPE_CHECKING:
    import torch

    Program = torch.export.ExportedProgram | torch.jit.ScriptModule | torch.nn.Module

# Two runs of one model on one input may differ by the order of a few additions.
_REPEAT_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class TorchModel:
    """A PyTorch model with its inputs.

    Attributes:
        name: Name for the files made from it.
        program: What is exported: an exported program, a TorchScript module or an `nn.Module`.
        inputs: Inputs, flattened, in order; their shapes are fixed, but for an open batch.
        example_inputs: One tensor for each input.
        function: What runs: ``program``, or the module made from an exported program.
        arrange: Turns one tensor for each input into the arguments of ``function``.
        where: The file or object, for messages.
        captured: ``program``, an `nn.Module`, as an exported program, where that is known already.
    """

    name: str
    program: Program
    inputs: tuple[TensorSpec, ...]
    example_inputs: tuple[torch.Tensor, ...]
    function: Callable[..., Any]
    arrange: Callable[[Sequence[Any]], Call]
    where: str
    captured: torch.export.ExportedProgram | None = None

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(spec.name for spec in self.inputs)

    @property
    def example_call(self) -> Call:
        """Positional and keyword arguments of a call with the example inputs."""
        return self.arrange(self.example_inputs)

    def run(self, arrays: Arrays) -> list[Array]:
        """Run one sample.

        Args:
            arrays: For each input its array, by name, in the input's shape and dtype.

        Returns:
            The outputs in order; nested containers are flattened and None is left out.

        Raises:
            InvalidData: An array is missing, unknown, or of another shape or dtype.
            InvalidModel: The model failed.
        """
        return self._outputs(self.tensors(arrays))

    def tensors(self, arrays: Arrays) -> list[torch.Tensor]:
        """Return one sample as tensors, in the order of the inputs.

        Raises:
            InvalidData: An array is missing, unknown, or of another shape or dtype.
        """
        return [_tensor(spec, arrays) for spec in self._require(arrays)]

    def _require(self, arrays: Arrays) -> tuple[TensorSpec, ...]:
        names = [spec.name for spec in self.inputs]
        if set(arrays) != set(names):
            raise InvalidData(
                "the arrays are not the inputs of the model",
                where=self.where,
                why=f"expected {', '.join(names)}; got {', '.join(arrays)}",
            )
        return self.inputs

    def _outputs(self, tensors: Sequence[torch.Tensor]) -> list[Array]:
        from torch.utils import _pytree as pytree

        outputs = self._returned(tensors)
        return [_array(leaf) for leaf in pytree.tree_leaves(outputs) if leaf is not None]

    def _returned(self, tensors: Sequence[torch.Tensor]) -> Any:
        import torch

        args, kwargs = self.arrange(tensors)
        try:
            with evaluating(self.function), torch.no_grad():
                return self.function(*args, **kwargs)
        except Exception as error:
            raise _run_failed(self, error) from error

    def output_fields(self) -> list[str]:
        """Return a name for each output; ``""`` where the model returns it in no named field.

        Raises:
            InvalidModel: The model failed on its example inputs.
        """
        return field_names(self._returned(self.example_inputs), self.input_names)

    def run_examples(self) -> list[Array]:
        """Run the model on its example inputs.

        Raises:
            InvalidModel: The model failed.
        """
        return self._outputs(self.example_inputs)

    def check(self, first: list[Array] | None = None) -> TorchModel:
        """Run the model twice on its example inputs and return it.

        Args:
            first: What the first run gave, if there was one.

        Raises:
            InvalidModel: It fails, has no outputs, or answers differently the second time.
        """
        if first is None:
            first = self.run_examples()
        second = self.run_examples()
        if not first:
            raise InvalidModel("the model returns no tensor", where=self.where)
        same = len(first) == len(second) and all(map(_equal, first, second))
        if not same:
            raise InvalidModel(
                "the model gives different outputs for the same input",
                where=self.where,
                why="dropout or another random operator is active, or it keeps state between calls",
                hint="call model.eval() before torch.export, torch.jit or torch.save; make state "
                "an input and an output",
            )
        return self


def _equal(first: Array, second: Array) -> bool:
    if first.shape != second.shape:
        return False
    if first.dtype.kind not in "fc" or first.size == 0:
        return bool(np.array_equal(first, second))
    largest = np.max(np.abs(first), initial=0.0, where=np.isfinite(first))
    tolerance = float(_REPEAT_TOLERANCE * largest)
    return bool(np.allclose(first, second, rtol=0, atol=tolerance, equal_nan=True))


@contextmanager
def evaluating(function: object) -> Iterator[None]:
    """Put a module in evaluation mode, and each of its parts back into its mode afterwards."""
    import torch

    modules: list[torch.nn.Module] = []
    if isinstance(function, torch.nn.Module):
        # Frozen TorchScript has no mode any more.
        modules = [part for part in function.modules() if getattr(part, "training", False)]
    if modules and isinstance(function, torch.fx.GraphModule):
        # The module of an exported program refuses eval(): its mode is part of the graph.
        modules = []
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module in modules:
            module.training = True


def _tensor(spec: TensorSpec, arrays: Arrays) -> torch.Tensor:
    import torch

    array = arrays[spec.name]
    if not spec.takes(array.shape) or array.dtype != np.dtype(spec.dtype):
        raise InvalidData(
            f"the array does not fit the input {spec.name!r}",
            why=f"expected {spec.dtype} {format_shape(spec.shape)}, "
            f"got {array.dtype} {format_shape(array.shape)}",
        )
    return torch.from_numpy(np.array(array, order="C"))


def _array(leaf: Any) -> Array:
    import torch

    if not isinstance(leaf, torch.Tensor):
        return np.asarray(leaf)
    leaf = leaf.detach().cpu()
    if leaf.dtype == torch.bfloat16:
        leaf = leaf.float()
    return np.array(leaf.resolve_conj().resolve_neg().numpy())


def _run_failed(model: TorchModel, error: Exception) -> InvalidModel:
    import traceback

    lines = str(error).strip().splitlines()
    shapes = ", ".join(f"{spec.name} {format_shape(spec.shape)}" for spec in model.inputs)
    return InvalidModel(
        "the model fails when it runs",
        where=model.where,
        why=f"{type(error).__name__}: {lines[-1] if lines else 'no message'}",
        hint=f"it was called with {shapes}; if a shape is wrong, give {named('input_shapes')}",
        details="".join(traceback.format_exception(error)),
    )


def numpy_dtype(dtype: torch.dtype, name: str, where: str) -> str:
    """Return numpy's name of a tensor type.

    Raises:
        InvalidModel: numpy and TFLite have no such type.
    """
    text = str(dtype).removeprefix("torch.")
    known = ("float32", "float64", "float16", "bool", "int8", "int16", "int32", "int64", "uint8")
    if text not in known:
        raise InvalidModel(
            f"the input {name!r} has the type {text}, which no stage can carry",
            where=where,
            hint="cast inside the model, and export it with float32 or integer inputs",
        )
    return text


def random_inputs(inputs: Sequence[TensorSpec], seed: int) -> tuple[torch.Tensor, ...]:
    """Return a tensor for each input: standard normal, or 0 and 1 for integers and booleans."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for spec in inputs:
        shape = tuple(1 if size is None else size for size in spec.shape)
        dtype = getattr(torch, spec.dtype)
        if dtype.is_floating_point:
            tensors.append(torch.randn(shape, generator=generator).to(dtype))
        else:
            tensors.append(torch.randint(0, 2, shape, generator=generator).to(dtype))
    return tuple(tensors)


def from_module(
    module: torch.nn.Module,
    example_inputs: Any,
    name: str = "",
    *,
    where: str = "",
) -> TorchModel:
    """Return the model of a module in memory; the module is left as it is.

    Args:
        module: The module, in any mode; it is run and exported in evaluation mode.
        example_inputs: A tensor, a tuple of positional arguments, or a mapping of keyword
            arguments. Arguments may be containers of tensors.
        name: Name for the files made from it; the class's name where left out.
        where: What messages call it.

    Raises:
        UsageError: The inputs are not tensors or do not fit the module's signature.
        InvalidModel: The module fails on them, or answers differently the second time.
        ConversionError: A number of results inside it depends on data, which nothing can export.
    """
    import torch
    from torch.utils import _pytree as pytree

    from edgeconv.convert.torch.early_export import first_run

    name = name or type(module).__name__
    where = where or name
    given, module = module, in_float32(module, where)
    args, kwargs = bound(module, example_inputs, where)
    paths, tree = pytree.tree_flatten_with_path((args, kwargs))
    leaves = [leaf for _, leaf in paths]
    leaves = [as_float32(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    tensors = [leaf.detach().cpu() for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if not tensors or any(not _is_input(leaf) for leaf in leaves):
        raise UsageError(
            "the example inputs are not tensors", where=where, hint="give torch.Tensor inputs"
        )
    positions = [number for number, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    parameters = [label for label, _ in parameter_names(module, len(args))]
    names = leaf_names(parameters, [paths[number][0] for number in positions])
    specs = tuple(
        TensorSpec.plain(label, tuple(tensor.shape), numpy_dtype(tensor.dtype, label, where))
        for label, tensor in zip(names, tensors, strict=True)
    )

    def arrange(values: Sequence[Any]) -> Call:
        filled = list(leaves)
        for position, value in zip(positions, values, strict=True):
            filled[position] = value
        call: Call = pytree.tree_unflatten(filled, tree)
        return call

    model = TorchModel(name, module, specs, tuple(tensors), module, arrange, where)
    try:
        first, program = first_run(model)
        return replace(model, captured=program).check(first)
    except InvalidModel as error:
        retyped = None if given is module else _retyped(given, example_inputs, name, where)
        if retyped is None:
            raise error from error.__cause__
        return retyped


def _retyped(
    module: torch.nn.Module, example_inputs: Any, name: str, where: str
) -> TorchModel | None:
    """Return the model of a module with casts in its code, from its program; None if it fails."""
    import torch

    from edgeconv.convert.torch.program import from_program

    args, kwargs = bound(module, example_inputs, where)
    try:
        with evaluating(module), quiet():
            program = torch.export.export(module, args, kwargs, strict=False)
        return from_program(program, name, where=where)
    except Exception:  # noqa: BLE001 - the caller has the error of the plain way, and raises it
        return None


def _is_input(leaf: Any) -> bool:
    import torch

    return leaf is None or isinstance(leaf, (torch.Tensor, bool, int, float, str))
