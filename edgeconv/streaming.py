"""Parity over a sequence of steps: the states that a model returns are fed to its next step.

What one step rounds, the next one reads, and so on; a step that starts from the reference's states
tells nothing of that. Reference and stage each run with their own states, on the same other inputs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv import parity
from edgeconv.arrays import read_npz, write_npz
from edgeconv.artifacts import Array, Arrays, Artifact
from edgeconv.parity import OutputFigures, Reference
from edgeconv.parts import Anatomy
from edgeconv.states import State, unroll
from edgeconv.toolchain.pool import WorkerKind, WorkerPool
from edgeconv.toolchain.runtimes import WITHOUT_STREAMS, Runtimes

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


def run_stream(
    workers: WorkerPool,
    artifact: Artifact,
    inputs: Arrays,
    stream: Stream,
    scratch: Path,
    runtimes: Runtimes,
    run: Callable[[Artifact, Arrays], Arrays],
) -> Arrays:
    """Run a stream: all steps in one call of a runtime, where that can do it.

    Args:
        workers: Where to run it.
        artifact: What to run.
        inputs: Samples by input name, ``[sample, ...]``, as the source model takes them.
        stream: How they follow each other.
        scratch: Directory for the files that carry the arrays.
        runtimes: What runs files of each format.
        run: Runs samples, otherwise; no more than the least number of steps are taken then.

    Returns:
        The outputs by name, ``[step, ...]``, as the source model has them.

    Raises:
        WorkerError: The runtime failed.
        InvalidModel: The file is not what the artifact says.
    """
    kind, function = runtimes[artifact.format]
    if artifact.tail is None and function != WITHOUT_STREAMS:
        return _run_at_once(workers, artifact, inputs, stream, scratch, (kind, function))

    def step(sample: Arrays) -> Arrays:
        outputs = run(artifact, {name: array[None] for name, array in sample.items()})
        return {name: array[0] for name, array in outputs.items()}

    return stream.at_most(LEAST).run(inputs, step)


def _run_at_once(
    workers: WorkerPool,
    artifact: Artifact,
    inputs: Arrays,
    stream: Stream,
    scratch: Path,
    runtime: tuple[WorkerKind, str],
) -> Arrays:
    kind, function = runtime
    feeds, results = scratch / "stream_feeds.npz", scratch / "stream_results.npz"
    write_npz(feeds, parity.store(inputs, artifact.inputs))
    try:
        workers.call(
            kind,
            function,
            artifact=artifact.to_dict(),
            feeds=str(feeds),
            results=str(results),
            stream=stream.to_dict(),
        )
        return artifact.join(parity.restore(read_npz(results), artifact.outputs))
    finally:
        feeds.unlink(missing_ok=True)
        results.unlink(missing_ok=True)


class Streaming:
    """The stream that every stage is checked on.

    Args:
        stream: How samples follow each other.
        reference: The reference's outputs by name, ``[step, ...]``. Where its states leave what
            float32 holds, the stream ends.
    """

    def __init__(self, stream: Stream, reference: Arrays) -> None:
        steps = min(_finite(reference[state.output]) for state in stream.states)
        self.stream = replace(stream, steps=steps)
        self._reference = _until(reference, steps)
        self._known: Reference | None = None

    def check(
        self, run: Callable[[Stream], Arrays], gate: Mapping[str, float], anatomy: Anatomy
    ) -> StreamParity | None:
        """Compare a stage with the reference.

        Args:
            run: Runs the stage; it may take fewer steps than the stream has.
            gate: The limits of the stage.
            anatomy: What the graph tells of the outputs.

        Returns:
            How far it follows; ``None`` where the reference does not get beyond one step.
        """
        if self.stream.steps < 2:
            return None
        outputs = run(self.stream)
        steps = len(next(iter(outputs.values())))
        if self._known is None or len(next(iter(self._known.arrays.values()))) != steps:
            self._known = Reference(_until(self._reference, steps), anatomy)
        return StreamParity.of(self._known, outputs, gate)


def _finite(array: Array) -> int:
    """Return how many steps pass before a value is not finite."""
    if array.dtype.kind != "f":
        return len(array)
    wrong = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    return int(wrong.argmax()) if wrong.any() else len(array)


def _until(arrays: Arrays, steps: int) -> Arrays:
    return {name: array[:steps] for name, array in arrays.items()}
