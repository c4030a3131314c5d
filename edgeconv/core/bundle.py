"""The bundle: one directory with every artifact of a conversion, either whole or refused.

A bundle is built in a hidden sibling, ``.<name>.partial-<random>``, whose ``manifest.json`` is
written last, and renamed when everything has reached the disk. The builder holds a lock on that
directory; one that nobody holds was left by a process that died, and the next run removes it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgeconv.core.arrays import read_npz
from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.core.disk import (
    disk_full,
    is_disk_full,
    missing_directories,
    sha256_of,
    size_of,
    sync,
    sync_tree,
)
from edgeconv.core.errors import InvalidModel, UsageError
from edgeconv.core.json_files import read_json as read_json
from edgeconv.core.seal import check_files, check_seal, require_inside, sealed
from edgeconv.core.vectors import require_vectors
from edgeconv.core.wording import named

SCHEMA_VERSION = 1

MANIFEST = "manifest.json"
PARITY = "parity.json"
VECTORS = "vectors.npz"
REPORT = "report.html"

COMPLETE = "complete"
FAILED = "failed"

_INPUT = "input/"
_OUTPUT = "output/"


class BundleWriter:
    """Builds a bundle in `directory`, and puts it in its place with `finish`. A context manager.

    Leaving the context without `finish` removes everything that was written.

    Args:
        target: The bundle directory to create; missing parents are created.
        force: Replace an existing bundle, once the new one is whole. A bundle of a run that
            failed is replaced without it, and nothing but a bundle ever is.
    """

    def __init__(self, target: Path, *, force: bool = False) -> None:
        self.target = Path(os.path.realpath(target))
        self._force = force
        self._partial = self.target
        self._lock = -1
        self._made: list[Path] = []

    @property
    def directory(self) -> Path:
        """Where the files of the bundle go for now."""
        return self._partial

    def __enter__(self) -> Self:
        """Check the target and create the hidden directory.

        Raises:
            UsageError: The target exists and may not be replaced, or cannot be written.
        """
        self._require_free()
        try:
            with _writable(self.target):
                for parent in reversed(missing_directories(self.target.parent)):
                    parent.mkdir()
                    self._made.append(parent)
                self._tidy()
                self._create()
        except UsageError:
            self._remove_parents()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._partial != self.target:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._remove_parents()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def finish(self, manifest: dict[str, Any]) -> bool:
        """Write the manifest, which gains the digest of its artifacts, sync, and rename.

        Returns:
            Whether the bundle is in place. A failed one does not replace a complete one.

        Raises:
            UsageError: The disk is full, or the target was created by someone else meanwhile.
        """
        self._require_free()
        if manifest["status"] == FAILED and _status(self.target) == COMPLETE:
            return False
        with _writable(self.target):
            manifest |= sealed(manifest)
            write_json(self._partial / MANIFEST, manifest)
            sync_tree(self._partial)
            old = self._set_aside()
            self._partial.rename(self.target)
            self._partial = self.target
            sync(self.target.parent)
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
        return True

    def _require_free(self) -> None:
        if not os.path.lexists(self.target):
            return
        if not self.target.is_dir():
            raise UsageError("the output exists and is not a directory", where=str(self.target))
        status = _status(self.target)
        if status is None and any(self.target.iterdir()):
            raise UsageError(
                "the output directory exists and is not a bundle",
                where=str(self.target),
                hint=f"choose another {named('output')}; it is not overwritten, even with "
                f"{named('force', True)}",
            )
        if status == COMPLETE and not self._force:
            raise UsageError(
                "the bundle exists already",
                where=str(self.target),
                hint=f"add {named('force', True)} to replace it, or choose another "
                f"{named('output')}",
            )

    def _sibling(self, purpose: str, suffix: str) -> Path:
        return self.target.with_name(f".{self.target.name}.{purpose}-{suffix}")

    def _siblings(self, purpose: str) -> list[Path]:
        prefix = self._sibling(purpose, "").name
        return [path for path in self.target.parent.iterdir() if path.name.startswith(prefix)]

    def _create(self) -> None:
        """Create and lock the hidden directory; another run's tidying may come in between."""
        while True:
            partial = self._sibling("partial", secrets.token_hex(4))
            partial.mkdir()
            try:
                lock = _lock(partial)
            except OSError:
                # Some network file systems have no locks; nobody can tidy there either.
                lock = -1
            if lock is not None and partial.exists():
                break
        self._partial, self._lock = partial, lock

    def _tidy(self) -> None:
        """Remove what runs that died left behind, and put back what one was about to replace."""
        for partial in self._siblings("partial"):
            with suppress(OSError):
                lock = _lock(partial)
                if lock is not None:
                    shutil.rmtree(partial, ignore_errors=True)
                    os.close(lock)
        for old in self._siblings("replaced"):
            if os.path.lexists(self.target):
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.rename(self.target)
                self._require_free()

    def _set_aside(self) -> Path | None:
        if not self.target.exists():
            return None
        old = self._sibling("replaced", secrets.token_hex(4))
        self.target.rename(old)
        return old

    def _remove_parents(self) -> None:
        for parent in reversed(self._made):
            with suppress(OSError):
                parent.rmdir()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that has been checked.

    Attributes:
        path: Its directory.
        manifest: The content of ``manifest.json``.
    """

    path: Path
    manifest: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether every stage finished."""
        return bool(self.manifest["status"] == COMPLETE)

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """The finished stages' artifacts, by stage name, in the pipeline's order."""
        return {entry["name"]: artifact_of(entry, self.path) for entry in self.manifest["stages"]}

    def artifact(self, stage: str) -> Artifact:
        """Return a stage's artifact; raise `UsageError` where there is no such stage."""
        artifacts = self.artifacts
        if stage not in artifacts:
            why = "it has " + (", ".join(artifacts) or "none")
            raise UsageError(f"the bundle has no stage {stage}", where=str(self.path), why=why)
        return artifacts[stage]

    def parity(self) -> dict[str, Any]:
        """Return the content of ``parity.json``."""
        return read_json(self.path / PARITY)

    def vectors(self) -> tuple[Arrays, Arrays]:
        """Return the inputs and the reference outputs by name, ``[sample, ...]``, source form.

        Raises:
            InvalidData: The file is damaged, or its arrays are not those of the bundle's models.
        """
        arrays = read_npz(self.path / VECTORS)
        inputs, outputs = (
            {name.removeprefix(kind): a for name, a in arrays.items() if name.startswith(kind)}
            for kind in (_INPUT, _OUTPUT)
        )
        first = next(iter(self.artifacts.values()), None)
        if first is not None:
            require_vectors(first.inputs, inputs, outputs, str(self.path / VECTORS))
        return inputs, outputs


