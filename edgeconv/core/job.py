"""What a conversion is asked to do: the model, its data, and where the bundle goes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edgeconv.core.declare import FIRST, MODEL, OUTPUT, PORTS, VERIFICATION, About, option
from edgeconv.core.errors import UsageError
from edgeconv.core.options import ConvertOptions
from edgeconv.core.wording import named


def _shapes(texts: Sequence[str]) -> object:
    # It works on arrays' specs, and numpy takes most of the time that a command's start would.
    from edgeconv.core.input_shapes import parse_input_shapes

    return parse_input_shapes(texts)


def _numbers(option_name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"{named(option_name)} {text} is not understood",
            hint=f"write it as {named(option_name)} 0.485,0.456,0.406",
        ) from None


@dataclass(frozen=True, slots=True)
class Job:
    """One call of `edgeconv.convert` or ``edgeconv torch2tflite``.

    Attributes:
        source: Path of a model file, an `nn.Module`, or ``None`` with `factory` alone.
        options: How to convert.
        example_inputs: Example inputs of an `nn.Module`.
        command: The call, for the manifest.

    The others are options, which say themselves what they are.
    """

    source: Any
    options: ConvertOptions = field(default_factory=ConvertOptions)
    example_inputs: Any = None
    output: Path | None = option(
        None,
        About(
            FIRST,
            "Bundle directory.",
            flag="--output",
            short="-o",
            metavar="PATH",
            shown="./<model>.edgeconv",
            is_path=True,
            place=6,
        ),
    )
    calibration_data: Any = option(
        None,
        About(
            FIRST,
            ".npz, .npy, a directory of images, or module:function; the int8 ranges come from it.",
            "As a parameter also arrays by input name with a leading sample axis, or what yields"
            " samples or batches of them, such as a DataLoader.",
            metavar="DATA",
            parse=str,
            is_path=True,
            place=4,
        ),
    )
    input_shapes: Any = option(
        (),
        About(
            FIRST,
            "Shape of an input, where the file has none.",
            "As a parameter: shapes by input name, or in order.",
            flag="--input-shape",
            metavar="[NAME=]1,3,224,224",
            parse=_shapes,
            repeatable=True,
            place=2,
        ),
    )
    factory: str | None = option(
        None,
        About(
            FIRST,
            "Function that builds the module, for a state dict or without any file.",
            "package.module:function, or path/to/file.py:function.",
            flag="--model",
            metavar="MODULE:FACTORY",
            place=1,
        ),
    )
    trust_pickle: bool = option(
        default=False,
        about=About(MODEL, "Load pickled modules: this runs code from the file.", in_file=False),
    )
    image_mean: tuple[float, ...] | None = option(
        None,
        About(
            PORTS,
            "Subtracted from images in 0..1, per channel.",
            metavar="M,M,M",
            parse=partial(_numbers, "image_mean"),
        ),
    )
    image_std: tuple[float, ...] | None = option(
        None,
        About(
            PORTS,
            "What they are divided by then.",
            metavar="S,S,S",
            parse=partial(_numbers, "image_std"),
        ),
    )
    verify_data: Any = option(
        None,
        About(
            VERIFICATION,
            "Inputs to measure parity on; calibration data by default.",
            metavar="DATA",
            parse=str,
            is_path=True,
        ),
    )
    force: bool = option(
        default=False,
        about=About(OUTPUT, "Replace an existing bundle."),
    )
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
                "no model is given",
                hint=f"name a model file, or {named('factory', 'package.module:function')}",
            )
