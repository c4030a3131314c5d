"""edgeconv: take a PyTorch model to edge hardware and prove that it still computes the same.

``edgeconv.convert`` is the package of conversion stages and, called, the whole pipeline::

    import edgeconv

    result = edgeconv.convert(module, example_inputs, quantize="int8", calibration_data="x.npz")
    assert result.passed
    print(result.path, result.model.path)
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_type_hints

from edgeconv.core.errors import (
    ConversionError,
    EdgeconvError,
    InvalidData,
    InvalidModel,
    LimitExceeded,
    ToolMissing,
    UnsupportedModel,
    UsageError,
    WorkerCrashed,
    WorkerError,
    WorkerTimeout,
)
from edgeconv.core.options import ConvertOptions

if TYPE_CHECKING:
    from edgeconv.core.artifacts import Artifact, TensorSpec
    from edgeconv.core.bundle import Bundle, open_bundle
    from edgeconv.metrics.report import ParityReport
    from edgeconv.pipeline.result import Result
    from edgeconv.targets.placement import Placement

__all__ = [
    "Artifact",
    "Bundle",
    "ConversionError",
    "ConvertOptions",
    "EdgeconvError",
    "InvalidData",
    "InvalidModel",
    "LimitExceeded",
    "ParityReport",
    "Placement",
    "Result",
    "TensorSpec",
    "ToolMissing",
    "UnsupportedModel",
    "UsageError",
    "WorkerCrashed",
    "WorkerError",
    "WorkerTimeout",
    "convert",
    "open_bundle",
]

# Results hold arrays' specs, and numpy takes most of the time that `import edgeconv` would.
_LAZY = {
    "Artifact": "edgeconv.core.artifacts",
    "Bundle": "edgeconv.core.bundle",
    "ParityReport": "edgeconv.metrics.report",
    "Placement": "edgeconv.targets.placement",
    "Result": "edgeconv.pipeline.result",
    "TensorSpec": "edgeconv.core.artifacts",
    "open_bundle": "edgeconv.core.bundle",
}


def _convert(
    model: Any,
    example_inputs: Any = None,
    *,
    output: str | Path | None = None,
    calibration_data: Any = None,
    verify_data: Any = None,
    factory: str | None = None,
    input_shapes: Any = None,
    trust_pickle: bool = False,
    image_mean: tuple[float, ...] | None = None,
    image_std: tuple[float, ...] | None = None,
    force: bool = False,
    **options: Any,
) -> Result:
    """Convert a model into a bundle; ``edgeconv torch2tflite`` calls the same pipeline.

    Args:
        model: Path of a model file, an `nn.Module`, or ``None`` with `factory` alone.
        example_inputs: Of an `nn.Module`: a tensor, a tuple of arguments, or a mapping by name.
        output: The bundle directory; ``<model>.edgeconv`` by default.
        calibration_data: Inputs that the ranges of an int8 model are taken from: a path,
            ``package.module:function``, or arrays by input name with a leading sample axis.
        verify_data: Inputs that parity is measured on, likewise.
        factory: ``package.module:function`` that builds the module of a state dict.
        input_shapes: Shapes by input name or in order, where the file has none.
        trust_pickle: Load pickled modules, which runs code from the file.
        image_mean: Per channel, subtracted from images in 0..1.
        image_std: Per channel, what they are divided by then.
        force: Replace an existing bundle.
        **options: Fields of `ConvertOptions`, for example ``quantize="int8"``.

    Returns:
        The bundle's content; `Result.passed` tells whether every parity gate held.

    Raises:
        UsageError: The call or its input is wrong.
        ConversionError: The model cannot be converted.
        WorkerError: A native runtime failed.
        ToolMissing: A tool is absent.
    """
    from edgeconv.core.job import Job
    from edgeconv.pipeline import run as pipeline
    from edgeconv.targets.options import options_of

    job = Job(
        source=model,
        options=options_of(options),
        example_inputs=example_inputs,
        factory=factory,
        input_shapes=input_shapes,
        trust_pickle=trust_pickle,
        calibration_data=calibration_data,
        verify_data=verify_data,
        image_mean=image_mean,
        image_std=image_std,
        output=None if output is None else Path(output),
        force=force,
        command=("edgeconv.convert",),
    )
    return pipeline.convert(job)


def _signature() -> inspect.Signature:
    """Return the signature of `_convert` with the fields of `ConvertOptions` one by one."""
    bare = inspect.signature(_convert)
    from edgeconv.targets.options import every_option

    options = [
        inspect.Parameter(spec.name, inspect.Parameter.KEYWORD_ONLY, default=spec.default)
        for spec in every_option()
    ]
    own = [one for one in bare.parameters.values() if one.kind is not one.VAR_KEYWORD]
    return bare.replace(parameters=[*own, *options])


class _CallablePackage(ModuleType):
    """A package that is also a function, for those who look it up as well."""

    __call__ = staticmethod(_convert)
    __wrapped__ = staticmethod(_convert)

    @property
    def __signature__(self) -> inspect.Signature:
        return _signature()

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        from edgeconv.pipeline.result import Result

        known = get_type_hints(_convert, localns={"Result": Result})
        return {**get_type_hints(ConvertOptions), **known}


def _make_callable(name: str) -> ModuleType:
    """Importing a package sets it as an attribute here, over any function of that name."""
    package = importlib.import_module(name)
    about = inspect.getdoc(package)
    package.__class__ = _CallablePackage
    parts = (inspect.getdoc(_convert), inspect.getdoc(ConvertOptions), f"The package: {about}")
    package.__doc__ = "\n\n".join(map(str, parts))
    return package


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    convert = _convert
else:
    convert = _make_callable("edgeconv.convert")
