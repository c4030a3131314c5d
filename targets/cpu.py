"""The CPU: LiteRT runs every model as it is."""

from __future__ import annotations

from pathlib import Path

from edgeconv.core.errors import UsageError
from edgeconv.core.options import ConvertOptions
from edgeconv.targets.base import BaseTarget
from edgeconv.targets.placement import CPU, OpPlacement, Placement
from edgeconv.tflite import view


class Cpu(BaseTarget):
    """Any CPU that LiteRT runs on. Takes every model and adds no stage."""

    name = "cpu"
    label = "the CPU"
    also_called = ("litert", "tflite", "xnnpack")

    def adapt(self, options: ConvertOptions) -> ConvertOptions:
        """Accept every option but a cut and those of a compiler: there is neither.

        Raises:
            UsageError: One of these is given.
        """
        if options.cut:
            raise UsageError(
                "--cut needs a target other than cpu",
                why="it leaves the end of a model to the CPU",
                hint="add --target coral, or leave --cut out",
            )
        for name in ("min_runtime_version", "compiler_image", "search_delegate", "bisect"):
            if getattr(options, name):
                raise UsageError(
                    f"--{name.replace('_', '-')} needs a target with a compiler",
                    why="--target is cpu",
                    hint="add --target coral, or leave it out",
                )
        return options

    def placement(self, model: Path, *, converted: bool) -> Placement:  # noqa: ARG002
        """Say that every operator runs here."""
        ops = tuple(
            OpPlacement(op.index, op.name, CPU, "the target is a CPU", macs=view.macs(op))
            for op in view.load(model).ops
        )
        # Scripts read this count of every placement, whatever it is for.
        return Placement(CPU, ops, none_on=("edgetpu",))


TARGET = Cpu()
