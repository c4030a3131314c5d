"""The pipeline's plumbing, with stages and a runtime that cost nothing."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from edgeconv.core.artifacts import Arrays, Artifact, Format, TensorSpec
from edgeconv.core.bundle import open_bundle
from edgeconv.core.errors import (
    ConversionError,
    EdgeconvError,
    InvalidModel,
    UnsupportedModel,
    UnsupportedNode,
    UsageError,
    WorkerCrashed,
    WorkerTimeout,
)
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.metrics.report import report_of
from edgeconv.parity import check as verification
from edgeconv.pipeline import run as pipeline
from edgeconv.pipeline.result import Result
from edgeconv.samples.load import Samples
from edgeconv.sources.load import Data
from edgeconv.toolchain.runtimes import Runtimes
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool
from edgeconv.toolchain.worker.stage import Stage, StageContext

INPUT = TensorSpec.plain("x", (1, 3), "float32")
OUTPUT = TensorSpec.plain("y", (1, 3), "float32")
NAMES = ("onnx", "saved_model", "tflite_fp32", "tflite_int8")

Hook = Callable[[Artifact], None]


@dataclass
class FakeStage:
    """Writes a number, which the fake runtime adds as an error to every output."""

    name: str
    error: float = 1e-7
    hook: Hook | None = None

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        if self.hook is not None:
            self.hook(source)
        path = context.directory / f"{context.name}_{self.name}.bin"
        path.write_text(str(self.error))
        context.progress(1, 1)
        return Artifact(Format.TFLITE, path, (INPUT,), (OUTPUT,))


@dataclass
class FakeSource:
    first: FakeStage
    reference: str = "torch"
    artifact: Artifact = field(default=Artifact(Format.TORCH, Path("fake"), (INPUT,), ()))

    def first_stage(self) -> Stage:
        return self.first

    def compute(
        self, onnx: Artifact, inputs: Arrays, run: Callable[[Artifact, Arrays], Arrays]
    ) -> Arrays:
        return {"y": inputs["x"] * 2}

    def values(self) -> None:
        pass

    def release(self) -> None:
        pass


@dataclass
class Fakes:
    """What the fake pipeline is made of."""

    stages: list[FakeStage]
    source: FakeSource
    failing: dict[str, EdgeconvError] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def stage(self, name: str) -> FakeStage:
        return next(stage for stage in self.stages if stage.name == name)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    stages = [FakeStage(name) for name in NAMES]
    found = Fakes(stages, FakeSource(stages[0]))
    rng = np.random.default_rng(0)
    samples = Samples({"x": rng.normal(size=(5, 1, 3)).astype(np.float32)}, "x.npz")

    def plan(first: Stage, options: ConvertOptions) -> Sequence[Stage]:
        assert first is stages[0]
        return found.stages

    def run_timed(
        workers: WorkerPool, artifact: Artifact, inputs: Arrays, scratch: Path, runtimes: Runtimes
    ) -> tuple[Arrays, str, float]:
        assert threading.current_thread() is not threading.main_thread()
        found.ran.append(artifact.path.stem.removeprefix("fake_"))
        for name, error in found.failing.items():
            if name in artifact.path.name:
                raise error
        noise = np.float32(artifact.path.read_text())
        return {"y": inputs["x"] * 2 + noise}, "fake 1.0", 1.0

    monkeypatch.setattr(pipeline, "load", lambda *_, **__: found.source)
    monkeypatch.setattr(pipeline, "data_for", lambda *_: Data(samples, samples))
    monkeypatch.setattr(pipeline, "plan", plan)
    monkeypatch.setattr(verification, "run_timed", run_timed)
    monkeypatch.setattr(WorkerPool, "start", lambda *_: None)
    return found


@pytest.fixture
def job(tmp_path: Path) -> Job:
    source = tmp_path / "fake.pt2"
    source.write_text("model")
    options = ConvertOptions(quantize="int8")
    return Job(source, options, output=tmp_path / "out" / "fake.edgeconv")


def convert(job: Job) -> Result:
    return pipeline.convert(job)


def crash(error: EdgeconvError) -> Hook:
    def hook(source: Artifact) -> None:
        raise error

    return hook


def left(job: Job) -> list[str]:
    """What a run left in the output's parent."""
    return sorted(path.name for path in job.target.parent.iterdir()) if job.output else []


def test_every_stage_is_compared_with_the_reference_and_the_one_before(
    fakes: Fakes, job: Job
) -> None:
    fakes.stages[2].error = 1e-3
    fakes.stages[3].error = 1e-3
    result = convert(job)
    assert fakes.ran == list(NAMES)
    assert [stage["stage"] for stage in result.parity.to_dict()["stages"]] == list(NAMES)
    previous = [stage["previous_stage"] for stage in result.parity.to_dict()["stages"]]
    assert previous == ["torch", "onnx", "saved_model", "tflite_fp32"]
    lossy, after = result.parity.to_dict()["stages"][2:]
    assert lossy["outputs"][0]["max_abs"] == pytest.approx(1e-3, rel=1e-2)
    assert after["outputs"][0]["max_abs"] == pytest.approx(1e-3, rel=1e-2)
    assert after["previous"][0]["max_abs"] == 0.0


