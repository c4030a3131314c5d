"""Which bundle, which of its models, and the form that is compiled for a target."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from edgeconv import targets
from edgeconv.core.artifacts import Artifact, Format
from edgeconv.core.bundle import MANIFEST, Bundle, open_bundle
from edgeconv.core.errors import CompilerError, InvalidModel, ToolMissing, UsageError
from edgeconv.targets.base import Target
from edgeconv.targets.compiling import CompilerRun

IMAGE = "compiler_image"
"""The setting of a compiler that can be run from a container image."""


def newest_bundle(directory: Path) -> Path:
    """Return the bundle in a directory whose manifest was written last.

    Raises:
        UsageError: There is none.
    """
    found = [path for path in directory.glob(f"*/{MANIFEST}") if path.is_file()]
    for manifest in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            return open_bundle(manifest.parent).path
        except InvalidModel:
            continue
    raise UsageError(
        "there is no bundle here",
        where=str(directory),
        hint="name one, or make one with edgeconv torch2tflite",
    )


def require_verified(bundle: Bundle, *, force: bool) -> None:
    """Refuse a bundle whose parity was not checked.

    Raises:
        UsageError: It was not, and `force` is not given.
    """
    if not bundle.manifest["verified"] and not force:
        raise UsageError(
            "the bundle is unverified",
            where=str(bundle.path),
            why="it was made with --no-verify",
            hint="convert again without --no-verify, or add --force",
        )


def model_of(bundle: Bundle, target: Target) -> tuple[str, Artifact]:
    """Return the stage and the model that runs on the CPUs of a target, and that is compiled.

    Raises:
        UsageError: The bundle has none that fits.
    """
    models = {
        name: artifact
        for name, artifact in bundle.artifacts.items()
        if artifact.format == Format.TFLITE
    }
    if not models:
        raise UsageError("the bundle has no .tflite model", where=str(bundle.path))
    stage = target.deployable(models, str(bundle.path))
    return stage, models[stage]


@dataclass(frozen=True, slots=True)
class Compiled:
    """The compiled form of a model, or why there is none.

    Attributes:
        path: The compiled file.
        why_not: Why there is none.
        advice: What would change that.
        seconds: What compiling took; ``None`` where the bundle had it already.
    """

    path: Path | None = None
    why_not: str | None = None
    advice: str = ""
    seconds: float | None = None


def compiled_of(
    bundle: Bundle,
    model: Artifact,
    scratch: Path,
    target: Target,
    image: str | None,
    memory: int | None,
) -> Compiled:
    """Return the bundle's compiled model, or compile it now where the compiler is there.

    Raises:
        UsageError: An image is given, and the target's compiler is not run from one.
        ToolMissing: An image is given, and cannot be run.
    """
    for artifact in bundle.artifacts.values():
        if targets.is_for(artifact, target):
            return Compiled(artifact.path)
    run = CompilerRun(memory=memory, settings=targets.settings_of(target, {IMAGE: image}))
    try:
        target.require_compiler(run)
    except ToolMissing as error:
        if image is not None:
            raise
        return Compiled(why_not=f"the model is not compiled: {error.what}", advice=error.hint)
    began = time.monotonic()
    try:
        (found,) = target.compile([model.path], scratch, run)
    except CompilerError as error:
        why = f"{error.what}: {error.why}" if error.why else error.what
        return Compiled(why_not=f"the model is not compiled: {why}", advice=error.hint)
    return Compiled(found.path, seconds=time.monotonic() - began)
