"""The next step against int8's loss, tried: each of the worst layers kept in float, and measured.

A trial is what ``--keep-float`` does in a conversion of its own, so that its gain is what a user
gets who takes the advice.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeconv.artifacts import Artifact
from edgeconv.disk import sha256_of
from edgeconv.errors import EdgeconvError
from edgeconv.layer_errors import LayerError, ranked
from edgeconv.layers.measure import StageLayers
from edgeconv.options import CALIBRATED_MODES
from edgeconv.parity import compare, worst_sqnr
from edgeconv.quantize.precision import keep
from edgeconv.stages import Quantize
from edgeconv.toolchain.stage import StageContext
from edgeconv.verification import Verifier

MOST = 3
"""As many layers are tried."""

_SECONDS = 120.0
"""No trial begins that would end later than this after the first one began, going by the others."""

_WORTH_DB = 0.5


def try_next_steps(
    found: StageLayers, stage: Quantize, source: Artifact, context: StageContext, verifier: Verifier
) -> StageLayers:
    """Return the layers of a stage, the worst ones with what keeping them in float gains.

    Args:
        found: The layers of the stage.
        stage: The stage, which has been checked.
        source: The float artifact that it quantized.
        context: What it was given.
        verifier: Has the samples, and the figures of the stage.
    """
    before = _reached(stage.name, verifier)
    if before is None or stage.mode not in CALIBRATED_MODES or not stage.mixed:
        return found
    tried: dict[str, LayerError] = {}
    began = time.monotonic()
    for layer in _candidates(found.layers):
        longest = (time.monotonic() - began) / max(1, len(tried))
        if tried and time.monotonic() - began + longest > _SECONDS:
            break
        tried[layer.name] = _tried(layer, before, stage, source, context, verifier)
    layers = tuple(tried.get(layer.name, layer) for layer in found.layers)
    return replace(found, layers=layers, digest=sha256_of(stage.path(context)))


def _reached(stage: str, verifier: Verifier) -> float | None:
    figures = [entry.outputs for entry in verifier.stages if entry.stage == stage]
    return worst_sqnr(figures[0]) if figures else None


def _candidates(layers: Sequence[LayerError]) -> list[LayerError]:
    """Return the worst layers that are operators of the float model."""
    return [layer for layer in ranked(layers) if layer.op != "QUANTIZE"][:MOST]


def _tried(
    layer: LayerError,
    before: float,
    stage: Quantize,
    source: Artifact,
    context: StageContext,
    verifier: Verifier,
) -> LayerError:
    name = layer.onnx_node or layer.name.split(";")[-1]
    pattern = f"*{glob.escape(name)}"
    option = f"--keep-float '{pattern}'"
    path = context.directory / ".work" / "trial.tflite"
    try:
        after = _measured(pattern, path, stage, source, context, verifier)
    except EdgeconvError as error:
        return replace(layer, advice=f"{option} was tried, and failed: {_line(error)}")
    finally:
        path.unlink(missing_ok=True)
    if after is None:
        return layer
    gain = after - before
    advice = f"keep it in float: {option}"
    if gain < _WORTH_DB:
        advice = f"{option} was tried, and is not worth it"
    return replace(layer, advice=advice, gain_db=round(gain, 2))


def _measured(
    pattern: str,
    path: Path,
    stage: Quantize,
    source: Artifact,
    context: StageContext,
    verifier: Verifier,
) -> float | None:
    """Return the SQNR of the worst output with what the pattern names in float."""
    rule = keep(pattern, "float", "--keep-float")
    answer: dict[str, Any] = stage.quantized(source, context, path, (rule,))
    outputs = verifier.run(Artifact.from_dict(answer), verifier.inputs)
    return worst_sqnr(compare(verifier.reference, outputs))


def _line(error: EdgeconvError) -> str:
    return str(error).splitlines()[0]