def open_bundle(path: Path, *, allow_failed: bool = False) -> Bundle:
    """Open a bundle after checking that it is whole: the manifest, and every file's digest.

    Args:
        path: The bundle directory.
        allow_failed: Also accept one whose run failed at some stage.

    Raises:
        InvalidModel: It is missing, not a bundle, incomplete, or was changed.
    """
    if not (path / MANIFEST).is_file():
        why = "there is no " + (MANIFEST if path.is_dir() else "such directory")
        raise InvalidModel("this is not a bundle", where=str(path), why=why)
    manifest = read_json(path / MANIFEST)
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise InvalidModel(
            f"the bundle's schema version is {manifest.get('schema_version')}",
            where=str(path),
            why=f"this version reads {SCHEMA_VERSION}",
        )
    try:
        for name in (PARITY, VECTORS, REPORT):
            require_inside(name, path)
        check_files(path, [*manifest["stages"], *manifest["files"]])
        check_seal(path, manifest)
        bundle = Bundle(path, manifest)
        assert isinstance(bundle.artifacts, dict)
        complete = bundle.complete
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        OSError,
        AssertionError,
        RecursionError,
    ) as error:
        raise InvalidModel(
            "the bundle's manifest is damaged", where=str(path / MANIFEST), why=repr(error)
        ) from error
    if not complete and not allow_failed:
        failure = manifest.get("failure") or {}
        raise InvalidModel(
            "the bundle is incomplete",
            where=str(path),
            why=f"its run failed at {failure.get('stage', 'some stage')}",
            hint="convert the model again",
        )
    return bundle


def vectors_of(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Arrays:
    """Return the content of ``vectors.npz``: keys ``input/<name>`` and ``output/<name>``."""
    return {_INPUT + name: array for name, array in inputs.items()} | {
        _OUTPUT + name: array for name, array in outputs.items()
    }


def describe_file(path: Path, directory: Path) -> dict[str, Any]:
    """Return the manifest's entry for a file or directory of a bundle."""
    return {
        "file": path.relative_to(directory).as_posix(),
        "sha256": sha256_of(path),
        "bytes": size_of(path),
    }


def describe_artifact(artifact: Artifact, directory: Path) -> dict[str, Any]:
    """Return the manifest's entry for an artifact of a bundle; `artifact_of` reads it."""
    data = artifact.to_dict()
    del data["path"]
    if artifact.tail is not None:
        data["tail"] = describe_artifact(artifact.tail, directory)
    return {**describe_file(artifact.path, directory), **data}


def artifact_of(entry: Mapping[str, Any], directory: Path) -> Artifact:
    """Rebuild the artifact that `describe_artifact` described."""
    own = {key: value for key, value in entry.items() if key != "tail"}
    artifact = Artifact.from_dict({**own, "path": directory / entry["file"]})
    tail = artifact_of(entry["tail"], directory) if "tail" in entry else None
    return replace(artifact, tail=tail)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file that a strict reader takes: no NaN, no infinity."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def _status(directory: Path) -> str | None:
    """Return the status of a bundle, or ``None`` where the directory holds none."""
    try:
        manifest = read_json(directory / MANIFEST)
    except InvalidModel:
        return None
    if not {"schema_version", "stages", "status"} <= manifest.keys():
        return None
    return FAILED if manifest["status"] == FAILED else COMPLETE


def _lock(directory: Path) -> int | None:
    """Lock a directory; ``None`` where somebody holds it or it is gone.

    Raises:
        OSError: The file system has no locks.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _writable(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(str(error)) from error
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise UsageError("something else was put there meanwhile", where=str(target)) from error
        raise UsageError(
            "cannot write the output directory",
            where=str(target),
            why=error.strerror or str(error),
            hint=f"choose another {named('output')}",
        ) from error
