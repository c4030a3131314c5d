"""How the samples of a model with states follow each other, and for how many steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.core.states import State, unroll

LEAST, MOST = 64, 500
"""Bounds of the number of steps; more samples than that are steps too."""

_WORK = 2_000_000_000
"""Bytes of weights that all steps of one stage may read together, beyond the least of them."""

_SECONDS = 10.0
"""What takes longer for the least number of steps is not cheap."""

_MEMORY = 512 * 2**20
"""Bytes that the outputs of all steps may take, whatever the number of steps."""


@dataclass(frozen=True, slots=True)
class Stream:
    """How the samples of a model follow each other.

    Attributes:
        states: The states.
        steps: The number of steps.
    """

    states: tuple[State, ...]
    steps: int

    @classmethod
    def of(cls, states: Sequence[State], onnx: Artifact, inputs: Arrays) -> Stream | None:
        """Return the stream of a model, of as many steps as are cheap; ``None`` without states.

        Args:
            states: The states.
            onnx: The model, whose size tells what a step costs.
            inputs: The samples by input name, ``[sample, ...]``.
        """
        if not states:
            return None
        count = len(next(iter(inputs.values())))
        size = onnx.path.stat().st_size
        wanted = max(LEAST, count, min(MOST, _WORK // max(size, 1)))
        outputs = sum(
            math.prod(size or 1 for size in spec.shape) * np.dtype(spec.dtype).itemsize
            for spec in onnx.outputs
        )
        return cls(tuple(states), max(1, min(wanted, _MEMORY // max(outputs, 1))))

    def to_dict(self) -> dict[str, Any]:
        """Return the form that a runtime's worker takes."""
        return {"steps": self.steps, "states": [state.to_dict() for state in self.states]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Stream:
        """Rebuild a stream from that form."""
        return cls(tuple(map(State.from_dict, data["states"])), data["steps"])

    def at_most(self, steps: int) -> Stream:
        """Return the stream with no more steps than that."""
        return replace(self, steps=min(self.steps, steps))

    def run(self, inputs: Arrays, step: Callable[[Arrays], Arrays]) -> Arrays:
        """Run a model step by step; of a slow one the least number of steps is enough.

        Args:
            inputs: Samples by input name, ``[sample, ...]``.
            step: Takes and returns the arrays of one sample.
        """
        began = time.monotonic()

        def enough(number: int) -> bool:
            return number == LEAST and time.monotonic() - began > _SECONDS

        return unroll(self.states, inputs, self.steps, step, enough=enough)
