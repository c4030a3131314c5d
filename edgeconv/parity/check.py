"""Parity of every stage, against the reference and against the stage before it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.convert.onnx.facts import simulates_quantization
from edgeconv.convert.onnx.parts import read_anatomy
from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Arrays, Artifact, Format
from edgeconv.core.bundle import Bundle
from edgeconv.core.errors import (
    InvalidModel,
    LimitExceeded,
    NoRuntime,
    WorkerCrashed,
    WorkerError,
    first_line,
)
from edgeconv.core.gates import Gate, Gates
from edgeconv.core.stream import Stream
from edgeconv.metrics import parity
from edgeconv.metrics.batches import run_in_batches
from edgeconv.metrics.judging import row_tolerance
from edgeconv.metrics.parity import OutputFigures
from edgeconv.metrics.parts import Anatomy
from edgeconv.metrics.report import FAIL, PASS, SKIPPED, StageParity
from edgeconv.metrics.report_parts import Histogram
from edgeconv.metrics.stream_parity import StreamParity
from edgeconv.parity.streaming import Streaming, run_stream
from edgeconv.targets.gates import gate_for
from edgeconv.toolchain.runtimes import ONNX_REFERENCE, RUNTIMES, Runtimes, suspects
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool

Runner = Callable[[Artifact, Arrays], tuple[Arrays, str]]
"""Runs an artifact on samples, source form; returns the outputs and the runtime's version."""

_log = logging.getLogger(__name__)

_PORTION = 64 * 2**20
"""Bytes of inputs that a worker is given at a time, whatever the number of samples."""


def run_artifact(
    workers: WorkerPool, artifact: Artifact, inputs: Arrays, scratch: Path
) -> tuple[Arrays, str]:
    """Run an artifact on samples, and its tail on what that returns.

    Args:
        workers: Where to run it.
        artifact: What to run.
        inputs: Arrays by input name, ``[sample, ...]``, as the source model takes them.
        scratch: Directory for the files that carry the arrays.

    Returns:
        The outputs by name, ``[sample, ...]``, in the source model's layout and in real numbers;
        and the runtime with its version.

    Raises:
        WorkerError: The runtime failed.
        InvalidModel: The file is not what the artifact says.
    """
    return run_timed(workers, artifact, inputs, scratch)[:2]


def run_timed(
    workers: WorkerPool,
    artifact: Artifact,
    inputs: Arrays,
    scratch: Path,
    runtimes: Runtimes = RUNTIMES,
) -> tuple[Arrays, str, float]:
    """Run an artifact as `run_artifact` does; also return the median milliseconds of a sample."""
    parts, runtime, milliseconds = _run_alone(workers, artifact, inputs, scratch, runtimes)
    outputs = artifact.join(parts)
    if artifact.tail is not None:
        feeds = {**inputs, **outputs}
        ends, _, more = _run_alone(workers, artifact.tail, feeds, scratch, runtimes)
        outputs |= ends
        milliseconds += more
    return {spec.name: outputs[spec.name] for spec in artifact.results}, runtime, milliseconds


def _run_alone(
    workers: WorkerPool, artifact: Artifact, inputs: Arrays, scratch: Path, runtimes: Runtimes
) -> tuple[Arrays, str, float]:
    """Run one file; see `run_timed`."""
    kind, function = runtimes[artifact.format]
    answers: list[dict[str, Any]] = []

    def run(arrays: Arrays) -> Arrays:
        parts = []
        for portion in _portions(arrays):
            outputs, answer = _run_once(workers, artifact, portion, scratch, (kind, function))
            answers.append(answer)
            parts.append(outputs)
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    outputs = run_in_batches(artifact.inputs, inputs, run)
    return outputs, answers[0]["runtime"], answers[0]["milliseconds"]


