"""Write what a deployment found into its bundle, which is replaced as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeconv.core import bundle as files
from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.core.bundle import Bundle, BundleWriter
from edgeconv.deployment.model import Compiled
from edgeconv.metrics.report import FAIL, PASS
from edgeconv.reports.html import render_html
from edgeconv.targets.base import Target


def record(
    bundle: Bundle,
    target: Target,
    model: Artifact,
    compiled: Compiled,
    entry: Mapping[str, Any],
    outputs: Arrays,
) -> None:
    """Add the stage, and the compiled file where it is new; render the report again.

    Args:
        bundle: The bundle.
        target: What it was deployed to.
        model: What was deployed.
        compiled: What became of it.
        entry: The stage's entry in ``parity.json``.
        outputs: What the device computed for the bundle's vectors, in the source model's form.

    Raises:
        UsageError: The bundle's directory cannot be written.
    """
    with BundleWriter(bundle.path, force=True) as writer:
        place = writer.directory
        shutil.copytree(bundle.path, place, copy_function=_link, dirs_exist_ok=True)
        manifest = dict(bundle.manifest)
        if compiled.path is not None and compiled.seconds is not None:
            path = place / f"{model.path.stem}{target.suffix}"
            shutil.copyfile(compiled.path, path)
            stage = _stage(model, path, place, target)
            manifest["stages"] = [*manifest["stages"], {**stage, "seconds": compiled.seconds}]
        parity = with_stage(bundle.parity(), entry)
        manifest["verdict"] = parity["verdict"]
        page = render_html(manifest, parity, *bundle.vectors(), outputs)
        for name in (files.MANIFEST, files.PARITY, files.REPORT):
            (place / name).unlink(missing_ok=True)  # not through the link
        files.write_json(place / files.PARITY, parity)
        (place / files.REPORT).write_text(page)
        manifest["files"] = [
            files.describe_file(place / name, place)
            for name in (files.VECTORS, files.PARITY, files.REPORT)
        ]
        writer.finish(manifest)


def with_stage(parity: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parity with the stage added, or in the place of an earlier one."""
    stages = [stage for stage in parity["stages"] if stage["stage"] != entry["stage"]]
    stages.append(dict(entry))
    states = {stage["status"] for stage in stages}
    verdict = FAIL if FAIL in states else PASS if PASS in states else parity["verdict"]
    return {**parity, "stages": stages, "verdict": verdict}


def _stage(model: Artifact, path: Path, place: Path, target: Target) -> dict[str, Any]:
    tail = model.tail
    if tail is not None:
        tail = Artifact(tail.format, place / tail.path.name, tail.inputs, tail.outputs)
    made = replace(model, tail=tail).compiled(path, target.name, target.word)
    return {"name": target.place, **files.describe_artifact(made, place)}


def _link(source: str, target: str) -> None:
    """Link a file, which costs nothing; copy it where the file system has no links."""
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copy2(source, target)
