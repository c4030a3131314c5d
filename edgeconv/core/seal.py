"""What a manifest says of a bundle's files: where they are, and what is in them.

A manifest is read like anything else that others may have written: no name in it leads out of the
bundle, by way of links neither.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeconv.core.disk import sha256_of, size_of
from edgeconv.core.errors import InvalidModel

_SEAL = "artifacts_sha256"
_AWAY = re.compile(r"[\\\0]|^[A-Za-z]:")  # what leads away on Windows, or ends a name in C


def check_files(directory: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Check every file that entries of a manifest name, those of tails at any depth too.

    Raises:
        InvalidModel: One is missing, outside of the bundle, or was changed.
    """
    root = directory.resolve()
    for entry in _with_tails(entries):
        path = directory / entry["file"]
        require_inside(entry["file"], directory)
        if not path.exists():
            raise InvalidModel("the bundle lacks a file", where=str(directory), why=entry["file"])
        for file in path.rglob("*"):  # nothing of a file, everything of a directory
            if not file.resolve().is_relative_to(root):
                raise _outside(directory, file.relative_to(directory).as_posix())
        if size_of(path) != entry["bytes"] or sha256_of(path) != entry["sha256"]:
            raise InvalidModel(
                "a file of the bundle was changed or damaged",
                where=str(path),
                why="its digest is not the manifest's",
                hint="convert the model again",
            )


def _with_tails(entries: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield entries, their tails, and the tails of those."""
    waiting = list(entries)
    while waiting:
        entry = waiting.pop(0)
        yield entry
        if "tail" in entry:
            waiting.append(entry["tail"])


def require_inside(name: str, directory: Path) -> None:
    """Require the name of a file below a directory, on whatever system it is read.

    Raises:
        InvalidModel: It is absolute, leads up, or a link in it leads out.
    """
    parts = name.split("/")
    plain = not any(part in ("", ".", "..") or _AWAY.search(part) for part in parts)
    if not plain or not (directory / name).resolve().is_relative_to(directory.resolve()):
        raise _outside(directory, name)


def _outside(directory: Path, name: str) -> InvalidModel:
    return InvalidModel(
        "the bundle names a file outside of itself",
        where=str(directory),
        why=name,
        hint="do not trust this bundle; convert the model again",
    )


def artifacts_digest(stages: Iterable[Mapping[str, Any]]) -> str:
    """Return one digest for all artifacts.

    Args:
        stages: The manifest's entries; with each come its tails.

    Returns:
        The SHA-256 of the lines ``<sha256>  <file>``, sorted by file, as `sha256_of` has them for
        a directory. The same model, options and versions give the same digest.
    """
    found = {entry["file"]: entry["sha256"] for entry in _with_tails(stages)}
    lines = [f"{digest}  {file}\n" for file, digest in sorted(found.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the digest of its artifacts."""
    return {**manifest, _SEAL: artifacts_digest(manifest["stages"])}


def check_seal(path: Path, manifest: Mapping[str, Any]) -> None:
    """Compare the digest of all artifacts, where the manifest has one.

    Raises:
        InvalidModel: It is another one.
    """
    if _SEAL in manifest and manifest[_SEAL] != artifacts_digest(manifest["stages"]):
        raise InvalidModel(
            "the bundle's list of artifacts was changed",
            where=str(path),
            why=f"{_SEAL} is not that of its stages",
            hint="convert the model again",
        )
