"""The CPU: LiteRT runs every model as it is."""

from __future__ import annotations

from collections.abc import Sequence

from edgeconv.options import ConvertOptions
from edgeconv.toolchain.stage import Stage


class Cpu:
    """Any CPU that LiteRT runs on. Takes every model and adds no stage."""

    name = "cpu"

    def check(self, options: ConvertOptions) -> None:
        """Accept every option."""

    def stages(self, options: ConvertOptions) -> Sequence[Stage]:  # noqa: ARG002
        """Return no stage."""
        return ()
