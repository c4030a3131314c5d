"""The whole way from a model to its bundle: load, the stages, parity after each, the reports.

The command line and `edgeconv.convert` both call `convert` here. Native runtimes work in other
processes, so one stage is checked in a thread while the next one is made.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from edgeconv import targets
from edgeconv.convert.onnx.feedback import states_of
from edgeconv.core import bundle
from edgeconv.core.arrays import write_npz
from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.core.bundle import BundleWriter
from edgeconv.core.disk import disk_full, is_disk_full, is_large
from edgeconv.core.errors import (
    ConversionError,
    EdgeconvError,
    WorkerError,
    at_stage,
    error_from_dict,
)
from edgeconv.core.job import Job
from edgeconv.core.options import CALIBRATED_MODES, parse_memory
from edgeconv.core.states import State
from edgeconv.core.steps import Nobody, Observer, Steps, collected_warnings
from edgeconv.core.stream import Stream
from edgeconv.core.wording import as_it_is
from edgeconv.metrics.report import FAIL, SKIPPED, ParityReport, with_converters
from edgeconv.parity.check import Verifier, run_artifact
from edgeconv.parity.layers.entries import with_layers
from edgeconv.parity.layers.measure import NOT_RECORDED, StageLayers, layers_of_onnx, measure_layers
from edgeconv.parity.trials import try_next_steps
from edgeconv.pipeline.plan import plan, require_outputs
from edgeconv.pipeline.result import Failure, Result, describe_job, environment
from edgeconv.quantize.rules.recipe import rules_of
from edgeconv.quantize.stage import Quantize
from edgeconv.reports.bundle import write_reports
from edgeconv.sources.folding import folded
from edgeconv.sources.load import Source, load
from edgeconv.sources.samples import (
    Data,
    Model,
    check_data,
    data_for,
    generates,
    preprocessing_for,
)
from edgeconv.sources.selection import selected
from edgeconv.sources.workers import worker_pool
from edgeconv.targets.base import Assessment
from edgeconv.targets.gates import require_stages
from edgeconv.toolchain.runtimes import RUNTIMES, runtimes_with
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool
from edgeconv.toolchain.worker.stage import Stage, StageContext

# The first artifact that can be deployed: worth keeping when a later stage fails.
_USABLE = "tflite_fp32"


def convert(
    job: Job, observer: Observer | None = None, workers: WorkerPool | None = None
) -> Result:
    """Convert a model into a bundle.

    Args:
        job: What to convert, and how.
        observer: Follows the steps.
        workers: Processes that may have been started already; they are stopped.

    Returns:
        The bundle's content. A parity gate that failed is told by `Result.passed`.

    Raises:
        UsageError: The call or its input is wrong, or the disk is full; nothing is left behind.
        ConversionError: A stage cannot express the model. Where a float .tflite was finished, the
            bundle is kept, marked as failed; otherwise nothing is left behind.
        WorkerError: A native runtime failed in a stage. Finished stages are kept likewise.
        ToolMissing: A tool is absent.
    """
    job.require_model()
    check_data(job)
    require_stages(job.options.gates)
    target = targets.find(job.options.target)
    try:
        with ExitStack() as stack:
            warnings = stack.enter_context(collected_warnings())
            job = replace(job, options=target.adapt(job.options).settled())
            rules_of(job.options)
            writer = stack.enter_context(BundleWriter(job.target, force=job.force))
            # Workers stop first, so that a check which is under way in the thread ends at once.
            thread = stack.enter_context(ThreadPoolExecutor(1, "edgeconv-parity"))
            workers = stack.enter_context(workers or _pool(job))
            steps = Steps(observer or Nobody(), thread)
            return _Conversion(job, writer, workers, steps, warnings).run()
    except EdgeconvError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise disk_full(str(error)) from error
        raise


def _pool(job: Job) -> WorkerPool:
    memory = parse_memory(job.options.memory_limit)
    return worker_pool(timeout=job.options.timeout, memory=memory)


class _Conversion:
    """One run of the pipeline, writing into `BundleWriter.directory`."""

    def __init__(
        self,
        job: Job,
        writer: BundleWriter,
        workers: WorkerPool,
        steps: Steps,
        warnings: list[str],
    ) -> None:
        self._job = job
        self._writer = writer
        self._workers = workers
        self._steps = steps
        self._warnings = warnings
        self._directory = writer.directory
        self._scratch = writer.directory / ".work"
        self._entries: list[dict[str, Any]] = []
        self._assessment = Assessment()
        self._quantized: tuple[Quantize, Artifact, StageContext] | None = None
        self._layers: dict[str, StageLayers] = {}
        self._states: tuple[State, ...] = ()

    def run(self) -> Result:
        """Load the model, run every stage, and write the bundle."""
        self._scratch.mkdir()
        self._workers.start(WorkerKind.TENSORFLOW)
        open_batch = not targets.find(self._job.options.target).fixed_shapes
        source = self._steps.run(
            "load", lambda: load(self._job, self._workers, open_batch=open_batch)
        )
        source = selected(source, self._job.options.outputs)
        if self._job.options.verify:
            self._workers.start(WorkerKind.ONNXRUNTIME, WorkerKind.LITERT)
        if self._job.options.quantize != "none":
            self._workers.start(WorkerKind.QUANTIZER)
        data = None if generates(self._job) else self._data(source)
        inputs = tuple(spec.of_one for spec in source.artifact.inputs)
        preprocessing = data.preprocessing if data else preprocessing_for(self._job, inputs)
        source = folded(source, preprocessing)
        first, *stages = plan(source.first_stage(), self._job.options)
        onnx = self._first(first, source)
        data = data or self._data(source, Model(onnx, self._states, self._run_artifact))
        verifier = Verifier(
            self._workers,
            data.verification.arrays,
            self._job.options.gates,
            self._scratch,
            source.reference,
            runtimes_with(self._job.options.runtime),
        )
        self._submit_checks(first.name, onnx, source, verifier)
        failure = self._run_stages(stages, onnx, source, data, verifier)
        self._wait(source, failure)
        self._measure_layers(verifier)
        return self._finish(data, verifier, failure)

    @property
    def _measures_layers(self) -> bool:
        return self._job.options.verify and self._job.options.layers

    def _leave_torch(self, source: Source, onnx: Artifact, verifier: Verifier) -> None:
        """Do the last that needs the PyTorch model: measure the layers of what was exported."""
        if self._measures_layers and source.reference != "onnx":
            torch = source.values()
            self._layers["onnx"] = (
                NOT_RECORDED
                if torch is None
                else layers_of_onnx(self._workers, onnx, torch, verifier.inputs, self._scratch)
            )
        source.release()

    def _measure_layers(self, verifier: Verifier) -> None:
        if not self._measures_layers:
            return
        artifacts = {
            entry["name"]: bundle.artifact_of(entry, self._directory) for entry in self._entries
        }
        self._layers |= self._steps.run(
            "layers",
            lambda: measure_layers(self._workers, artifacts, verifier.inputs, self._scratch),
        )
        self._layers |= self._tried(self._layers, verifier)

    def _tried(
        self, found: Mapping[str, StageLayers], verifier: Verifier
    ) -> dict[str, StageLayers]:
        """Return the layers of the quantized stage with what was tried against its loss.

        A stage that failed always ends with a next step that was tried.
        """
        if self._quantized is None:
            return {}
        stage, before, context = self._quantized
        failed = any(item.status == FAIL for item in verifier.stages if item.stage == stage.name)
        if stage.name not in found or not (failed or self._job.options.explain):
            return {}
        layers = found[stage.name]
        return {
            stage.name: self._steps.run(
                "advice", lambda: try_next_steps(layers, stage, before, context, verifier)
            )
        }

    def _data(self, source: Source, model: Model | None = None) -> Data:
        return self._steps.run("data", lambda: data_for(self._job, source.artifact.inputs, model))

    def _run_artifact(self, artifact: Artifact, inputs: Arrays) -> Arrays:
        return run_artifact(self._workers, artifact, inputs, self._scratch)[0]

    def _context(self, stage: Stage) -> StageContext:
        return StageContext(
            self._job.options,
            self._workers,
            self._directory,
            self._job.name,
            progress=lambda done, total: self._steps.observer.advanced(stage.name, done, total),
            states=self._states,
        )

    def _first(self, stage: Stage, source: Source) -> Artifact:
        """Run the first stage, which nothing is worth keeping before."""
        try:
            return self._run_stage(stage, source.artifact, self._context(stage))
        except (ConversionError, WorkerError) as error:
            raise at_stage(stage.name, error) from error

    def _run_stages(
        self,
        stages: Sequence[Stage],
        artifact: Artifact,
        source: Source,
        data: Data,
        verifier: Verifier,
    ) -> Failure | None:
        """Run the stages after the first; return how one failed after something worth keeping."""
        calibration = self._scratch / "calibration.npz"
        if self._job.options.quantize != "none":
            data.calibration.save(calibration)
        for stage in stages:
            context = replace(
                self._context(stage), calibration=calibration, input_scales=data.input_scales
            )
            try:
                artifact = self._run_stage(stage, artifact, context)
            except (ConversionError, WorkerError) as error:
                located = at_stage(stage.name, error)
                if not self._worth_keeping(error):
                    raise located from error
                return Failure(stage.name, located)
            self._submit_checks(stage.name, artifact, source, verifier)
        self._assessment = targets.find(self._job.options.target).assess(artifact)
        return None

    def _wait(self, source: Source, failure: Failure | None) -> None:
        """Wait for the checks. A reference that cannot be run ends the conversion."""
        try:
            self._steps.wait()
        except WorkerError as error:
            located = at_stage(f"reference ({source.reference})", error)
            raise (failure.error if failure else located) from error

    def _run_stage(self, stage: Stage, before: Artifact, context: StageContext) -> Artifact:
        artifact = self._steps.run(stage.name, lambda: stage.run(before, context))
        if isinstance(stage, Quantize):
            self._quantized = stage, before, context
        require_outputs(artifact, before, stage.name)
        if not self._entries:
            self._states = states_of(artifact, self._job.options.states)
        entry = bundle.describe_artifact(artifact, self._directory)
        seconds = self._steps.seconds[stage.name]
        self._entries.append({"name": stage.name, "seconds": seconds, **entry, **context.details})
        return artifact

    def _worth_keeping(self, error: EdgeconvError) -> bool:
        finished = [entry["name"] for entry in self._entries]
        return bool(finished) if isinstance(error, WorkerError) else _USABLE in finished

    def _submit_checks(
        self, name: str, artifact: Artifact, source: Source, verifier: Verifier
    ) -> None:
        """Check a stage in the thread; the first stage also names the reference's outputs."""
        if len(self._entries) == 1:
            self._steps.submit(
                f"run {source.reference}",
                lambda: verifier.compute_reference(
                    lambda inputs: source.compute(artifact, inputs, verifier.run)
                ),
            )
            if self._job.options.verify:
                stream = Stream.of(self._states, artifact, verifier.inputs)
                self._steps.submit(
                    f"stream {source.reference}",
                    lambda: verifier.compute_stream(
                        stream,
                        lambda stream: source.compute_stream(
                            artifact, verifier.inputs, stream, verifier.run_stream
                        ),
                    ),
                )
            else:
                self._wait(source, None)
                source.release()
        self._submit_check(name, artifact, source, verifier)
        if len(self._entries) == 1 and self._job.options.verify:
            self._steps.submit(
                f"layers of {name}", lambda: self._leave_torch(source, artifact, verifier)
            )
            if is_large(artifact.path):  # else PyTorch would hold the weights beside TensorFlow
                self._wait(source, None)

    def _submit_check(
        self, name: str, artifact: Artifact, source: Source, verifier: Verifier
    ) -> None:
        if name == source.reference:
            return
        if artifact.format not in RUNTIMES:
            verifier.skip(name, artifact, "it runs on the device only: edgeconv deploy")
        elif self._job.options.verify:
            self._steps.submit(f"verify {name}", lambda: verifier.check(name, artifact))
        else:
            verifier.skip(name, artifact, "--no-verify")

    def _finish(self, data: Data, verifier: Verifier, failure: Failure | None) -> Result:
        """Write what goes beside the artifacts, and put the bundle in its place."""
        self._workers.stop()
        shutil.rmtree(self._scratch)
        vectors = bundle.vectors_of(verifier.inputs, verifier.reference)
        write_npz(self._directory / bundle.VECTORS, vectors)
        report = ParityReport(
            self._job.name,
            verifier.reference_name,
            data.verification.count,
            data.calibrated,
            data.verification.generated,
            tuple(verifier.stages),
            data.calibration.summary() if self._job.options.quantize in CALIBRATED_MODES else None,
        )
        parity = with_layers(with_converters(report, self._entries), self._layers)
        manifest = self._manifest(data, parity, failure)
        manifest["files"] = write_reports(
            self._directory,
            manifest,
            parity,
            (verifier.inputs, verifier.reference, verifier.found),
        )
        placed = self._writer.finish(manifest)
        if failure is not None:
            raise _with_bundle(failure.error, str(self._writer.target), placed=placed)
        return Result(self._writer.target, manifest, parity)

    def _manifest(
        self, data: Data, parity: ParityReport, failure: Failure | None
    ) -> dict[str, Any]:
        last = self._entries[-1]
        return {
            "schema_version": bundle.SCHEMA_VERSION,
            "status": bundle.COMPLETE if failure is None else bundle.FAILED,
            "failure": None if failure is None else failure.to_dict(),
            **describe_job(self._job),
            "data": data.to_dict(),
            "calibrated": parity.calibrated,
            "verified": parity.verdict != SKIPPED,
            "verdict": parity.verdict,
            "tools": environment(),
            "inputs": last["inputs"],
            "outputs": last["outputs"],
            "states": [state.to_dict() for state in self._states],
            "joins": last.get("joins", []),
            "stages": self._entries,
            "timings": self._steps.seconds,
            "target": {"notes": list(self._assessment.notes), **self._assessment.data},
            "warnings": self._warnings,
            "files": [],
        }


def _with_bundle(error: EdgeconvError, path: str, *, placed: bool) -> EdgeconvError:
    """Return the error with a word on what became of the finished stages."""
    kept = f"the finished stages are in {path}" if placed else f"the earlier {path} was kept"
    parts = error.to_dict(as_it_is)
    parts["hint"] = f"{parts['hint']}; {kept}" if parts["hint"] else kept
    return error_from_dict(parts)
