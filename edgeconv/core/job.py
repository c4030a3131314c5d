"""What a conversion is asked to do: the model, its data, and where the bundle goes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.core.errors import UsageError
from edgeconv.core.options import ConvertOptions


@dataclass(frozen=True, slots=True)
class Job:
    """One call of `edgeconv.convert` or ``edgeconv torch2tflite``.

    Attributes:
        source: Path of a model file, an `nn.Module`, or ``None`` with `factory` alone.
        options: How to convert.
        example_inputs: Example inputs of an `nn.Module`.
        factory: ``package.module:function`` that builds the module.
        input_shapes: Shapes of inputs, as `edgeconv.convert.torch.load.load_model` takes them.
        trust_pickle: Whether a pickled module may be loaded, which runs code from the file.
        calibration_data: Calibration inputs: a path, ``package.module:function``, or arrays.
        verify_data: Inputs that parity is measured on, likewise.
        image_mean: Per channel, subtracted from images in 0..1.
        image_std: Per channel, what they are divided by then.
        output: The bundle directory; ``<model>.edgeconv`` where ``None``.
        force: Whether an existing bundle may be replaced.
        command: The call, for the manifest.
    """

    source: Any
    options: ConvertOptions = field(default_factory=ConvertOptions)
    example_inputs: Any = None
    factory: str | None = None
    input_shapes: Any = ()
    trust_pickle: bool = False
    calibration_data: Any = None
    verify_data: Any = None
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None
    output: Path | None = None
    force: bool = False
    command: tuple[str, ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether the model comes from a file."""
        return isinstance(self.source, str | Path)

    @property
    def name(self) -> str:
        """The model's name: the file's without suffix, the factory's, or the class's."""
        if self.is_file:
            name = Path(self.source).name
            name = name.rpartition(".")[0] or name
        elif self.factory is not None:
            name = self.factory.rpartition(":")[2]
        else:
            name = type(self.source).__name__.lower()
        return re.sub(r"[^\w.+-]", "_", name) or "model"

    @property
    def target(self) -> Path:
        """The bundle directory."""
        return self.output if self.output is not None else Path(f"{self.name}.edgeconv")

    def require_model(self) -> None:
        """Refuse a job without a model.

        Raises:
            UsageError: Neither a source nor a factory is given.
        """
        if self.source is None and self.factory is None:
            raise UsageError(
                "no model is given", hint="name a model file, or --model package.module:function"
            )
