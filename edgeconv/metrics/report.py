"""The parity report: what was measured of every stage, as ``parity.json`` says it.

A report is one typed value from measuring to rendering. `ParityReport.to_dict` is the only writer
of ``parity.json`` and `ParityReport.from_dict` the only reader. Nothing in such a file is believed
but what has the right type, and the verdict follows from the stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from edgeconv.core.bundle import PARITY, Bundle
from edgeconv.core.decode import Malformed, decode, key
from edgeconv.core.errors import InvalidModel
from edgeconv.core.gates import Gate
from edgeconv.core.json_files import read_json
from edgeconv.metrics.figures import OutputFigures
from edgeconv.metrics.layers_report import LayersReport
from edgeconv.metrics.report_parts import (
    Against,
    Converter,
    DeviceRun,
    Histogram,
    Match,
    Regression,
    SamplesSummary,
)
from edgeconv.metrics.stream_parity import StreamParity

PARITY_VERSION = 1

Status = Literal["pass", "fail", "skipped"]

PASS: Status = "pass"
FAIL: Status = "fail"
SKIPPED: Status = "skipped"


@dataclass(frozen=True, slots=True)
class StageParity:
    """Parity of one stage.

    Attributes:
        stage: Name of the stage.
        file: Its artifact's name in the bundle.
        status: ``pass``, ``fail`` or ``skipped``.
        gate: The limits that every output had to hold.
        runtime: What ran the artifact, with its version; ``None`` where nothing did.
        outputs: Figures against the reference, with those of the parts.
        previous_stage: The last stage before this one that could be run.
        previous: Figures against that stage's outputs.
        reasons: Why the stage failed, or was skipped.
        histograms: Absolute errors of each output by their power of ten.
        milliseconds: Median time of a sample while it was checked, which is no benchmark.
        stream: How far it follows the reference over a stream, where the model has states.
        converter: What made it, where there is a choice.
        layers: The error of each layer; ``None`` where nothing is said of them.
        device: What a deployment adds; ``None`` where the stage ran here.
        notes: What else a deployment has to say.
    """

    stage: str
    file: str
    status: Status
    gate: Gate
    runtime: str | None = None
    outputs: tuple[OutputFigures, ...] = ()
    previous_stage: str | None = None
    previous: tuple[OutputFigures, ...] = ()
    reasons: tuple[str, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    milliseconds: float | None = None
    stream: StreamParity | None = None
    converter: Converter | None = None
    # JSON has what follows beside the rest, not within.
    layers: LayersReport | None = field(default=None, metadata=key(""))
    device: DeviceRun | None = field(default=None, metadata=key(""))
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether a gate was missed, or the stage could not be run."""
        return self.status == FAIL

    @property
    def ran_on(self) -> str | None:
        """What ran it: the CPU, or what a device has; ``None`` where nothing did."""
        if self.device is not None:
            return self.device.ran_on
        return "cpu" if self.runtime else None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StageParity:
        """Rebuild a stage from its entry in ``parity.json``.

        Raises:
            Malformed: It is something else.
        """
        layers = decode(LayersReport, data)
        return replace(
            decode(cls, data),
            layers=None if layers == LayersReport() else layers,
            device=decode(DeviceRun, data) if "device" in data else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the stage's entry in ``parity.json``."""
        layers = (self.layers or LayersReport()).to_dict()
        return {
            "stage": self.stage,
            "file": self.file,
            "runtime": self.runtime,
            "ran_on": self.ran_on,
            "fallback": None,
            "status": self.status,
            "gate": dict(self.gate),
            "reasons": list(self.reasons),
            "outputs": [figures.to_dict() for figures in self.outputs],
            "previous_stage": self.previous_stage,
            "previous": [figures.to_dict() for figures in self.previous],
            "worst_layers": layers.pop("worst_layers"),
            "histograms": [item.to_dict() for item in self.histograms],
            "milliseconds": self.milliseconds,
            **({} if self.stream is None else {"stream": self.stream.to_dict()}),
            **({} if self.converter is None else {"converter": self.converter.to_dict()}),
            **layers,
            **({} if self.device is None else self.device.to_dict() | {"notes": list(self.notes)}),
        }


@dataclass(frozen=True, slots=True)
class ParityReport(Mapping[str, Any]):
    """How closely every stage of a conversion follows the model that it was made from.

    `to_dict` returns the content of ``parity.json``, and `from_dict` reads it; the report can be
    read like that content, too: ``report["stages"][-1]["outputs"]``.

    Attributes:
        model: The model's name.
        reference: What every stage is compared with: ``torch``, ``onnx``, or a file's name.
        samples: Number of samples that the figures are taken over.
        calibrated: Whether calibration saw real inputs.
        generated: Whether the samples were generated, not given.
        stages: One entry per stage, in the pipeline's order.
        calibration: What the ranges of an integer model come from; ``None`` where no range was
            calibrated.
        against: Of two converters, the other one.
        correspondence: Of two models, which tensors were taken for the same.
        regressions: What has become worse than in a baseline; ``None`` where there was none.
    """

    model: str
    reference: str
    samples: int
    calibrated: bool
    generated: bool = field(metadata=key("generated_samples"))
    stages: tuple[StageParity, ...]
    calibration: SamplesSummary | None = None
    against: Against | None = None
    correspondence: tuple[Match, ...] | None = None
    regressions: tuple[Regression, ...] | None = None

    def __repr__(self) -> str:
        stages = ", ".join(f"{stage.stage} {stage.status}" for stage in self.stages)
        kind = "generated" if self.generated else "given"
        return (
            f"ParityReport({self.model!r}, {self.verdict} against {self.reference} on "
            f"{self.samples} {kind} samples: {stages or 'no stages'})"
        )

    def __getitem__(self, name: str) -> Any:
        return self.to_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())

    @property
    def verdict(self) -> Status:
        """``pass`` where every stage passed, ``skipped`` where none was checked."""
        states = {stage.status for stage in self.stages}
        if FAIL in states or self.regressions:
            return FAIL
        return PASS if PASS in states else SKIPPED

    @property
    def passed(self) -> bool:
        """Whether no gate failed and nothing regressed; also true where nothing was checked."""
        return self.verdict != FAIL

    def stage(self, name: str) -> StageParity | None:
        """Return the entry of a stage; ``None`` where there is none."""
        return next((stage for stage in self.stages if stage.stage == name), None)

    def with_stage(self, entry: StageParity) -> ParityReport:
        """Return the report with a stage added, or in the place of an earlier one of its name."""
        others = tuple(stage for stage in self.stages if stage.stage != entry.stage)
        return replace(self, stages=(*others, entry))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ParityReport:
        """Rebuild a report from the content of ``parity.json``, also of an earlier version's.

        Raises:
            Malformed: It is something else.
        """
        stages = data.get("stages")
        if not isinstance(stages, list):
            raise Malformed("stages", "is no array")
        found = []
        for index, stage in enumerate(stages):
            try:
                found.append(StageParity.from_dict(stage))
            except Malformed as error:
                place = f"stages[{index}].{error.where}".rstrip(".")
                raise Malformed(place, error.why) from error
        return replace(decode(cls, {**data, "stages": []}), stages=tuple(found))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``parity.json``."""
        data: dict[str, Any] = {
            "schema_version": PARITY_VERSION,
            "model": self.model,
            "reference": self.reference,
            "samples": self.samples,
            "calibrated": self.calibrated,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "generated_samples": self.generated,
            "stages": [stage.to_dict() for stage in self.stages],
            "verdict": self.verdict,
        }
        if self.against is not None:
            data["against"] = self.against.to_dict()
        if self.correspondence is not None:
            data["correspondence"] = [item.to_dict() for item in self.correspondence]
        if self.regressions is not None:
            data["regressions"] = [item.to_dict() for item in self.regressions]
        return data


def with_converters(report: ParityReport, entries: Iterable[Mapping[str, Any]]) -> ParityReport:
    """Return the report with what converted each stage, and why that did.

    Args:
        report: The report.
        entries: The manifest's stages, some of which have a ``converter``.

    Raises:
        InvalidModel: A converter is described otherwise.
    """
    try:
        known = {
            entry["name"]: decode(Converter, entry["converter"])
            for entry in entries
            if "converter" in entry
        }
    except Malformed as error:
        raise InvalidModel("the manifest's converter is damaged", why=str(error)) from error
    stages = (
        replace(stage, converter=known.get(stage.stage, stage.converter)) for stage in report.stages
    )
    return replace(report, stages=tuple(stages))


def read_report(path: Path) -> ParityReport:
    """Read a ``parity.json``.

    Raises:
        InvalidModel: It is missing, damaged, or something else.
    """
    content = read_json(path)
    try:
        return ParityReport.from_dict(content)
    except (Malformed, RecursionError) as error:
        raise InvalidModel(
            "this is not a parity.json",
            where=str(path),
            why=str(error),
            hint="give the parity.json of a bundle, or convert the model again",
        ) from error


def report_of(bundle: Bundle) -> ParityReport:
    """Read the ``parity.json`` of a bundle.

    Raises:
        InvalidModel: It is missing, damaged, or something else.
    """
    return read_report(bundle.path / PARITY)
