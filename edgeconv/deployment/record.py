"""Write what a deployment found into its bundle, which is replaced as a whole."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeconv.core import bundle as files
from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.core.bundle import Bundle
from edgeconv.deployment.model import Compiled
from edgeconv.metrics.report import StageParity, report_of
from edgeconv.reports.bundle import rewritten, write_reports
from edgeconv.targets.base import Target


def record(
    bundle: Bundle,
    target: Target,
    model: Artifact,
    compiled: Compiled,
    entry: StageParity,
    outputs: Arrays,
) -> None:
    """Add the stage, and the compiled file where it is new; render the report again.

    Args:
        bundle: The bundle.
        target: What it was deployed to.
        model: What was deployed.
        compiled: What became of it.
        entry: The stage's parity.
        outputs: What the device computed for the bundle's vectors, in the source model's form.

    Raises:
        UsageError: The bundle's directory cannot be written.
    """
    with rewritten(bundle.path) as writer:
        place = writer.directory
        manifest = dict(bundle.manifest)
        if compiled.path is not None and compiled.seconds is not None:
            path = place / f"{model.path.stem}{target.suffix}"
            shutil.copyfile(compiled.path, path)
            stage = _stage(model, path, place, target)
            manifest["stages"] = [*manifest["stages"], {**stage, "seconds": compiled.seconds}]
        parity = report_of(bundle).with_stage(entry)
        manifest["verdict"] = parity.verdict
        vectors = (*bundle.vectors(), outputs)
        manifest["files"] = write_reports(place, manifest, parity, vectors)
        writer.finish(manifest)


def _stage(model: Artifact, path: Path, place: Path, target: Target) -> dict[str, Any]:
    tail = model.tail
    if tail is not None:
        tail = Artifact(tail.format, place / tail.path.name, tail.inputs, tail.outputs)
    made = replace(model, tail=tail).compiled(path, target.name, target.word)
    return {"name": target.place, **files.describe_artifact(made, place)}
