"""What a target is: a device, told by the stages that it adds to the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgeconv.options import ConvertOptions
from edgeconv.toolchain.stage import Stage


class Target(Protocol):
    """A device that a model is converted for."""

    @property
    def name(self) -> str:
        """What ``--target`` calls it."""

    def check(self, options: ConvertOptions) -> None:
        """Refuse options that cannot lead to a model for this target.

        Raises:
            UsageError: An option does not fit, for example a float model for an integer device.
        """

    def stages(self, options: ConvertOptions) -> Sequence[Stage]:
        """Return the stages after quantization: rewriting for the device, its compiler."""
