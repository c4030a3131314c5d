"""Check the arrays that a bundle's parity was measured on against its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeconv.core.artifacts import Arrays, TensorSpec
from edgeconv.core.errors import InvalidData


def require_vectors(
    specs: Sequence[TensorSpec], inputs: Arrays, outputs: Arrays, where: str
) -> None:
    """Require an array for each input, of its shape, and as many samples of everything.

    Raises:
        InvalidData: There is not.
    """
    why = ""
    if set(inputs) != {spec.name for spec in specs}:
        found = ", ".join(map(repr, inputs)) or "none"
        why = f"its inputs are {found}, not {', '.join(repr(spec.name) for spec in specs)}"
    counts = {array.shape[:1] for array in (*inputs.values(), *outputs.values())}
    if not why and (len(counts) != 1 or counts & {(), (0,)}):
        why = "it has no samples, or not as many of each array"
    for spec in () if why else specs:
        shape = inputs[spec.name].shape[1:]
        if not replace(spec, shape=spec.source_shape).takes(shape):
            why = f"samples of {spec.name!r} are {list(shape)}, not {list(spec.source_shape)}"
    if why:
        raise InvalidData(
            "the vectors do not fit the bundle's models",
            where=where,
            why=why,
            hint="convert the model again",
        )
