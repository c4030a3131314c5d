"""Where a conversion starts: the loaded model, its reference outputs, and the samples it sees."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgeconv.convert.stages import AdoptOnnx, ExportOnnx
from edgeconv.core.arrays import sample_of
from edgeconv.core.artifacts import Array, Arrays, Artifact, Format
from edgeconv.core.errors import ConversionError, UsageError
from edgeconv.core.input_shapes import InputShapes, as_input_shapes
from edgeconv.core.job import Job
from edgeconv.core.sniff import Kind, kind_of
from edgeconv.core.stream import Stream
from edgeconv.metrics.batches import run_in_batches
from edgeconv.sources.remote_torch import RemoteTorch
from edgeconv.sources.samples import Data, data_for
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool
from edgeconv.toolchain.worker.stage import Stage

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edgeconv.convert.torch.model import TorchModel
    from edgeconv.convert.torch.values import TorchValues, Values

__all__ = [
    "Data",
    "OnnxSource",
    "Source",
    "TorchSource",
    "data_for",
    "load",
]

RunArtifact = Callable[[Artifact, Arrays], Arrays]
"""Runs an artifact on samples, both as the source model has them."""

RunStream = Callable[[Artifact, Stream], Arrays]
"""Runs an artifact as a stream of the same samples."""


class Source(Protocol):
    """A loaded model."""

    @property
    def reference(self) -> str:
        """What stages are compared with, ``torch`` or ``onnx``; a stage so named is not checked."""

    @property
    def artifact(self) -> Artifact:
        """What the first stage is given; its inputs are the model's."""

    def first_stage(self) -> Stage:
        """Return the stage that makes the ONNX file."""

    def compute(self, onnx: Artifact, inputs: Arrays, run: RunArtifact) -> Arrays:
        """Return the reference outputs by name, ``[sample, ...]``.

        Args:
            onnx: What the first stage made; it names the outputs.
            inputs: Samples by input name, ``[sample, ...]``.
            run: For a reference that is an artifact.
        """

    def compute_stream(
        self, onnx: Artifact, inputs: Arrays, stream: Stream, run: RunStream
    ) -> Arrays:
        """Return the reference outputs of a stream by name, ``[step, ...]``.

        Args:
            onnx: What the first stage made; it names the outputs.
            inputs: Samples by input name, ``[sample, ...]``.
            stream: How they follow each other.
            run: For a reference that is an artifact.
        """

    def values(self) -> Values | None:
        """Return the values inside the model that was exported, where they can be known."""

    def release(self) -> None:
        """Give back what the model takes; nothing but `artifact` and `reference` is left."""


@dataclass(frozen=True, slots=True)
class TorchSource:
    """A PyTorch model; the reference is the model itself, run in this process."""

    model: TorchModel
    reference: str = "torch"
    exported: list[ExportedProgram] = field(default_factory=list, repr=False)

    @property
    def artifact(self) -> Artifact:
        """The inputs; there is no file that a stage could read."""
        return Artifact(Format.TORCH, Path(self.model.name), tuple(self.model.inputs), ())

    def first_stage(self) -> Stage:
        """Export it."""
        return ExportOnnx(self.model, self.exported.append)

    def release(self) -> None:
        """The caller's module is not ours to give back."""

    def values(self) -> TorchValues | None:
        """Return those of the program that was exported."""
        from edgeconv.convert.torch.values import TorchValues

        return TorchValues(self.model, self.exported[-1]) if self.exported else None

    def compute(
        self,
        onnx: Artifact,
        inputs: Arrays,
        run: RunArtifact,  # noqa: ARG002
    ) -> Arrays:
        """Run each sample.

        Raises:
            ConversionError: The ONNX file has another number of outputs.
        """
        return self.reference_outputs(onnx, inputs)

    def compute_stream(
        self,
        onnx: Artifact,
        inputs: Arrays,
        stream: Stream,
        run: RunStream,  # noqa: ARG002
    ) -> Arrays:
        """Run the model step by step."""
        return self.stream_outputs(onnx, inputs, stream)

    def stream_outputs(self, onnx: Artifact, inputs: Arrays, stream: Stream) -> Arrays:
        """Run the model step by step; the outputs are named as those of the ONNX file are."""
        names = [spec.name for spec in onnx.outputs]
        return stream.run(
            inputs, lambda sample: dict(zip(names, self.model.run(sample), strict=True))
        )

    def reference_outputs(self, onnx: Artifact, inputs: Arrays) -> Arrays:
        """Run each sample; the outputs are named as those of the ONNX file are."""
        return run_in_batches(self.model.inputs, inputs, lambda arrays: self._rows(onnx, arrays))

    def _rows(self, onnx: Artifact, inputs: Arrays) -> Arrays:
        count = len(next(iter(inputs.values())))
        outputs: list[Array] = []
        for index in range(count):
            row = self.model.run(sample_of(inputs, index))
            if len(row) != len(onnx.outputs):
                raise ConversionError(
                    f"the export has {len(onnx.outputs)} outputs",
                    where="onnx",
                    why=f"the model returns {len(row)} tensors",
                )
            outputs = outputs or [np.empty((count, *value.shape), value.dtype) for value in row]
            for spec, output, value in zip(onnx.outputs, outputs, row, strict=True):
                if value.shape != output.shape[1:]:
                    raise ConversionError(
                        f"the shape of output {spec.name} depends on the input",
                        where="onnx",
                        why=f"it is {output.shape[1:]} for one sample, {value.shape} for another",
                    )
                output[index] = value
        names = [spec.name for spec in onnx.outputs]
        return dict(zip(names, outputs, strict=True))


