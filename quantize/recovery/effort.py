"""How much recovery may try: a matter of the model alone, so that the same is tried each time.

What a candidate costs beside running it is proportional to its operators, each of which is planned,
rewritten and written out. How long that takes on a clock must not decide what comes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeconv.quantize.recovery.base import Recovery
from edgeconv.tflite.graph import Graph

_BUILT = 40_000
"""Operators that are quantized on trial, in all candidates together: each takes about a third of a
millisecond. What a model of many operators has no effort left for is not tried."""

_LEAST_BUILT = 12
"""But as many candidates of the largest model are: enough for one method that chooses ranges."""


@dataclass(slots=True)
class Effort:
    """How many candidates may yet be built.

    Attributes:
        left: The candidates that may be built; what has begun is finished.
        idle: Methods that were not tried for that reason, or not wholly.
    """

    left: int
    idle: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, graph: Graph) -> Effort:
        """Return that for a model."""
        return cls(max(_LEAST_BUILT, _BUILT // max(1, len(graph.operators))))

    def begins(self, method: Recovery) -> bool:
        """Tell whether a method can be tried."""
        if self.left <= 0 and method.name not in self.idle:
            self.idle.append(method.name)
        return self.left > 0

    def note(self, graph: Graph) -> list[str]:
        """Say what was not tried."""
        if not self.idle:
            return []
        names = ", ".join(self.idle)
        size = f"{len(graph.operators)} operators"
        return [f"recovery leaves out what a model of {size} takes too long for: {names}"]
