"""What the parity report says of the layers of each stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from edgeconv.core.options import CALIBRATED_MODES
from edgeconv.metrics.layer_errors import LayerError, ranked
from edgeconv.metrics.layers_report import LayersReport
from edgeconv.metrics.report import PASS, ParityReport, StageParity
from edgeconv.parity.layers.measure import StageLayers
from edgeconv.targets.gates import float_stages

WORST = 10
"""How many layers are listed as the worst ones."""

# A layer is to blame where it makes, alone, nearly as much error as all of them together may.
_MARGIN_DB = 10.0

_NO_PROGRAM = (
    "the bundle does not hold the PyTorch program; edgeconv verify MODEL.pt2 BUNDLE/MODEL.onnx "
    "compares it with the ONNX file"
)


def with_layers(report: ParityReport, found: Mapping[str, StageLayers]) -> ParityReport:
    """Return the report with the layers of its stages."""

    def told(stage: StageParity) -> LayersReport | None:
        return layers_of(found[stage.stage], stage) if stage.stage in found else stage.layers

    return _each(report, told)


def _each(
    report: ParityReport, layers: Callable[[StageParity], LayersReport | None]
) -> ParityReport:
    """Return the report with other layers of each stage."""
    stages = (replace(stage, layers=layers(stage)) for stage in report.stages)
    return replace(report, stages=tuple(stages))


def kept_from(before: ParityReport, report: ParityReport, stage: str, digest: str) -> ParityReport:
    """Return the report with a stage's layers as an earlier one has them, and a note that says so.

    Args:
        before: The earlier report.
        report: The report without them.
        stage: The stage, which cannot be measured again without the PyTorch program.
        digest: SHA-256 of its file. Layers of a file with another one are not taken.
    """
    entry = before.stage(stage)
    old = None if entry is None else entry.layers
    if old is not None and old.digest == digest:
        note = f"measured when the bundle was made, not now: {_NO_PROGRAM}"
        kept = replace(old, note=note, trials=())
    else:
        kept = LayersReport(note=f"not measured: {_NO_PROGRAM}")
    return _each(report, lambda item: kept if item.stage == stage else item.layers)


def with_trials_of(
    before: ParityReport, report: ParityReport, digests: Mapping[str, str]
) -> ParityReport:
    """Return the report with the next steps that were tried when an earlier one was written.

    Args:
        before: The earlier report.
        report: The report.
        digests: SHA-256 of each stage's file. What was tried on another file is not taken.
    """

    def tried(stage: StageParity) -> LayersReport | None:
        entry = before.stage(stage.stage)
        old = None if entry is None else entry.layers
        if old is None or not old.digest or old.digest != digests.get(stage.stage):
            return stage.layers
        now = stage.layers or LayersReport()
        return replace(
            now,
            worst=_as_tried(now.worst, old.worst),
            digest=old.digest,
            trials=old.trials or now.trials,
        )

    return _each(report, tried)


def _as_tried(
    layers: tuple[LayerError, ...], before: tuple[LayerError, ...]
) -> tuple[LayerError, ...]:
    """Return the layers with what was tried for them before."""
    known = {layer.name: layer for layer in before if layer.gain_db is not None}
    return tuple(
        replace(layer, advice=known[layer.name].advice, gain_db=known[layer.name].gain_db)
        if layer.name in known
        else layer
        for layer in layers
    )


def layers_of(found: StageLayers, stage: StageParity) -> LayersReport:
    """Return what is said of one stage: all layers, the worst ones, and the first to blame.

    A stage that passes blames nobody.
    """
    if found.note:
        return LayersReport(note=found.note)
    limit = -math.inf if stage.status == PASS else stage.gate.get("sqnr_db", 0.0) + _MARGIN_DB
    blamed = [layer for layer in found.layers if _blamed(layer, limit)]
    return LayersReport(
        worst=tuple(_advised(layer, limit, stage.stage) for layer in ranked(found.layers, WORST)),
        first=_advised(blamed[0], limit, stage.stage) if blamed else None,
        samples=found.samples,
        digest=found.digest,
        layers=tuple(map(_rounded, found.layers)),
        unmatched=found.unmatched,
        trials=found.trials,
    )


def _rounded(layer: LayerError) -> LayerError:
    """Return a layer with as many digits as one of thousands needs."""
    return replace(
        layer,
        here_db=_hundredths(layer.here_db),
        carried_db=_hundredths(layer.carried_db),
        gain_db=_hundredths(layer.gain_db),
    )


def _hundredths(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _blamed(layer: LayerError, limit: float) -> bool:
    return layer.here_db is not None and layer.here_db < limit


def _advised(layer: LayerError, limit: float, stage: str) -> LayerError:
    if layer.advice or not _blamed(layer, limit):
        return layer
    name = layer.onnx_node or layer.name
    alone = f"see it alone with edgeconv verify BUNDLE --isolate {stage}:{name}"
    if stage == "onnx":
        advice = "the exported node computes something else than the PyTorch module"
    elif stage in ("saved_model", *float_stages()):
        advice = f"its weights or its translation differ from ONNX: {alone}"
    elif stage.removeprefix("tflite_") in CALIBRATED_MODES:
        advice = (
            "its integers do not hold these values: calibrate with inputs like those of "
            f"vectors.npz, or keep the layer at higher precision; {alone}"
        )
    else:
        advice = f"its weights have too few bits: keep the layer at higher precision; {alone}"
    return replace(layer, advice=advice)
