"""The verdict in one line, and on what it rests."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from edgeconv.core.options import CALIBRATED_MODES
from edgeconv.metrics.report import SKIPPED, ParityReport

WIDTH = 80
"""Columns that the terminal report fits in."""

FEW_SAMPLES = 8
"""Fewer samples than this say little, and the first line says so."""


def is_uncalibrated(manifest: Mapping[str, Any]) -> bool:
    """Tell whether a manifest speaks of an integer model calibrated on generated inputs."""
    return manifest["options"]["quantize"] in CALIBRATED_MODES and not manifest["calibrated"]


def headline(manifest: Mapping[str, Any], parity: ParityReport) -> str:
    """Return the verdict in one line of at most `WIDTH` columns; its basis is never cut off."""
    model, verdict, basis = _words(manifest, parity)
    room = WIDTH - len(basis)
    text = textwrap.shorten(f"{_shortened(model, room // 2)}: {verdict}", room, placeholder=" ...")
    return text + basis


def verdict_line(manifest: Mapping[str, Any], parity: ParityReport) -> str:
    """Return the verdict in one line: on a failure with the stage, and the layer to blame."""
    model, verdict, basis = _words(manifest, parity)
    return f"{model}: {verdict}{basis}"


def _words(manifest: Mapping[str, Any], parity: ParityReport) -> tuple[str, str, str]:
    if manifest["status"] == "failed":
        verdict = f"FAILED at stage {manifest['failure']['stage']}"
    else:
        verdict = {
            "pass": _passed(parity),
            "fail": "PARITY FAILED",
            "skipped": "NOT VERIFIED",
        }[parity.verdict]
        verdict += _blame(parity)
    return str(manifest["model"]), verdict, _basis(manifest, parity)


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 3]}..."


def _basis(manifest: Mapping[str, Any], parity: ParityReport) -> str:
    """Return on what the verdict rests, where that is little: generated inputs, or a few."""
    words = ""
    if parity.verdict != SKIPPED:
        if parity.generated:
            words = " on generated inputs"
        elif parity.samples < FEW_SAMPLES:
            words = f" on {_samples(parity.samples)}"
    if is_uncalibrated(manifest):
        return f"{words}, UNCALIBRATED"
    calibration = parity.calibration
    if calibration and calibration.samples < FEW_SAMPLES:
        words += f", calibrated on {_samples(calibration.samples)}"
    if manifest.get("data", {}).get("differences"):
        words += ", calibration and verification data differ"
    return words


def _samples(count: int) -> str:
    return f"{count} sample" if count == 1 else f"{count} samples"


def _passed(parity: ParityReport) -> str:
    if parity.correspondence is not None:
        return f"parity passed against {parity.reference}"
    if parity.against is not None:
        return f"{parity.against.converter} and edgeconv's own converter agree"
    return "parity passed at every stage"


def _blame(parity: ParityReport) -> str:
    """Return the first stage that failed, and its first layer to blame where one is known."""
    failed = [stage for stage in parity.stages if stage.failed]
    if not failed:
        return ""
    layer = failed[0].layers.first if failed[0].layers else None
    if layer is None:
        return f" at {failed[0].stage}"
    module = f" ({layer.module})" if layer.module else ""
    return f" at {failed[0].stage}, layer {layer.name}{module}"
