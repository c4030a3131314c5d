"""The reports that are part of a bundle: ``parity.json`` and ``report.html``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgeconv.core import bundle as files
from edgeconv.core.artifacts import Arrays
from edgeconv.core.bundle import Bundle, BundleWriter, read_json
from edgeconv.metrics.report import SKIPPED, ParityReport
from edgeconv.reports.html import render_html

Vectors = tuple[Arrays, Arrays, Arrays]
"""Inputs, the reference's outputs for them, and those of the last stage where they are known."""


def write_reports(
    directory: Path, manifest: Mapping[str, Any], parity: ParityReport, vectors: Vectors
) -> list[dict[str, Any]]:
    """Write ``parity.json`` and ``report.html``.

    Args:
        directory: The bundle, which has its ``vectors.npz`` already.
        manifest: The content of ``manifest.json``.
        parity: The report.
        vectors: What it was measured on, for the page's pictures.

    Returns:
        ``files`` of the manifest.
    """
    page = render_html(manifest, parity, *vectors)
    for name in (files.PARITY, files.REPORT):
        (directory / name).unlink(missing_ok=True)  # not through a link
    files.write_json(directory / files.PARITY, parity.to_dict())
    (directory / files.REPORT).write_text(page)
    names = (files.VECTORS, files.PARITY, files.REPORT)
    return [files.describe_file(directory / name, directory) for name in names]


@contextmanager
def rewritten(bundle: Path) -> Iterator[BundleWriter]:
    """Provide a copy of a bundle that takes its place as a whole, with `BundleWriter.finish`.

    Raises:
        UsageError: The bundle's directory cannot be written.
    """
    with BundleWriter(bundle, force=True) as writer:
        shutil.copytree(bundle, writer.directory, copy_function=_link, dirs_exist_ok=True)
        (writer.directory / files.MANIFEST).unlink(missing_ok=True)  # not through the link
        yield writer


def _link(source: str, target: str) -> None:
    """Link a file, which costs nothing; copy it where the file system has no links."""
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copy2(source, target)


def update(directory: Path, parity: ParityReport, found: Arrays | None = None) -> Path:
    """Put another report into a bundle, as ``parity.json`` and as ``report.html``.

    Args:
        directory: The bundle.
        parity: The report.
        found: The outputs of the last stage for the vectors, where they are known.

    Returns:
        The page.

    Raises:
        InvalidModel: A file cannot be read.
        UsageError: The bundle's directory cannot be written.
    """
    manifest = read_json(directory / files.MANIFEST)
    vectors = Bundle(directory, manifest).vectors()
    manifest |= {"verdict": parity.verdict, "verified": parity.verdict != SKIPPED}
    with rewritten(directory) as writer:
        manifest["files"] = write_reports(
            writer.directory, manifest, parity, (*vectors, found or {})
        )
        writer.finish(manifest)
    return directory / files.REPORT
