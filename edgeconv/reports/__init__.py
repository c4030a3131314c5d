"""Reports of a bundle in the forms that people, CI systems and viewers read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.core.artifacts import Arrays
from edgeconv.core.bundle import (
    MANIFEST,
    PARITY,
    REPORT,
    Bundle,
    describe_file,
    read_json,
    write_json,
)

__all__ = ["render", "update"]


def render(directory: Path, found: Arrays | None = None) -> Path:
    """Write a bundle's ``report.html`` again, from its manifest, ``parity.json`` and vectors.

    What is in ``parity.json`` is believed; the manifest gets the digests of both files, so that the
    bundle is whole afterwards.

    Args:
        directory: The bundle.
        found: The outputs of the last stage for the vectors, where they are known.

    Returns:
        The page.

    Raises:
        InvalidModel: A file cannot be read.
        OSError: The page cannot be written.
    """
    from edgeconv.reports.html import render_html

    manifest = read_json(directory / MANIFEST)
    bundle = Bundle(directory, manifest)
    page = render_html(manifest, bundle.parity(), *bundle.vectors(), found)
    (directory / REPORT).write_text(page)
    renewed = {name: describe_file(directory / name, directory) for name in (PARITY, REPORT)}
    files = [renewed.get(entry["file"], entry) for entry in manifest["files"]]
    temporary = directory / f".{MANIFEST}.new"
    write_json(temporary, {**manifest, "files": files})
    temporary.replace(directory / MANIFEST)
    return directory / REPORT


def update(directory: Path, parity: Mapping[str, Any], found: Arrays | None = None) -> Path:
    """Put another ``parity.json`` into a bundle, and write its ``report.html`` again.

    Args:
        directory: The bundle.
        parity: The content.
        found: The outputs of the last stage for the vectors, where they are known.

    Returns:
        The page.

    Raises:
        InvalidModel: A file cannot be read.
        OSError: A file cannot be written.
    """
    manifest = read_json(directory / MANIFEST)
    write_json(directory / PARITY, parity)
    verdicts = {"verdict": parity["verdict"], "verified": parity["verdict"] != "skipped"}
    write_json(directory / MANIFEST, {**manifest, **verdicts})
    return render(directory, found)
