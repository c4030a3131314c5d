"""Input shapes as users give them, matched with the inputs of a model."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeconv.core.artifacts import TensorSpec
from edgeconv.core.errors import UsageError
from edgeconv.core.wording import named

_log = logging.getLogger(__name__)

Shape = tuple[int, ...]
_DIMENSIONS = re.compile(r"\d+(?:[,x]\d+)*")
_EXAMPLE = (
    f"{named('input_shapes')} 1,3,224,224, or with the input's name "
    f"{named('input_shapes')} image=1,3,224,224"
)


@dataclass(frozen=True, slots=True)
class InputShapes:
    """Shapes given for a model's inputs.

    Attributes:
        positional: Shapes of the first inputs, in the model's order.
        named: Shapes by input name.
    """

    positional: tuple[Shape, ...] = ()
    named: Mapping[str, Shape] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.positional or self.named)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputShapes:
        """Rebuild shapes from the JSON form of their fields."""
        return cls(
            tuple(map(tuple, data["positional"])),
            {name: tuple(shape) for name, shape in data["named"].items()},
        )

    def by_name(self, names: Sequence[str]) -> dict[str, Shape]:
        """Return the shape given for each input that one was given for.

        Args:
            names: The model's inputs, in order.

        Raises:
            UsageError: Too many shapes, an unknown name, or two shapes for one input.
        """
        listed = ", ".join(names)
        if len(self.positional) > len(names):
            raise UsageError(
                f"{named('input_shapes')} is given {len(self.positional)} times",
                why=f"the model has {len(names)} input(s): {listed}",
            )
        shapes = dict(zip(names, self.positional, strict=False))
        for name, shape in self.named.items():
            if name not in names:
                raise UsageError(
                    f"{named('input_shapes')} names an input {name!r} that the model does not have",
                    hint=f"its inputs are {listed}",
                )
            if name in shapes:
                raise UsageError(f"{named('input_shapes')} gives two shapes for the input {name!r}")
            shapes[name] = shape
        return shapes


ShapesLike = InputShapes | Mapping[str, Sequence[int]] | Sequence[Sequence[int]] | None


def as_input_shapes(shapes: ShapesLike) -> InputShapes:
    """Return shapes given as a mapping by name, as a sequence in order, or not at all."""
    if isinstance(shapes, InputShapes):
        return shapes
    if shapes is None:
        return InputShapes()
    if isinstance(shapes, Mapping):
        return InputShapes(named={name: _checked(shape) for name, shape in shapes.items()})
    return InputShapes(positional=tuple(_checked(shape) for shape in shapes))


def parse_input_shapes(values: Sequence[str]) -> InputShapes:
    """Parse ``1,3,224,224`` and ``name=1,3,224,224``, as ``--input-shape`` takes them.

    Args:
        values: One text for each input, in any mixture; those without a name count in order.

    Raises:
        UsageError: A text is not of this form.
    """
    positional = []
    by_name: dict[str, Shape] = {}
    for value in values:
        name, equals, dimensions = value.rpartition("=")
        dimensions = dimensions.strip().strip("()[]").replace(" ", "")
        if not _DIMENSIONS.fullmatch(dimensions) or (equals and not name):
            raise UsageError(
                f"{named('input_shapes')} {value} is not a shape", hint=f"write {_EXAMPLE}"
            )
        shape = _checked([int(size) for size in re.split("[,x]", dimensions)])
        if name in by_name:
            raise UsageError(f"{named('input_shapes')} gives two shapes for the input {name!r}")
        if name:
            by_name[name] = shape
        else:
            positional.append(shape)
    return InputShapes(tuple(positional), by_name)


def _checked(shape: Sequence[int]) -> Shape:
    if any(int(size) < 1 for size in shape):
        raise UsageError(
            f"{named('input_shapes')} {format_shape(shape)} has a dimension below 1",
            hint="models are converted for fixed shapes; give every dimension its size",
        )
    return tuple(int(size) for size in shape)


def format_shape(shape: Sequence[int | str | None]) -> str:
    """Return ``1,3,H,?`` for a shape with named and unknown dimensions."""
    return ",".join("?" if size is None else str(size) for size in shape)


def shapes_missing(where: str, kind: str, names: Sequence[str]) -> UsageError:
    """Return the error for a model file that carries no shapes."""
    listed = ", ".join(names)
    example = " ".join(f"{named('input_shapes')} {name}=1,3,224,224" for name in names[:2])
    return UsageError(
        "the shapes of the inputs are not known",
        where=where,
        why=f"a {kind} does not carry them" + (f"; missing: {listed}" if listed else ""),
        hint=f"give every input's shape, for example {example or _EXAMPLE}",
    )


def batch_is_open(shapes: Sequence[Sequence[int | str | None]]) -> bool:
    """Tell whether the inputs leave their batch open, and nothing else.

    Args:
        shapes: The declared shape of every input; a string or None is an open dimension.

    Returns:
        Whether the first dimension of every input is open, under one name or none, and every other
        dimension is fixed.
    """
    names = {shape[0] if shape else 0 for shape in shapes}
    rest = [size for shape in shapes for size in shape[1:]]
    return (
        len(names - {None}) <= 1
        and not any(isinstance(name, int) for name in names)
        and all(isinstance(size, int) for size in rest)
    )


def of_one(inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return inputs with an open batch set to 1, and say so."""
    if any(None in spec.shape for spec in inputs):
        _log.warning(
            "the open batch is set to 1, because the target needs fixed shapes; --input-shape "
            "chooses another"
        )
    return tuple(spec.of_one for spec in inputs)


def shape_dynamic(
    where: str,
    name: str,
    shape: Sequence[int | str | None],
    *,
    limits: str = "",
    advice: str = "",
) -> UsageError:
    """Return the error for an input with dimensions that are open.

    Args:
        where: The file.
        name: The input.
        shape: Its sizes; a string or None is an open dimension.
        limits: Which sizes the open dimensions take, where that is known.
        advice: An option with shapes that the model takes; by default every open size is 1.
    """
    sizes = ",".join(str(size) if isinstance(size, int) else "1" for size in shape)
    why = "only a batch that is the first dimension of every input can stay open"
    example = advice or f"{named('input_shapes')} {name}={sizes}"
    return UsageError(
        f"the input {name!r} has open dimensions: {format_shape(shape)}",
        where=where,
        why=f"{why}; {limits}" if limits else why,
        hint=f"fix them, for example {example}",
    )


def require_fit(where: str, name: str, declared: Sequence[int | str | None], given: Shape) -> None:
    """Check a shape given by the user against what the file declares.

    Args:
        where: The file.
        name: The input.
        declared: Sizes; a string or None is an open dimension.
        given: The shape given.

    Raises:
        UsageError: Another rank, or another size in a fixed dimension.
    """
    fits = len(declared) == len(given) and all(
        not isinstance(expected, int) or expected == size
        for expected, size in zip(declared, given, strict=True)
    )
    if fits:
        return
    what = "rank" if len(declared) != len(given) else "shape"
    raise UsageError(
        f"{named('input_shapes')} gives the input {name!r} another {what} than the model has",
        where=where,
        why=f"expected {format_shape(declared)}, got {format_shape(given)}",
        hint="leave the option out to use the model's own shape, or correct it",
    )
