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
        reasons: What of the gate is missed.
    """

    steps: int
    outputs: tuple[OutputFigures, ...]
    late: tuple[OutputFigures, ...]
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, reference: Reference, outputs: Arrays, gate: Mapping[str, float]) -> StreamParity:
        """Compare a stage with the reference; both by output name, ``[step, ...]``."""
        steps = len(next(iter(outputs.values())))
        first = steps - max(1, steps // 4)
        at_the_end = Reference(_from(reference.arrays, first), parts=reference.parts)
        whole, late = reference.compare(outputs), at_the_end.compare(_from(outputs, first))
        missed = [
            f"after {steps} steps of a stream, {text}" for text in parity.reasons(whole, gate)
        ]
        if not missed:
            when = f"in the last {steps - first} of {steps} steps of a stream"
            missed = [f"{when}, {text}" for text in parity.reasons(late, gate)]
        return cls(steps, whole, late, tuple(missed))

    def to_dict(self) -> dict[str, Any]:
        """Return what ``parity.json`` says of the stage's stream."""
        return {
            "steps": self.steps,
            "outputs": [figures.to_dict() for figures in self.outputs],
            "late": [figures.to_dict() for figures in self.late],
        }


def _from(arrays: Arrays, first: int) -> Arrays:
    return {name: array[first:] for name, array in arrays.items()}
