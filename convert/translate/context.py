"""What a translation may ask about the node at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeconv.convert.translate.registry import Unsupported
from edgeconv.convert.translate.value import Value
from edgeconv.convert.translate.view import Shape
from edgeconv.core.artifacts import Array
from edgeconv.core.wording import named


def _no_batch() -> Any:
    raise Unsupported("a size known at run time only", f"give {named('input_shapes')}")


@dataclass(frozen=True, slots=True)
class Context:
    """The node being translated.

    Attributes:
        opset: Version of the node's domain in the model.
        outputs: For each of the node's outputs, whether it is wanted.
        nested: Translates a graph that is one of the node's attributes: takes the graph and a
            value for each of its inputs, returns the values of its outputs.
        weight: Takes a constant operand of a product or a convolution, and returns what stands
            for it in the graph; large ones are best kept out of the graph itself.
        batch: How many times the open batch the open dimension of the node's inputs is; 0 where
            none is open, or data decides how far.
        shapes: The shapes that the file declares of the outputs, None where it leaves one open.
        first_of_each: Makes a vector of zeros, int32, with one for each sample of the open batch.
    """

    opset: int
    outputs: tuple[bool, ...]
    nested: Callable[[Any, Sequence[Value]], list[Value]]
    weight: Callable[[Array], Any]
    batch: int = 0
    shapes: tuple[Shape | None, ...] = ()
    first_of_each: Callable[[], Any] = _no_batch

    def constant(self, value: Value, what: str) -> Array:
        """Return a value's array.

        Raises:
            Unsupported: It is computed at run time.
        """
        if value.constant is None:
            raise Unsupported(
                f"{what} is computed at run time",
                "make it a constant, or export with fixed shapes",
            )
        return value.constant

    def result(self, what: str, output: int = 0) -> Shape:
        """Return an output's shape, where what decides it is computed at run time.

        Raises:
            Unsupported: The file leaves it open.
        """
        shape = self.shapes[output] if output < len(self.shapes) else None
        if shape is None:
            raise Unsupported(
                f"{what} is computed at run time, and the shape of the result not stated",
                "make it a constant, or export with fixed shapes",
            )
        return shape

    def integers(self, value: Value, what: str) -> tuple[int, ...]:
        """Return a constant's elements as Python integers.

        Raises:
            Unsupported: It is computed at run time.
        """
        return tuple(int(item) for item in self.constant(value, what).ravel())


def axis_of(axis: int, rank: int) -> int:
    """Return a non-negative axis.

    Raises:
        Unsupported: The axis is out of range.
    """
    if not -rank <= axis < max(rank, 1):
        raise Unsupported(f"axis {axis} is out of range for rank {rank}")
    return axis % rank if rank else 0
