"""Which bundle, which of its models, and the compiled form for an Edge TPU."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from edgeconv.core.artifacts import Artifact, Format
from edgeconv.core.bundle import MANIFEST, Bundle, open_bundle
from edgeconv.core.errors import CompilerError, InvalidModel, UsageError
from edgeconv.targets.coral.compiler.compile import compile_model
from edgeconv.targets.coral.compiler.find import HOW_TO_GET, PROGRAM, find
from edgeconv.targets.coral.compiler.options import CompileOptions

STAGE = "edgetpu"
_INTEGER = "tflite_int8"


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


def model_of(bundle: Bundle, target: str) -> tuple[str, Artifact]:
    """Return the stage and the model that runs on the CPUs of a target.

    Raises:
        UsageError: The bundle has none that fits.
    """
    models = {
        name: artifact
        for name, artifact in bundle.artifacts.items()
        if artifact.format == Format.TFLITE
    }
    if target == "coral":
        if _INTEGER not in models:
            raise UsageError(
                "the bundle has no int8 model, and the Edge TPU runs nothing else",
                where=str(bundle.path),
                hint="convert again with --target coral",
            )
        return _INTEGER, models[_INTEGER]
    if not models:
        raise UsageError("the bundle has no .tflite model", where=str(bundle.path))
    return list(models.items())[-1]


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
    bundle: Bundle, model: Artifact, scratch: Path, image: str | None, memory: int | None
) -> Compiled:
    """Return the bundle's compiled model, or compile it now where the compiler is there."""
    for artifact in bundle.artifacts.values():
        if artifact.format == Format.COMPILED:
            return Compiled(artifact.path)
    compiler = find(image)
    if compiler is None:
        return Compiled(
            why_not=f"the model is not compiled: {PROGRAM} is not installed", advice=HOW_TO_GET
        )
    began = time.monotonic()
    try:
        options = CompileOptions(image=image, memory=memory)
        found = compile_model(model.path, scratch, options, compiler)
    except CompilerError as error:
        why = f"{error.what}: {error.why}" if error.why else error.what
        return Compiled(why_not=f"the model is not compiled: {why}", advice=error.hint)
    return Compiled(found.path, seconds=time.monotonic() - began)
