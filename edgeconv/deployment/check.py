"""What a device is known to lack, found before anything is sent to it."""

from __future__ import annotations

from pathlib import Path

from edgeconv.core.errors import ConversionError
from edgeconv.toolchain.device.job import Found
from edgeconv.toolchain.probes import pycoral_of
from edgeconv.toolchain.runtimes.op_versions import newer_operators, table_for


def require_operators(model: Path, runtime: str, where: str) -> None:
    """Refuse a model that has operators which a runtime lacks; unknown runtimes pass.

    Args:
        model: A .tflite file; compiled operators of an Edge TPU count for nothing.
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
            hint="install a newer runtime there, or convert with --target coral, which keeps to "
            "old operator versions",
        )


def notes_on(found: Found) -> list[str]:
    """Return what is wrong on a device but stops nothing: PyPI's pycoral in Google's place."""
    component = pycoral_of(found.pycoral)
    if found.pycoral is None or component.works:
        return []
    what = f"pycoral {component.version} in {component.where}: {component.problem}"
    return [f"{what}; next: {component.next_step}"]
