"""A bundle's ONNX file converted again by two converters, and what the two SavedModels compute.

Both are compared with the ONNX file in onnxruntime, which says who is wrong where they differ, and
with each other.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeconv.convert.stages import TranslateToSavedModel
from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.core.bundle import COMPLETE, Bundle, describe_artifact, open_bundle
from edgeconv.core.options import ConverterName, ConvertOptions
from edgeconv.core.steps import Observer, Steps
from edgeconv.metrics import parity
from edgeconv.metrics.report import FAIL, ParityReport, StageParity, report_of, with_converters
from edgeconv.metrics.report_parts import Against
from edgeconv.parity.bundle import VerifyOptions, at_work
from edgeconv.parity.check import Verifier
from edgeconv.parity.verdict import Verification, judged, read_baseline
from edgeconv.toolchain.environments.manage import require
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool
from edgeconv.toolchain.worker.stage import StageContext

REFERENCE = "onnx"
OURS = "saved_model"


def cross_check(
    path: Path,
    converter: ConverterName,
    options: VerifyOptions,
    observer: Observer | None = None,
) -> Verification:
    """Convert a bundle's ONNX file with our own converter and with another one, and compare.

    Args:
        path: The bundle directory. It is not changed.
        converter: The other converter, which is also the name of its stage and environment.
        options: Gates, baseline, time limit.
        observer: Follows the steps.

    Returns:
        A parity with ``onnx`` as its reference and two stages, ``saved_model`` and the converter;
        the second one must agree with the first one too. ``against`` names the other converter.

    Raises:
        ToolMissing: The other converter is not installed.
        UsageError: The bundle has no ONNX file.
        InvalidModel: It is not a bundle, or a file is not the one that the manifest describes.
        ConversionError: One of the converters cannot express the model.
        WorkerError: One of them died, or the ONNX file cannot be run.
    """
    require(converter)
    bundle = open_bundle(path, allow_failed=True)
    baseline = read_baseline(options.baseline)
    kinds = WorkerKind.TENSORFLOW, WorkerKind.ONNXRUNTIME
    with at_work(options, observer, *kinds) as (workers, scratch, steps):
        check = _CrossCheck(bundle, options, workers, scratch, steps)
        check.add(OURS, "native")
        check.add(converter, converter)
        found = check.parity(converter)
        manifest = check.manifest()
    return Verification(manifest, judged(found, baseline, options.tolerance_db), check.vectors())


class _CrossCheck:
    """The conversions of one ONNX file, each checked as soon as it is made."""

    def __init__(
        self,
        bundle: Bundle,
        options: VerifyOptions,
        workers: WorkerPool,
        scratch: Path,
        steps: Steps,
    ) -> None:
        self._bundle = bundle
        self._workers = workers
        self._scratch = scratch
        self._steps = steps
        self._onnx = bundle.artifact(REFERENCE)
        self._entries: list[dict[str, Any]] = []
        inputs = bundle.vectors()[0]
        self._verifier = Verifier(workers, inputs, options.gates, scratch, REFERENCE)
        steps.run(
            f"run {REFERENCE}",
            lambda: self._verifier.compute_reference(
                lambda arrays: self._verifier.run(self._onnx, arrays)
            ),
        )

    def add(self, stage: str, converter: ConverterName) -> None:
        """Convert, run, and compare."""
        folder = self._scratch / stage
        folder.mkdir()
        context = StageContext(
            ConvertOptions(
                converter=converter, io_layout=self._bundle.manifest["options"]["io_layout"]
            ),
            self._workers,
            folder,
            str(self._bundle.manifest["model"]),
        )
        step = f"convert by {converter}"
        artifact: Artifact = self._steps.run(
            step, lambda: TranslateToSavedModel().run(self._onnx, context)
        )
        self._entries.append(
            {
                "name": stage,
                "seconds": self._steps.seconds[step],
                **describe_artifact(artifact, folder),
                "converter": context.details["converter"],
            }
        )
        self._steps.run(f"verify {stage}", lambda: self._verifier.check(stage, artifact))

    def parity(self, converter: str) -> ParityReport:
        """Return the report."""
        ours, other = self._verifier.stages
        report = ParityReport(
            str(self._bundle.manifest["model"]),
            REFERENCE,
            len(next(iter(self._verifier.inputs.values()))),
            bool(self._bundle.manifest["calibrated"]),
            report_of(self._bundle).generated,
            (ours, held_to_previous(other)),
        )
        versions = self._entries[-1]["converter"].get("versions", {})
        return replace(with_converters(report, self._entries), against=Against(converter, versions))

    def vectors(self) -> tuple[Arrays, Arrays, Arrays]:
        """Return inputs, the ONNX file's outputs, and the other converter's."""
        verifier = self._verifier
        return verifier.inputs, verifier.reference, verifier.found

    def manifest(self) -> dict[str, Any]:
        """Return what reports need of a manifest."""
        before = self._bundle.manifest
        first = next(entry for entry in before["stages"] if entry["name"] == REFERENCE)
        return {
            "model": before["model"],
            "status": COMPLETE,
            "options": {"quantize": "none", "target": "cpu"},
            "calibrated": before["calibrated"],
            "data": before["data"],
            "stages": [first, *self._entries],
            "warnings": [],
        }


def held_to_previous(stage: StageParity) -> StageParity:
    """Return the stage, failed where its outputs are not those of the stage before it."""
    reasons = tuple(
        f"{text} (against {stage.previous_stage})"
        for text in parity.reasons(stage.previous, stage.gate)
    )
    if not reasons:
        return stage
    return replace(stage, status=FAIL, reasons=(*stage.reasons, *reasons))