def test_the_result_is_what_is_in_the_bundle(fakes: Fakes, job: Job) -> None:
    result = convert(job)
    bundle = open_bundle(job.target)
    assert bundle.manifest == json.loads(json.dumps(result.manifest))
    assert bundle.parity() == json.loads(json.dumps(result.parity.to_dict()))
    assert report_of(bundle) == result.parity
    assert result.passed
    assert result.verified
    assert not result.uncalibrated
    assert list(result.artifacts) == list(NAMES)
    assert result.model.path == job.target.resolve() / "fake_tflite_int8.bin"
    inputs, outputs = bundle.vectors()
    np.testing.assert_array_equal(outputs["y"], inputs["x"] * 2)
    assert left(job) == ["fake.edgeconv"]
    assert sorted(path.name for path in job.target.iterdir()) == [
        "fake_onnx.bin",
        "fake_saved_model.bin",
        "fake_tflite_fp32.bin",
        "fake_tflite_int8.bin",
        "manifest.json",
        "parity.json",
        "report.html",
        "vectors.npz",
    ]


def test_a_failed_gate_fails_the_verdict_and_nothing_else(fakes: Fakes, job: Job) -> None:
    fakes.stages[1].error = 0.5
    result = convert(job)
    assert not result.passed
    assert result.manifest["verdict"] == "fail"
    assert [stage["status"] for stage in result.parity.to_dict()["stages"]] == [
        "pass",
        "fail",
        "pass",
        "pass",
    ]
    assert "sqnr_db" in result.parity.to_dict()["stages"][1]["reasons"][0]
    assert open_bundle(job.target).complete


def test_gates_are_settable(fakes: Fakes, job: Job) -> None:
    fakes.stages[3].error = 1e-3
    options = replace(job.options, gates={"tflite_int8": {"max_abs": 1e-4}})
    result = convert(replace(job, options=options))
    assert not result.passed
    assert result.parity.to_dict()["stages"][3]["gate"]["max_abs"] == 1e-4
    assert "max_abs" in result.parity.to_dict()["stages"][3]["reasons"][0]


def test_a_runtime_that_dies_fails_its_stage_only(fakes: Fakes, job: Job) -> None:
    fakes.failing["tflite_fp32"] = WorkerCrashed("it died", where="LiteRT worker")
    fakes.failing["tflite_int8"] = InvalidModel("odd shape")
    result = convert(job)
    stages = result.parity.to_dict()["stages"]
    assert [stage["status"] for stage in stages] == ["pass", "pass", "fail", "fail"]
    assert "it died" in stages[2]["reasons"][0]
    assert stages[2]["runtime"] is None
    assert open_bundle(job.target).complete


def test_without_verification_the_bundle_says_so(fakes: Fakes, job: Job) -> None:
    result = convert(replace(job, options=replace(job.options, verify=False)))
    assert fakes.ran == []
    assert result.parity.to_dict()["verdict"] == "skipped"
    assert not result.verified
    assert {stage["status"] for stage in result.parity.to_dict()["stages"]} == {"skipped"}
    assert open_bundle(job.target).vectors()[1].keys() == {"y"}


@pytest.mark.parametrize(
    "error", [WorkerCrashed("it died", where="w"), WorkerTimeout("no answer", where="w")]
)
def test_a_crash_in_a_stage_keeps_the_finished_ones(
    fakes: Fakes, job: Job, error: EdgeconvError
) -> None:
    fakes.stage("saved_model").hook = crash(error)
    with pytest.raises(type(error), match="stage saved_model, w") as caught:
        convert(job)
    assert str(job.target) in str(caught.value)
    bundle = open_bundle(job.target, allow_failed=True)
    assert not bundle.complete
    assert bundle.manifest["failure"]["stage"] == "saved_model"
    assert list(bundle.artifacts) == ["onnx"]
    assert [stage["stage"] for stage in bundle.parity()["stages"]] == ["onnx"]
    with pytest.raises(InvalidModel):
        open_bundle(job.target)
    fakes.stage("saved_model").hook = None
    assert convert(job).passed


