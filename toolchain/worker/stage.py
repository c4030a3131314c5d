"""What a stage of the pipeline is: something that turns an artifact into the next one.

The pipeline is a list of stages. Whoever adds one implements `Stage` and lists it; nothing else
needs to know of it, as long as `edgeconv.toolchain.runtimes` can run what it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgeconv.core.artifacts import Artifact
from edgeconv.core.options import ConvertOptions
from edgeconv.core.states import State
from edgeconv.toolchain.worker.pool import WorkerPool


def unheard(done: int, total: int) -> None:
    """Take progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class StageContext:
    """What every stage is given beside the artifact.

    Attributes:
        options: The conversion's options.
        workers: The processes that native runtimes run in.
        directory: Where the stage writes its artifact.
        name: The model's name, which the artifact's file name starts with.
        calibration: ``.npz`` of calibration inputs by name, ``[sample, ...]``, in the source
            model's layout; ``None`` where no stage calibrates.
        input_scales: What inputs can hold, by name, as `edgeconv.quantize.params.input_scales` says
            it; ``None`` where the calibration samples are to tell.
        progress: Told (done, total) while the stage runs.
        details: What the manifest shall say of the stage beside its artifact, JSON-ready;
            sentences under ``notes`` are shown in reports too.
        states: The states of the model, once the first stage has made the ONNX file.
    """

    options: ConvertOptions
    workers: WorkerPool
    directory: Path
    name: str
    calibration: Path | None = None
    input_scales: Mapping[str, Mapping[str, Any]] | None = None
    progress: Callable[[int, int], None] = unheard
    details: dict[str, Any] = field(default_factory=dict)
    states: tuple[State, ...] = ()


class Stage(Protocol):
    """One hop of the pipeline."""

    @property
    def name(self) -> str:
        """Name in reports and gates, ``"tflite_int8"``."""

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        """Make the next artifact from the previous stage's.

        Raises:
            ConversionError: The model cannot be expressed.
            WorkerError: A native runtime failed.
        """
