"""A stand-in for a target of another package: it has a device and a compiler that nobody sells.

It knows edgeconv by ``edgeconv.targets`` only, as a package that is not ours would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from edgeconv.core.errors import InvalidModel, ToolMissing
from edgeconv.targets.base import BaseTarget
from edgeconv.targets.compiling import CompilerResult, CompilerRun, Setting
from edgeconv.targets.placement import CPU, OpPlacement, Placement
from edgeconv.tflite import view
from edgeconv.toolchain.device.part import DevicePart

MAGIC = b"STANDIN\n"
_RUNS = ("CONV_2D", "FULLY_CONNECTED")


class StandInNpu(BaseTarget):
    """Runs convolutions and fully connected layers; its compiled files are of its own format."""

    name = "standin-npu"
    label = "the stand-in NPU"
    place = "npu"
    suffix = "_npu.bin"
    compiles = True
    settings = (Setting("npu_cores", "Cores that share the work.", type=int, default=1),)
    gates = {"npu": {"sqnr_db": 9.0}}  # noqa: RUF012

    def placement(self, model: Path, *, converted: bool) -> Placement:
        """Say what it runs, and how many cycles that takes."""
        ops = tuple(_placed(op) for op in view.load(model).ops)
        cycles = sum(op.macs for op in ops if op.place == self.place) // 64
        return Placement(self.place, ops, figures={"cycles": cycles})

    def require_compiler(self, run: CompilerRun) -> None:
        """Refuse where the variable says that there is none."""
        if "STANDIN_NPU_NO_COMPILER" in os.environ:
            raise ToolMissing("the stand-in compiler is not installed", hint="unset the variable")

    def compile(
        self, models: Sequence[Path], directory: Path, run: CompilerRun
    ) -> Sequence[CompilerResult]:
        """Put the model behind a header."""
        self.require_compiler(run)
        found = []
        for model in models:
            path = directory / f"{model.stem}{self.suffix}"
            head = {"cores": run.settings.get("npu_cores", 1), "source": model.name}
            path.write_bytes(MAGIC + json.dumps(head).encode() + b"\n" + model.read_bytes())
            line = f"  cores       {head['cores']}"
            data = {"file": path.name, **head}
            found.append(CompilerResult(path, data, (line,), ("compiled by the stand-in",)))
        return found

    def describe(self, path: Path) -> Mapping[str, Any] | None:
        """Return the header."""
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return None
            try:
                return {"header": json.loads(file.readline())}
            except ValueError as error:
                raise InvalidModel("the header is damaged", where=str(path)) from error

    def description(self, found: Mapping[str, Any]) -> Iterable[str]:
        """Return the header for a terminal."""
        yield f"for {found['header']['cores']} cores"

    def device_part(self) -> DevicePart:
        """Return what stands in for its runtime."""
        source = resources.files(__package__).joinpath("device_part.py").read_text()
        return DevicePart(self.place, self.label, self.suffix, source, "It needs the stand-in.")

    def notes_on(self, found: Mapping[str, Any]) -> Sequence[str]:
        """Say what the part saw."""
        return [f"driver {found['driver']['version']}"] if found.get("driver") else []


def _placed(op: view.Op) -> OpPlacement:
    if op.name in _RUNS:
        return OpPlacement(op.index, op.name, "npu", "it runs there", macs=view.macs(op))
    return OpPlacement(op.index, op.name, CPU, "it is no product", "leave it out", view.macs(op))
