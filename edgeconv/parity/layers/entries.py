"""What ``parity.json`` says of the layers of each stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeconv.core.options import CALIBRATED_MODES
from edgeconv.metrics.layer_errors import LayerError, ranked
from edgeconv.parity.layers.measure import StageLayers
from edgeconv.targets.gates import float_stages

WORST = 10
"""How many layers are listed as the worst ones."""

# A layer is to blame where it makes, alone, nearly as much error as all of them together may.
_MARGIN_DB = 10.0

_ENTRIES = (
    "worst_layers",
    "first_layer",
    "layer_samples",
    "layers",
    "layers_of",
    "unmatched_layers",
)
_TRIALS = ("trials", "next_step", "layers_of")
_NO_PROGRAM = (
    "the bundle does not hold the PyTorch program; edgeconv verify MODEL.pt2 BUNDLE/MODEL.onnx "
    "compares it with the ONNX file"
)


def with_layers(parity: dict[str, Any], found: Mapping[str, StageLayers]) -> dict[str, Any]:
    """Return the content of ``parity.json`` with the layers of its stages."""
    stages = [
        {**stage, **entries(found[stage["stage"]], stage)} if stage["stage"] in found else stage
        for stage in parity["stages"]
    ]
    return {**parity, "stages": stages}


def kept_from(
    before: Mapping[str, Any], parity: dict[str, Any], stage: str, digest: str
) -> dict[str, Any]:
    """Return the parity with a stage's layers as an earlier one has them, and a note that says so.

    Args:
        before: The earlier content of ``parity.json``.
        parity: The content without them.
        stage: The stage, which cannot be measured again without the PyTorch program.
        digest: SHA-256 of its file. Layers of a file with another one are not taken.
    """
    old: Mapping[str, Any] = next((item for item in before["stages"] if item["stage"] == stage), {})
    taken: dict[str, Any] = {"layers_note": f"not measured: {_NO_PROGRAM}"}
    if old.get("layers_of") == digest:
        taken = {name: old[name] for name in _ENTRIES if name in old}
        taken["layers_note"] = f"measured when the bundle was made, not now: {_NO_PROGRAM}"
    stages = [{**item, **taken} if item["stage"] == stage else item for item in parity["stages"]]
    return {**parity, "stages": stages}


def with_trials_of(
    before: Mapping[str, Any], parity: dict[str, Any], digests: Mapping[str, str]
) -> dict[str, Any]:
    """Return the parity with the next steps that were tried when an earlier one was written.

    Args:
        before: The earlier content of ``parity.json``.
        parity: The content.
        digests: SHA-256 of each stage's file. What was tried on another file is not taken.
    """
    unchanged = [
        stage
        for stage in before["stages"]
        if stage.get("layers_of") == digests.get(stage["stage"], "")
    ]
    steps = {
        stage["stage"]: {name: stage[name] for name in _TRIALS if name in stage}
        for stage in unchanged
    }
    known = {
        stage["stage"]: {
            layer["name"]: {name: layer[name] for name in ("advice", "gain_db")}
            for layer in stage["worst_layers"]
            if layer.get("gain_db") is not None
        }
        for stage in unchanged
    }
    stages = []
    for stage in parity["stages"]:
        stage = {**stage, **steps.get(stage["stage"], {})}  # noqa: PLW2901 - with what was tried
        tried = known.get(stage["stage"])
        if tried and stage["worst_layers"]:
            layers = [{**layer, **tried.get(layer["name"], {})} for layer in stage["worst_layers"]]
            stage = {  # noqa: PLW2901 - the same stage, with more
                **stage, "worst_layers": layers, "layers_of": digests[stage["stage"]]
            }  # fmt: skip
        stages.append(stage)
    return {**parity, "stages": stages}


def entries(found: StageLayers, stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of one stage: all layers, the worst ones, and the first to blame.

    A stage that passes blames nobody.
    """
    if found.note:
        return {"layers_note": found.note}
    passed = stage.get("status") == "pass"
    limit = -math.inf if passed else stage["gate"].get("sqnr_db", 0.0) + _MARGIN_DB
    blamed = [layer for layer in found.layers if _blamed(layer, limit)]
    name = str(stage["stage"])
    worst = [_advised(layer, limit, name) for layer in ranked(found.layers, WORST)]
    first = _advised(blamed[0], limit, name).to_dict() if blamed else None
    return {
        "worst_layers": [layer.to_dict() for layer in worst],
        "first_layer": first,
        "layer_samples": found.samples,
        **({"layers_of": found.digest} if found.digest else {}),
        "layers": [_short(layer) for layer in found.layers],
        "unmatched_layers": [
            {"name": name, "op": op, "why": why} for name, op, why in found.unmatched
        ],
        **_tried(found),
    }


def _tried(found: StageLayers) -> dict[str, Any]:
    if not found.trials:
        return {}
    best = found.next_step
    return {
        "trials": [trial.to_dict() for trial in found.trials],
        "next_step": None if best is None else best.to_dict(),
    }


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


def _short(layer: LayerError) -> dict[str, Any]:
    """Return a layer without what is unknown; a model may have thousands."""
    data = layer.to_dict()
    kept = ("name", "op", "sqnr_db", "here_db", "carried_db")
    return {
        name: round(value, 2) if isinstance(value, float) else value
        for name, value in data.items()
        if name in kept or value not in ("", None)
    }
