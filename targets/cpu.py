"""The CPU: LiteRT runs every model as it is."""

from __future__ import annotations

from collections.abc import Sequence

from edgeconv.core.artifacts import Artifact
from edgeconv.core.errors import UsageError
from edgeconv.core.options import ConvertOptions
from edgeconv.targets.base import Assessment
from edgeconv.toolchain.worker.stage import Stage


class Cpu:
    """Any CPU that LiteRT runs on. Takes every model and adds no stage."""

    name = "cpu"
    also_called = ("litert", "tflite", "xnnpack")
    mixed_precision = True
    precision_rules = ()
    fixed_shapes = False

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

    def float_stages(self, options: ConvertOptions) -> Sequence[Stage]:  # noqa: ARG002
        """Return no stage."""
        return ()

    def stages(self, options: ConvertOptions) -> Sequence[Stage]:  # noqa: ARG002
        """Return no stage."""
        return ()

    def assess(self, model: Artifact) -> Assessment:  # noqa: ARG002
        """Say nothing: the CPU runs every operator."""
        return Assessment()


TARGET = Cpu()
