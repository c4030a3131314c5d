"""What must be said beside the table: failed gates, missing calibration, warnings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from edgeconv.metrics.report import SKIPPED, ParityReport
from edgeconv.reports.headline import is_uncalibrated
from edgeconv.reports.words import format_db


def notes(manifest: Mapping[str, Any], parity: ParityReport) -> list[str]:
    """Return what else must be said: failed gates, missing calibration, warnings."""
    found = [
        f"{stage.stage} fails: {reason}"
        for stage in parity.stages
        if stage.failed
        for reason in stage.reasons
    ]
    found += [*_to_blame(parity), *_next_steps(manifest, parity), *_lost(parity)]
    if is_uncalibrated(manifest):
        found.append(
            f"uncalibrated: the {manifest['options']['quantize']} ranges come from generated "
            "inputs; give real ones with --calibration-data"
        )
    if parity.verdict == SKIPPED:
        found.append("unverified: parity was not checked (--no-verify)")
    elif parity.generated:
        option = "--verify-data or --calibration-data"
        found.append(
            f"parity was measured on {parity.samples} generated samples; give real ones with "
            + (option if parity.correspondence is None else "--data")
        )
    for entry in (*manifest["stages"], manifest.get("target", {})):
        found += entry.get("notes", ())
    return found + [f"warning: {text}" for text in manifest["warnings"]]


def _to_blame(parity: ParityReport) -> list[str]:
    """Return of each stage that failed the first layer that makes too much error."""
    found = []
    for stage in parity.stages:
        layer = stage.layers.first if stage.failed and stage.layers else None
        if layer:
            origin = [layer.op, layer.onnx_node, layer.module, layer.source]
            words = ", ".join(dict.fromkeys(filter(None, origin)))
            found.append(
                f"first layer to blame in {stage.stage}: {layer.name} ({words}), "
                f"{format_db(layer.here_db)} dB alone"
            )
    return found


def _next_steps(manifest: Mapping[str, Any], parity: ParityReport) -> list[str]:
    """Return of each stage that failed what was tried, and the command that cures it."""
    found = []
    for stage in parity.stages:
        if not stage.failed or stage.layers is None or not stage.layers.trials:
            continue
        step = stage.layers.next_step
        if step is None or step.gain_db is None:
            tried = ", ".join(shlex.join(trial.options) for trial in stage.layers.trials)
            found.append(f"next: of what was tried for {stage.stage} nothing gains: {tried}")
        else:
            holds = "and the gate holds" if step.passes else "which is not enough"
            found.append(
                f"next, tried for {stage.stage}: {shlex.join(step.options)} gives "
                f"{format_db(step.reached_db)} dB on the worst output "
                f"({step.gain_db:+.1f} dB), {holds}: {_command(manifest, step.options)}"
            )
    return found


def _command(manifest: Mapping[str, Any], options: Sequence[str]) -> str:
    """Return the conversion's call with further options, which win over earlier ones."""
    command = [part for part in manifest["command"] if part != "--force"]
    if command[:1] != ["edgeconv"]:
        return "the same options of edgeconv.convert"
    return shlex.join([*command, *options, "--force"])


def _lost(parity: ParityReport) -> list[str]:
    """Return the outputs of the baseline whose stages are not there any more."""
    stages = {stage.stage for stage in parity.stages}
    lost = {
        (item.stage, item.output) for item in parity.regressions or () if item.stage not in stages
    }
    return [f"{stage} is gone; the baseline has its output {name}" for stage, name in sorted(lost)]
