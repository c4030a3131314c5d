"""The CPU: LiteRT runs every model as it is."""

from __future__ import annotations

from pathlib import Path

from edgeconv.targets.base import BaseTarget
from edgeconv.targets.placement import CPU, OpPlacement, Placement
from edgeconv.tflite import view


class Cpu(BaseTarget):
    """Any CPU that LiteRT runs on. Takes every model and adds no stage."""

    name = "cpu"
    label = "the CPU"
    also_called = ("litert", "tflite", "xnnpack")

    def placement(self, model: Path, *, converted: bool) -> Placement:  # noqa: ARG002
        """Say that every operator runs here."""
        ops = tuple(
            OpPlacement(op.index, op.name, CPU, "the target is a CPU", macs=view.macs(op))
            for op in view.load(model).ops
        )
        # Scripts read this count of every placement, whatever it is for.
        return Placement(CPU, ops, none_on=("edgetpu",))


TARGET = Cpu()