def test_a_real_abort_of_a_worker_keeps_the_finished_stages(
    fakes: Fakes, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FakeStage.run

    def aborting(self: FakeStage, source: Artifact, context: StageContext) -> Artifact:
        if self.name == "tflite_int8":
            context.workers.call(WorkerKind.QUANTIZER, "os:abort")
        return run(self, source, context)

    monkeypatch.setattr(FakeStage, "run", aborting)
    with pytest.raises(WorkerCrashed, match=r"stage tflite_int8, quantizer worker.*SIGABRT"):
        convert(job)
    assert list(open_bundle(job.target, allow_failed=True).artifacts) == list(NAMES[:3])


def test_a_model_that_cannot_be_quantized_keeps_its_float_version(fakes: Fakes, job: Job) -> None:
    node = UnsupportedNode("Op-1", "n", "no int8 form")
    fakes.stage("tflite_int8").hook = crash(UnsupportedModel("int8", [node]))
    with pytest.raises(UnsupportedModel) as caught:
        convert(job)
    assert caught.value.nodes == (node,)
    assert "the finished stages are in" in str(caught.value)
    bundle = open_bundle(job.target, allow_failed=True)
    assert list(bundle.artifacts) == list(NAMES[:3])
    assert (job.target / "report.html").read_text().count("FAILED") >= 1


@pytest.mark.parametrize("stage", ["onnx", "saved_model", "tflite_fp32"])
def test_an_unsupported_model_leaves_nothing(fakes: Fakes, job: Job, stage: str) -> None:
    fakes.stage(stage).hook = crash(ConversionError("cannot be expressed"))
    with pytest.raises(ConversionError, match=f"stage {stage}"):
        convert(job)
    assert not job.target.parent.exists()


def test_wrong_input_leaves_nothing(fakes: Fakes, job: Job) -> None:
    fakes.stage("tflite_int8").hook = crash(UsageError("the samples hold NaN"))
    with pytest.raises(UsageError):
        convert(job)
    assert not job.target.parent.exists()


def test_a_failing_run_does_not_replace_a_bundle(fakes: Fakes, job: Job) -> None:
    convert(job)
    fakes.stage("tflite_int8").hook = crash(WorkerCrashed("it died"))
    with pytest.raises(WorkerCrashed, match=r"the earlier .* was kept"):
        convert(replace(job, force=True))
    assert open_bundle(job.target).complete
    assert left(job) == ["fake.edgeconv"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug")])
def test_other_errors_leave_nothing(fakes: Fakes, job: Job, error: Exception) -> None:
    def hook(source: Artifact) -> None:
        raise error

    fakes.stage("saved_model").hook = hook
    expected = UsageError if isinstance(error, OSError) else RuntimeError
    with pytest.raises(expected):
        convert(job)
    assert not job.target.parent.exists()


def test_a_disk_that_fills_up_during_a_check_is_told(
    fakes: Fakes, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(verification, "run_timed", full)
    with pytest.raises(UsageError, match="the disk is full"):
        convert(job)
    assert not job.target.parent.exists()


def test_a_stage_that_renames_an_output_is_caught(
    fakes: Fakes, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FakeStage.run

    def renaming(self: FakeStage, source: Artifact, context: StageContext) -> Artifact:
        made = run(self, source, context)
        if self.name == "tflite_fp32":
            return replace(made, outputs=(replace(OUTPUT, name="z"),))
        return made

    monkeypatch.setattr(FakeStage, "run", renaming)
    with pytest.raises(ConversionError, match="they are z, expected y"):
        convert(job)


def test_an_onnx_reference_is_not_compared_with_itself(fakes: Fakes, job: Job) -> None:
    fakes.source.reference = "onnx"
    result = convert(job)
    assert result.parity.to_dict()["reference"] == "onnx"
    assert [stage["stage"] for stage in result.parity.to_dict()["stages"]] == list(NAMES[1:])
    assert list(result.artifacts) == list(NAMES)


def test_steps_are_told_and_timed(fakes: Fakes, job: Job) -> None:
    seen: list[str] = []

    class Watcher:
        def started(self, step: str) -> None:
            seen.append(f"+{step}")

        def advanced(self, step: str, done: int, total: int) -> None:
            seen.append(f"{step} {done}/{total}")

        def finished(self, step: str) -> None:
            seen.append(f"-{step}")

    result = pipeline.convert(job, Watcher())
    assert {"+load", "-load", "onnx 1/1", "-verify tflite_int8"} <= set(seen)
    assert {"load", "tflite_int8", "verify onnx", "run torch"} <= result.manifest["timings"].keys()


def test_warnings_of_the_run_are_in_the_manifest(fakes: Fakes, job: Job) -> None:
    log = logging.getLogger("edgeconv.convert.x")

    def warn(_: Artifact) -> None:
        log.warning("fell back to the %s exporter", "other")
        log.warning("fell back to the %s exporter", "other")

    fakes.stage("onnx").hook = warn
    assert convert(job).manifest["warnings"] == ["fell back to the other exporter"]
    fakes.stage("onnx").hook = None
    assert convert(replace(job, force=True)).manifest["warnings"] == []


def test_an_interrupt_leaves_nothing(fakes: Fakes, job: Job) -> None:
    def hook(source: Artifact) -> None:
        raise KeyboardInterrupt

    fakes.stage("saved_model").hook = hook
    with pytest.raises(KeyboardInterrupt):
        convert(job)
    assert not job.target.parent.exists()


def test_an_unknown_target_is_refused(job: Job) -> None:
    with pytest.raises(UsageError, match="use one of cpu"):
        convert(replace(job, options=ConvertOptions(target="toaster")))
