"""Find out early that PyTorch cannot export a model, because sizes in it depend on data.

Detectors with post-processing take long to run, and longer to export, only to be refused. What
their first run meets on the way tells that an export should be tried before anything else. The
export decides: many a model selects rows by a mask and can be exported.
"""

from __future__ import annotations

import io
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from edgeconv.convert.torch.data_dependent import few_sizes, size_depends_on_data
from edgeconv.convert.torch.export_errors import Failure, export_failed
from edgeconv.convert.torch.model import TorchModel, evaluating
from edgeconv.convert.torch.quiet import captured
from edgeconv.core.artifacts import Array
from edgeconv.core.errors import InvalidModel

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_SECONDS = 2.0
"""Processor time of a run after which it is cheaper to follow the shapes alone."""


class _Stopped(BaseException):
    """Ends a run; not an `Exception`, which the model might catch."""


class _OpenSize(_Stopped):
    """The size of a tensor follows from values."""


class _Slow(_Stopped):
    """The run takes long."""


def exported(program: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the exported program of an `nn.Module`.

    Raises:
        Exception: PyTorch's, or `TooManySizes`.
    """
    import torch

    with few_sizes():
        return torch.export.export(program, args, kwargs, strict=False)


def first_run(model: TorchModel) -> tuple[list[Array] | None, ExportedProgram | None]:
    """Run a module on its example inputs, or export it where that may turn out impossible.

    Args:
        model: A model whose ``program`` is a module.

    Returns:
        The outputs of the run and the exported program; either may be missing.

    Raises:
        ConversionError: The export fails because a size depends on data.
    """
    import torch

    if isinstance(model.program, torch.jit.ScriptModule):
        return None, None
    try:
        return _watched(model), None
    except _OpenSize:
        suspect = True
    except _Slow:
        suspect = _fails_on_shapes(model)
    except InvalidModel:  # of the model itself, or of it being watched
        suspect = False
    return None, _export(model) if suspect else None


def _watched(model: TorchModel) -> list[Array]:
    """Run a model on its example inputs.

    Raises:
        _OpenSize: An operator's result has a size that follows from values.
        _Slow: It takes long.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    end = time.process_time() + _SECONDS

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            del types
            if torch.Tag.dynamic_output_shape in func.tags and _selects(func, args):
                raise _OpenSize
            if time.process_time() > end:
                raise _Slow
            return func(*args, **(kwargs or {}))

    with Watch():  # type: ignore[no-untyped-call]  # torch's constructor
        return model.run_examples()


def _selects(func: Any, args: tuple[Any, ...]) -> bool:
    """Tell whether an operator counts values; indexing does so with masks alone."""
    import torch

    if func is not torch.ops.aten.index.Tensor:
        return True
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


def _fails_on_shapes(model: TorchModel) -> bool:
    """Tell whether the shapes of a model's tensors cannot be followed without their values."""
    import torch
    from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    try:
        with captured(io.StringIO()):
            with FakeCopyMode(mode):  # else the model could keep tensors without values
                module = deepcopy(model.function)
            args, kwargs = model.arrange(
                [mode.from_tensor(x, static_shapes=True) for x in model.example_inputs]
            )
            with evaluating(module), torch.no_grad(), mode, few_sizes():
                module(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - the model's, PyTorch's, or of the copy
        return size_depends_on_data(error)
    return False


def _export(model: TorchModel) -> ExportedProgram | None:
    """Return the exported program; None where it fails for another reason than a size.

    Raises:
        ConversionError: A size depends on data.
    """
    import torch

    args, kwargs = model.example_call
    chatter = io.StringIO()
    try:
        with captured(chatter), evaluating(model.function), torch.no_grad():
            program: ExportedProgram = exported(model.program, args, kwargs)
    except Exception as error:  # noqa: BLE001 - exporters raise anything
        if size_depends_on_data(error):
            failure = Failure("torch.onnx", error, chatter.getvalue())
            raise export_failed(model, [failure]) from None
        return None
    return program
