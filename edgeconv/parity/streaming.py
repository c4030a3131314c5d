"""Parity over a sequence of steps: the states that a model returns are fed to its next step.

What one step rounds, the next one reads, and so on; a step that starts from the reference's states
tells nothing of that. Reference and stage each run with their own states, on the same other inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Array, Arrays, Artifact
from edgeconv.core.stream import LEAST, Stream
from edgeconv.metrics import parity
from edgeconv.metrics.parity import Reference
from edgeconv.metrics.parts import Anatomy
from edgeconv.metrics.stream_parity import StreamParity
from edgeconv.toolchain.runtimes import WITHOUT_STREAMS, Runtimes
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool


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

    def check(self, run: Callable[[Stream], Arrays], anatomy: Anatomy) -> StreamParity | None:
        """Compare a stage with the reference.

        Args:
            run: Runs the stage; it may take fewer steps than the stream has.
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
        return StreamParity.of(self._known, outputs)


def _finite(array: Array) -> int:
    """Return how many steps pass before a value is not finite."""
    if array.dtype.kind != "f":
        return len(array)
    wrong = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    return int(wrong.argmax()) if wrong.any() else len(array)


def _until(arrays: Arrays, steps: int) -> Arrays:
    return {name: array[:steps] for name, array in arrays.items()}