@dataclass(frozen=True, slots=True)
class OnnxSource:
    """An ONNX file; the reference is onnxruntime."""

    artifact: Artifact
    reference: str = "onnx"

    def first_stage(self) -> Stage:
        """Copy it."""
        return AdoptOnnx()

    def compute(self, onnx: Artifact, inputs: Arrays, run: RunArtifact) -> Arrays:
        """Run the file."""
        return run(onnx, inputs)

    def compute_stream(
        self,
        onnx: Artifact,
        inputs: Arrays,  # noqa: ARG002
        stream: Stream,
        run: RunStream,
    ) -> Arrays:
        """Run the file step by step."""
        return run(onnx, stream)

    def values(self) -> None:
        """There is no PyTorch model."""

    def release(self) -> None:
        """Nothing is held."""


def load(job: Job, workers: WorkerPool, *, open_batch: bool) -> Source:
    """Load the job's model; a PyTorch model in a worker, unless this process has PyTorch already.

    Args:
        job: The job.
        workers: The worker that may hold the model.
        open_batch: Whether a batch that the model leaves open stays so; else it becomes 1.

    Raises:
        InvalidModel: It is missing, damaged, or not a model.
        UsageError: More must be said: shapes, a factory, trust.
    """
    if job.source is not None and not job.is_file:
        if job.example_inputs is None:
            raise UsageError(
                "a module needs example inputs",
                hint="edgeconv.convert(module, example_inputs)",
            )
        from edgeconv.convert.torch.model import from_module

        return TorchSource(from_module(job.source, job.example_inputs, job.name))
    shapes = as_input_shapes(job.input_shapes)
    arguments: dict[str, Any] = {
        "source": None if job.source is None else str(job.source),
        "factory": job.factory,
        "trust_pickle": job.trust_pickle,
        "seed": job.options.seed,
        "open_batch": open_batch,
    }
    if _loads_elsewhere(job):
        return RemoteTorch.open(workers, shapes, **arguments)
    if job.source is not None and job.factory is None and kind_of(Path(job.source)) is Kind.ONNX:
        return OnnxSource(open_onnx(workers, Path(job.source), shapes, open_batch=open_batch))
    from edgeconv.convert.torch.load import load_model

    model = load_model(input_shapes=shapes, **arguments)
    return OnnxSource(model) if isinstance(model, Artifact) else TorchSource(model)


def open_onnx(
    workers: WorkerPool, path: Path, shapes: InputShapes, *, open_batch: bool = True
) -> Artifact:
    """Read an ONNX file in a worker; see `edgeconv.convert.onnx.file.open_onnx`."""
    answer = workers.call(
        WorkerKind.ONNXRUNTIME,
        "edgeconv.convert.onnx.process:open_onnx",
        path=str(path),
        shapes=asdict(shapes),
        open_batch=open_batch,
    )
    return Artifact.from_dict(answer)


def _loads_elsewhere(job: Job) -> bool:
    """Tell whether the model gets a process of its own."""
    if "torch" in sys.modules or (job.source is not None and not job.is_file):
        return False
    return job.source is None or kind_of(Path(job.source)) is not Kind.ONNX
