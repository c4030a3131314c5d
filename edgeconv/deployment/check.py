"""What a device is known to lack, found before anything is sent to it."""

from __future__ import annotations

from pathlib import Path

from edgeconv import targets
from edgeconv.core.errors import ConversionError
from edgeconv.toolchain.runtimes.op_versions import newer_operators, table_for


def require_operators(model: Path, runtime: str, where: str) -> None:
    """Refuse a model that has operators which a runtime lacks; unknown runtimes pass.

    Args:
        model: A .tflite file; compiled operators count for nothing.
        runtime: Name and version, ``"tflite-runtime 2.14.0"``.
        where: The device that has it.

    Raises:
        ConversionError: It would refuse the model; every operator concerned is named.
    """
    table = table_for(runtime)
    newer = newer_operators(model, table) if table is not None else []
    if newer:
        raise ConversionError(
            f"{runtime} on {where} is too old for {model.name}",
            why="; ".join(newer),
            hint=f"install a newer runtime there{_other_targets()}",
        )


def _other_targets() -> str:
    """Return the advice to convert for a target that keeps to what old runtimes know."""
    names = [f"--target {target.name}" for target in targets.every() if target.keeps_old_operators]
    if not names:
        return ""
    return f", or convert with {' or '.join(names)}, which keeps to old operator versions"
