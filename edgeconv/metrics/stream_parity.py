"""How far a stage follows the reference over a stream of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeconv.core.artifacts import Arrays
from edgeconv.metrics import parity
from edgeconv.metrics.parity import OutputFigures, Reference


@dataclass(frozen=True, slots=True)
class StreamParity:
    """How far a stage follows the reference over a stream.

    Attributes:
        steps: The number of steps.
        outputs: Figures over all of them.
        late: Figures over the last quarter, which the errors of all others have gone into.
    """

    steps: int
    outputs: tuple[OutputFigures, ...]
    late: tuple[OutputFigures, ...]

    @classmethod
    def of(cls, reference: Reference, outputs: Arrays) -> StreamParity:
        """Compare a stage with the reference; both by output name, ``[step, ...]``."""
        steps = len(next(iter(outputs.values())))
        first = steps - _last(steps)
        at_the_end = Reference(_from(reference.arrays, first), parts=reference.parts)
        whole, late = reference.compare(outputs), at_the_end.compare(_from(outputs, first))
        return cls(steps, whole, late)

    def reasons(self, gate: Mapping[str, float]) -> tuple[str, ...]:
        """Return what of a gate is missed; of the end of the stream where all of it holds."""
        missed = parity.reasons(self.outputs, gate)
        if missed:
            return tuple(f"after {self.steps} steps of a stream, {text}" for text in missed)
        when = f"in the last {_last(self.steps)} of {self.steps} steps of a stream"
        return tuple(f"{when}, {text}" for text in parity.reasons(self.late, gate))

    def to_dict(self) -> dict[str, Any]:
        """Return what ``parity.json`` says of the stage's stream."""
        return {
            "steps": self.steps,
            "outputs": [figures.to_dict() for figures in self.outputs],
            "late": [figures.to_dict() for figures in self.late],
        }


def _last(steps: int) -> int:
    """Return how many steps the last quarter has."""
    return max(1, steps // 4)


def _from(arrays: Arrays, first: int) -> Arrays:
    return {name: array[first:] for name, array in arrays.items()}