def _portions(arrays: Arrays) -> Iterator[Arrays]:
    """Yield the samples in portions, so that a worker's memory does not grow with their number."""
    count = len(next(iter(arrays.values())))
    each = sum(array.nbytes for array in arrays.values()) // max(1, count)
    size = max(1, _PORTION // max(1, each))
    for start in range(0, max(1, count), size):
        yield {name: array[start : start + size] for name, array in arrays.items()}


def _run_once(
    workers: WorkerPool,
    artifact: Artifact,
    inputs: Arrays,
    scratch: Path,
    runtime: tuple[WorkerKind, str],
) -> tuple[Arrays, dict[str, Any]]:
    kind, function = runtime
    feeds, results = scratch / "feeds.npz", scratch / "results.npz"
    write_npz(feeds, parity.store(inputs, artifact.inputs))
    try:
        answer = workers.call(
            kind,
            function,
            artifact=artifact.to_dict(),
            feeds=str(feeds),
            results=str(results),
        )
        return parity.restore(read_npz(results), artifact.outputs), answer
    except WorkerCrashed as crash:
        if artifact.format is not Format.TFLITE:
            raise
        raise suspects.named(workers, artifact.path, crash) from crash
    finally:
        feeds.unlink(missing_ok=True)
        results.unlink(missing_ok=True)


class Verifier:
    """Checks one stage after the other; each check remembers the outputs for the next.

    Args:
        workers: Where artifacts run.
        inputs: Samples by input name, ``[sample, ...]``, as the source model takes them.
        gates: Overrides of the default gates.
        scratch: Directory for temporary files.
        reference: Name of the reference, ``torch`` or ``onnx``.
        runtimes: What runs files of each format.
        reference_stage: The stage that the reference is like, where it is no exact one.
    """

    def __init__(
        self,
        workers: WorkerPool,
        inputs: Arrays,
        gates: Gates,
        scratch: Path,
        reference: str,
        runtimes: Runtimes = RUNTIMES,
        reference_stage: str = "",
    ) -> None:
        self.reference_name = reference
        self._reference_stage = reference_stage
        self.inputs = inputs
        self.reference: Arrays = {}
        self.stages: list[StageParity] = []
        self._workers = workers
        self._runtimes = runtimes
        self._gates = gates
        self._simulated = False
        self._no_reference = ""
        self._scratch = scratch
        self._anatomy = Anatomy()
        self._expected: parity.Reference | None = None
        self._streaming: Streaming | None = None
        self._previous_stage = reference
        self._previous: Arrays = {}

    @property
    def found(self) -> Arrays:
        """Outputs of the last stage that could be run; empty before one was."""
        return self._previous if any(stage.outputs for stage in self.stages) else {}

    def compute_reference(self, compute: Callable[[Arrays], Arrays]) -> None:
        """Run the reference on the samples, if anything can; stages are compared with it."""
        try:
            self.reference = self._previous = compute(self.inputs)
        except NoRuntime as error:
            self._no_reference = f"there is no reference: {first_line(error)}"
            _log.warning("parity is not measured: %s", first_line(error))

    def compute_stream(self, stream: Stream | None, compute: Callable[[Stream], Arrays]) -> None:
        """Run the reference as a stream, where the model has states; so are all stages then."""
        if stream is not None and not self._no_reference:
            self._streaming = Streaming(stream, compute(stream))
            self._expected = None

    def run_stream(self, artifact: Artifact, stream: Stream) -> Arrays:
        """Run an artifact as a stream, and return its outputs as the source model has them."""

        def run(artifact: Artifact, inputs: Arrays) -> Arrays:
            return run_timed(self._workers, artifact, inputs, self._scratch, self._runtimes)[0]

        given = (self._workers, artifact, self.inputs, stream, self._scratch, self._runtimes)
        return run_stream(*given, run)

    def _check_stream(self, artifact: Artifact) -> StreamParity | None:
        if self._streaming is None:
            return None
        return self._streaming.check(
            lambda stream: self.run_stream(artifact, stream), self._known_outputs()
        )

    def run(self, artifact: Artifact, inputs: Arrays) -> Arrays:
        """Run an artifact, and return its outputs as the source model has them."""
        outputs, runtime = run_artifact(self._workers, artifact, inputs, self._scratch)
        _note_stand_in(artifact, runtime)
        self._look_at(artifact)
        return outputs

    def skip(self, stage: str, artifact: Artifact, why: str) -> None:
        """Record a stage that is not checked."""
        entry = StageParity(
            stage, artifact.path.name, SKIPPED, gate_for(stage, self._gates), reasons=(why,)
        )
        self.stages.append(entry)

    def check(self, stage: str, artifact: Artifact, run: Runner | None = None) -> None:
        """Run a stage's artifact and compare. A runtime that fails on it fails the stage only.

        Args:
            stage: Name of the stage.
            artifact: What it made.
            run: Runs it; as `run_artifact` does by default.
        """
        if self._no_reference:
            self.skip(stage, artifact, self._no_reference)
            return
        gate = self._gate(stage)
        try:
            if run is not None:
                outputs, runtime, milliseconds = *run(artifact, self.inputs), None
            else:
                outputs, runtime, milliseconds = run_timed(
                    self._workers, artifact, self.inputs, self._scratch, self._runtimes
                )
            _note_stand_in(artifact, runtime)
            self._look_at(artifact)
            gate = self._gate(stage)
            stream = self._check_stream(artifact)
        except NoRuntime as error:
            self.skip(stage, artifact, first_line(error))
            return
        except LimitExceeded:
            # It says nothing of the stage, only of this machine.
            raise
        except (WorkerError, InvalidModel) as error:
            reasons: tuple[str, ...] = (f"it could not be run: {first_line(error)}",)
            self.stages.append(StageParity(stage, artifact.path.name, FAIL, gate, reasons=reasons))
            return
        expected = self._known_reference()
        figures = expected.compare(outputs, row_tolerance(gate))
        reasons = (*parity.reasons(figures, gate), *(stream.reasons(gate) if stream else ()))
        self.stages.append(
            StageParity(
                stage,
                artifact.path.name,
                FAIL if reasons else PASS,
                gate,
                runtime,
                figures,
                self._previous_stage,
                self._against_previous(expected, figures, outputs, gate),
                reasons,
                _histograms(self.reference, outputs),
                milliseconds,
                stream,
            )
        )
        self._previous_stage, self._previous = stage, outputs

    def judged(
        self, artifact: Artifact, gate: Gate
    ) -> tuple[tuple[OutputFigures, ...], tuple[str, ...]]:
        """Run an artifact and compare it as `check` does, without recording it.

        Args:
            artifact: What to run.
            gate: The limits.

        Returns:
            The figures of its outputs, and why the gate does not hold; nothing where it does.

        Raises:
            WorkerError: The runtime failed.
            InvalidModel: The file is not what the artifact says.
        """
        outputs = self.run(artifact, self.inputs)
        stream = self._check_stream(artifact)
        figures = self._known_reference().compare(outputs, row_tolerance(gate))
        return figures, (*parity.reasons(figures, gate), *(stream.reasons(gate) if stream else ()))

    def _known_reference(self) -> parity.Reference:
        """Return the reference with its parts, which are looked for once."""
        if self._expected is None:
            self._expected = parity.Reference(self.reference, self._known_outputs())
        return self._expected

    def _known_outputs(self) -> Anatomy:
        """Return what is known of the outputs; states are no class scores."""
        found = self._anatomy.asked(self._gates.values())
        if self._streaming is None:
            return found
        names = (state.output for state in self._streaming.stream.states)
        states = dict.fromkeys(names, "it is a state")
        return replace(found, no_scores={**found.no_scores, **states})

    def _against_previous(
        self,
        expected: parity.Reference,
        figures: tuple[OutputFigures, ...],
        outputs: Arrays,
        gate: Gate,
    ) -> tuple[OutputFigures, ...]:
        """Return the figures against the stage before; of the first stage that is the reference."""
        if self._previous is self.reference:
            return figures
        before = parity.Reference(
            self._previous, self._known_outputs(), expected.parts, counts=False
        )
        return before.compare(outputs, row_tolerance(gate))

    def _gate(self, stage: str) -> Gate:
        return gate_for(
            stage, self._gates, simulated=self._simulated, reference=self._reference_stage
        )

    def _look_at(self, artifact: Artifact) -> None:
        """Note what an ONNX file tells: what it joins, and whether it simulates quantization."""
        if artifact.format is Format.ONNX:
            self._simulated |= simulates_quantization(artifact.path)
            plain = all(
                spec.permutation == tuple(range(len(spec.shape))) for spec in artifact.outputs
            )
            if plain and self._anatomy == Anatomy():
                self._anatomy = read_anatomy(artifact.path)

    def know(self, anatomy: Anatomy) -> None:
        """Take what is known of the reference's outputs."""
        self._anatomy = anatomy


def anatomy_of(bundle: Bundle) -> Anatomy:
    """Return what the ONNX file of a bundle tells of its outputs; nothing where it has none."""
    onnx = bundle.artifacts.get("onnx")
    return Anatomy() if onnx is None else read_anatomy(onnx.path)


def _note_stand_in(artifact: Artifact, runtime: str) -> None:
    """Say where ONNX's reference implementation took over from onnxruntime."""
    if runtime.startswith(ONNX_REFERENCE):
        _log.warning("onnxruntime cannot run %s; %s did", artifact.path.name, runtime)


def _histograms(reference: Arrays, outputs: Arrays) -> tuple[Histogram, ...]:
    found = (
        parity.histogram(name, array, outputs[name])
        for name, array in reference.items()
        if name in outputs
    )
    return tuple(item for item in found if item is not None)
