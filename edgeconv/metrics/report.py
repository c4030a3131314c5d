"""What ``parity.json`` says: one entry per stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeconv.core.gates import Gate
from edgeconv.metrics.parity import OutputFigures
from edgeconv.metrics.stream_parity import StreamParity

PARITY_VERSION = 1

PASS = "pass"
FAIL = "fail"
SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class StageParity:
    """Parity of one stage.

    Attributes:
        stage: Name of the stage.
        file: Its artifact's name in the bundle.
        status: ``pass``, ``fail`` or ``skipped``.
        gate: The limits that every output had to hold.
        runtime: What ran the artifact, with its version; ``None`` where nothing did.
        outputs: Figures against the reference.
        previous_stage: The last stage before this one that could be run.
        previous: Figures against that stage's outputs.
        reasons: Why the stage failed, or was skipped.
        histograms: Absolute errors of each output by their power of ten.
        milliseconds: Median time of a sample while it was checked, which is no benchmark.
        stream: How far it follows the reference over a stream, where the model has states.
    """

    stage: str
    file: str
    status: str
    gate: Gate
    runtime: str | None = None
    outputs: tuple[OutputFigures, ...] = ()
    previous_stage: str | None = None
    previous: tuple[OutputFigures, ...] = ()
    reasons: tuple[str, ...] = ()
    histograms: tuple[Mapping[str, Any], ...] = ()
    milliseconds: float | None = None
    stream: StreamParity | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the stage's entry in ``parity.json``."""
        stream = {} if self.stream is None else {"stream": self.stream.to_dict()}
        return {
            "stage": self.stage,
            "file": self.file,
            "runtime": self.runtime,
            "ran_on": "cpu" if self.runtime else None,
            "fallback": None,
            "status": self.status,
            "gate": self.gate,
            "reasons": list(self.reasons),
            "outputs": [figures.to_dict() for figures in self.outputs],
            "previous_stage": self.previous_stage,
            "previous": [figures.to_dict() for figures in self.previous],
            "worst_layers": [],
            "histograms": [dict(item) for item in self.histograms],
            "milliseconds": self.milliseconds,
            **stream,
        }


@dataclass(frozen=True, slots=True)
class ParityReport:
    """The content of ``parity.json``.

    Attributes:
        model: The model's name.
        reference: What every stage is compared with, ``torch`` or ``onnx``.
        samples: Number of samples that the figures are taken over.
        calibrated: Whether calibration saw real inputs.
        generated: Whether the samples were generated, not given.
        stages: One entry per stage.
        calibration: What the ranges of an integer model come from, `Samples.to_dict`: number of
            samples, digest, smallest and largest value of each input. ``None`` where no range was
            calibrated.
    """

    model: str
    reference: str
    samples: int
    calibrated: bool
    generated: bool
    stages: tuple[StageParity, ...]
    calibration: Mapping[str, Any] | None = None

    @property
    def verdict(self) -> str:
        """``pass`` where every stage passed, ``skipped`` where none was checked."""
        states = {stage.status for stage in self.stages}
        if FAIL in states:
            return FAIL
        return PASS if PASS in states else SKIPPED

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "schema_version": PARITY_VERSION,
            "model": self.model,
            "reference": self.reference,
            "samples": self.samples,
            "calibrated": self.calibrated,
            "calibration": self.calibration,
            "generated_samples": self.generated,
            "stages": [stage.to_dict() for stage in self.stages],
            "verdict": self.verdict,
        }


def with_converters(
    content: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the content of ``parity.json`` with what converted each stage, and why that did.

    Args:
        content: A `ParityReport` as a mapping.
        entries: The manifest's stages, some of which have a ``converter``.
    """
    known = {entry["name"]: entry["converter"] for entry in entries if "converter" in entry}
    stages = [
        {**stage, "converter": known[stage["stage"]]} if stage["stage"] in known else stage
        for stage in content["stages"]
    ]
    return {**content, "stages": stages}
