"""What a target is: a device, told by the stages that it adds to the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgeconv.core.artifacts import Artifact
from edgeconv.core.options import ConvertOptions
from edgeconv.quantize.rules.precision import Rule
from edgeconv.toolchain.worker.stage import Stage


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a device will make of a model.

    Attributes:
        notes: Sentences for the report.
        data: The same for the manifest, JSON-ready.
    """

    notes: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)


class Target(Protocol):
    """A device that a model is converted for."""

    @property
    def name(self) -> str:
        """What ``--target`` calls it."""

    @property
    def also_called(self) -> Sequence[str]:
        """What else people call it, for a hint."""

    @property
    def mixed_precision(self) -> bool:
        """Whether an int8 model may have operators with float or 16-bit activations."""

    @property
    def precision_rules(self) -> Sequence[Rule]:
        """Operators that an int8 model for this target has in another precision."""

    @property
    def fixed_shapes(self) -> bool:
        """Whether the device takes models of fixed shapes only; an open batch then becomes 1."""

    def adapt(self, options: ConvertOptions) -> ConvertOptions:
        """Return the options that a conversion for this target uses; log what was changed.

        Raises:
            UsageError: An option cannot lead to a model for this target, for example one that
                asks for float weights on an integer device.
        """

    def float_stages(self, options: ConvertOptions) -> Sequence[Stage]:
        """Return the stages between the float .tflite and quantization: rewrites of the graph."""

    def stages(self, options: ConvertOptions) -> Sequence[Stage]:
        """Return the stages after quantization: rewriting for the device, its compiler."""

    def assess(self, model: Artifact) -> Assessment:
        """Say what the device will make of the last stage's model."""
