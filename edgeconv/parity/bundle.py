"""Parity of a finished bundle, computed again from its files.

Of the manifest only the digests are believed, and those are checked first. What the inputs and
outputs of a file are, the runtimes compare with the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.core.bundle import Bundle, open_bundle
from edgeconv.core.disk import sha256_of
from edgeconv.core.gates import TOLERANCE_DB, Gates
from edgeconv.core.scratch import scratch_directory
from edgeconv.core.states import State
from edgeconv.core.steps import Nobody, Observer, Steps
from edgeconv.core.stream import Stream
from edgeconv.metrics.report import ParityReport, report_of, with_converters
from edgeconv.parity.check import Verifier
from edgeconv.parity.layers.entries import kept_from, with_layers, with_trials_of
from edgeconv.parity.layers.measure import measure_layers
from edgeconv.parity.verdict import Verification, judged, read_baseline
from edgeconv.sources.workers import worker_pool
from edgeconv.toolchain.runtimes import RUNTIMES, runtimes_with
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """How to verify.

    Attributes:
        gates: Overrides of the default gates.
        baseline: An earlier ``parity.json``, or a bundle that has one.
        tolerance_db: SQNR that may be lost against the baseline.
        layers: Measure the error of each layer, too.
        timeout: Seconds that one call into a native runtime may take.
        memory: Bytes that each may take; half of the machine's memory by default.
        runtime: What runs .tflite files, a name of `TFLITE_RUNTIMES`.
    """

    gates: Gates = field(default_factory=dict)
    baseline: Path | None = None
    tolerance_db: float = TOLERANCE_DB
    layers: bool = True
    timeout: float = 1800.0
    memory: int | None = None
    runtime: str = "litert"


@contextmanager
def at_work(
    options: VerifyOptions, observer: Observer | None, *kinds: WorkerKind
) -> Iterator[tuple[WorkerPool, Path, Steps]]:
    """Provide workers, a directory for temporary files and steps while a bundle is verified.

    Args:
        options: Has the time limit.
        observer: Follows the steps.
        kinds: The workers to start beforehand.
    """
    with (
        scratch_directory() as scratch,
        ThreadPoolExecutor(1, "edgeconv-verify") as thread,
        worker_pool(timeout=options.timeout, memory=options.memory) as workers,
    ):
        workers.start(*kinds)
        yield workers, Path(scratch), Steps(observer or Nobody(), thread)


def verify_bundle(
    path: Path, options: VerifyOptions, observer: Observer | None = None
) -> Verification:
    """Run every artifact of a bundle on the bundle's vectors and compare.

    Args:
        path: The bundle directory. It is not changed.
        options: Gates, baseline, time limit.
        observer: Follows the steps.

    Raises:
        InvalidModel: It is not a bundle, or a file is not the one that the manifest describes.
        WorkerError: The reference of a bundle made from ONNX cannot be run.
    """
    bundle = open_bundle(path, allow_failed=True)
    before = report_of(bundle)
    baseline = read_baseline(options.baseline)
    kinds = WorkerKind.TENSORFLOW, WorkerKind.ONNXRUNTIME, WorkerKind.LITERT
    with at_work(options, observer, *kinds) as (workers, scratch, steps):
        parity, outputs = _check(bundle, before, options, workers, scratch, steps)
        if options.layers:
            found = steps.run(
                "layers",
                lambda: measure_layers(workers, bundle.artifacts, bundle.vectors()[0], scratch),
            )
            if "onnx" in bundle.artifacts:
                onnx = bundle.artifacts["onnx"].path
                parity = kept_from(before, parity, "onnx", sha256_of(onnx))
            parity = with_trials_of(before, with_layers(parity, found), _digests(bundle))
    parity = judged(parity, baseline, options.tolerance_db)
    return Verification(bundle.manifest, parity, (*bundle.vectors(), outputs))


def _digests(bundle: Bundle) -> dict[str, str]:
    """Return the digest of each stage's file, which `open_bundle` has checked."""
    return {entry["name"]: entry["sha256"] for entry in bundle.manifest["stages"]}


def _check(
    bundle: Bundle,
    before: ParityReport,
    options: VerifyOptions,
    workers: WorkerPool,
    scratch: Path,
    steps: Steps,
) -> tuple[ParityReport, Arrays]:
    """Return the report, and what the last stage computed."""
    inputs, outputs = bundle.vectors()
    reference = before.reference
    verifier = Verifier(
        workers, inputs, options.gates, scratch, reference, runtimes_with(options.runtime)
    )
    artifacts = bundle.artifacts
    if reference in artifacts:
        onnx = artifacts.pop(reference)
        steps.run(
            f"run {reference}",
            lambda: verifier.compute_reference(lambda arrays: verifier.run(onnx, arrays)),
        )
    else:
        verifier.compute_reference(lambda _: outputs)
    stream = _stream(bundle, before)
    if stream is not None and reference in bundle.artifacts:
        _run_stream(bundle, stream, verifier, steps)
    for name, artifact in artifacts.items():
        _check_stage(name, artifact, verifier, steps)
        if stream is not None and name == "onnx":
            # The PyTorch model is not in the bundle. Its ONNX file, which was just compared with
            # it, tells what the stages after it are to do over many steps.
            _run_stream(bundle, stream, verifier, steps)
    report = ParityReport(
        str(bundle.manifest["model"]),
        reference,
        len(next(iter(inputs.values()))),
        bool(bundle.manifest["calibrated"]),
        before.generated,
        tuple(verifier.stages),
        before.calibration,
    )
    return with_converters(report, bundle.manifest["stages"]), verifier.found


def _stream(bundle: Bundle, before: ParityReport) -> Stream | None:
    """Return the stream that the stages were measured on; ``None`` where they were on none."""
    steps = [stage.stream.steps for stage in before.stages if stage.stream is not None]
    states = [State.from_dict(state) for state in bundle.manifest.get("states", ())]
    known = bool(steps and states) and "onnx" in bundle.artifacts
    return Stream(tuple(states), max(steps)) if known else None


def _run_stream(bundle: Bundle, stream: Stream, verifier: Verifier, steps: Steps) -> None:
    onnx = bundle.artifacts["onnx"]
    steps.run(
        "stream onnx",
        lambda: verifier.compute_stream(stream, lambda found: verifier.run_stream(onnx, found)),
    )


def _check_stage(name: str, artifact: Artifact, verifier: Verifier, steps: Steps) -> None:
    if artifact.format in RUNTIMES:
        steps.run(f"verify {name}", lambda: verifier.check(name, artifact))
    else:
        verifier.skip(name, artifact, f"no runtime for {artifact.format.value} files")
