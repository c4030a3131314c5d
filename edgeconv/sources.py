"""Where a conversion starts: the loaded model, its reference outputs, and the samples it sees."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgeconv import targets
from edgeconv.arrays import sample_of
from edgeconv.artifacts import Array, Arrays, Artifact, Format, TensorSpec
from edgeconv.batches import run_in_batches
from edgeconv.convert.shapes import as_input_shapes
from edgeconv.convert.sniff import Kind, kind_of
from edgeconv.errors import ConversionError, UsageError
from edgeconv.job import Job
from edgeconv.options import CALIBRATED_MODES
from edgeconv.quantize.data import Samples, generate_samples, load_samples
from edgeconv.quantize.differences import differences
from edgeconv.quantize.images import Normalisation
from edgeconv.quantize.input_scales import input_scales, stated_ranges
from edgeconv.remote_torch import RemoteTorch
from edgeconv.stages import AdoptOnnx, ExportOnnx
from edgeconv.streaming import Stream
from edgeconv.toolchain.pool import WorkerPool
from edgeconv.toolchain.stage import Stage

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edgeconv.convert.torch_model import TorchModel
    from edgeconv.convert.torch_values import TorchValues, Values

logger = logging.getLogger(__name__)

RunArtifact = Callable[[Artifact, Arrays], Arrays]
"""Runs an artifact on samples, both as the source model has them."""

RunStream = Callable[[Artifact, Stream], Arrays]
"""Runs an artifact as a stream of the same samples."""


# Generated inputs say nothing of real ranges; more of them would only take time.
_GENERATED = 16
# Vectors of a bundle that is not verified: enough to see on a device that it computes.
_UNVERIFIED = 2


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
        from edgeconv.convert.torch_values import TorchValues

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


def load(job: Job, workers: WorkerPool) -> Source:
    """Load the job's model; a PyTorch model in a worker, unless this process has PyTorch already.

    Args:
        job: The job.
        workers: The worker that may hold the model.

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
        from edgeconv.convert.torch_model import from_module

        return TorchSource(from_module(job.source, job.example_inputs, job.name))
    shapes = as_input_shapes(job.input_shapes)
    arguments: dict[str, Any] = {
        "source": None if job.source is None else str(job.source),
        "factory": job.factory,
        "trust_pickle": job.trust_pickle,
        "seed": job.options.seed,
        "open_batch": not targets.find(job.options.target).fixed_shapes,
    }
    if _loads_elsewhere(job):
        return RemoteTorch.open(workers, shapes, **arguments)
    from edgeconv.convert.load import load_model

    model = load_model(input_shapes=shapes, **arguments)
    return OnnxSource(model) if isinstance(model, Artifact) else TorchSource(model)


def _loads_elsewhere(job: Job) -> bool:
    """Tell whether the model gets a process of its own."""
    if "torch" in sys.modules or (job.source is not None and not job.is_file):
        return False
    return job.source is None or kind_of(Path(job.source)) is not Kind.ONNX


@dataclass(frozen=True, slots=True)
class Data:
    """The inputs that a conversion sees.

    Attributes:
        calibration: What ranges are taken from.
        verification: What parity is measured on.
        input_scales: What inputs can hold, as far as it is known, by name; see
            `edgeconv.quantize.input_scales`.
        differences: In what the two differ so much that one of them must be wrong.
    """

    calibration: Samples
    verification: Samples
    input_scales: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    differences: tuple[str, ...] = ()

    @property
    def calibrated(self) -> bool:
        """Whether the calibration inputs were given, not generated."""
        return not self.calibration.generated

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        return {
            "calibration": self.calibration.to_dict(),
            "verification": self.verification.to_dict(),
            "input_scales": self.input_scales,
            "differences": list(self.differences),
        }


def data_for(job: Job, inputs: tuple[TensorSpec, ...]) -> Data:
    """Load or generate the samples.

    Parity is measured on the verification data; without it, on calibration samples that
    calibration does not use, as far as there are any; without both, on generated inputs. Where
    it is not measured, the first few of them do.

    Raises:
        InvalidData: The data does not fit the model's inputs.
        UsageError: The function that yields it cannot be imported, or fails.
    """
    options = job.options
    inputs = tuple(spec.of_one for spec in inputs)
    wanted = options.calibration_samples + options.parity_samples
    few = options.parity_samples if options.verify else min(options.parity_samples, _UNVERIFIED)
    pool = _given(job, "--calibration-data", job.calibration_data, inputs, wanted)
    given = _given(job, "--verify-data", job.verify_data, inputs, options.parity_samples)
    if pool is None:
        calibrates = options.verify or options.quantize != "none"
        count = min(wanted, _GENERATED + options.parity_samples) if calibrates else few
        pool = generate_samples(inputs, count, options.seed)
    calibration, rest = _split(pool, options.calibration_samples, options.parity_samples)
    verification = rest.select(0, few) if given is None else given
    return Data(
        calibration,
        verification,
        _scales(job, inputs, calibration),
        _differences(job, calibration, verification),
    )


def _differences(job: Job, calibration: Samples, verification: Samples) -> tuple[str, ...]:
    """Return in what the data differ, and warn of it, where it decides about the model."""
    generated = calibration.generated and verification.generated
    if job.options.quantize not in CALIBRATED_MODES or not job.options.verify or generated:
        return ()
    found = differences(calibration, verification)
    for text in found:
        logger.warning("%s", text)
    return tuple(found)


def _scales(
    job: Job, inputs: tuple[TensorSpec, ...], calibration: Samples
) -> dict[str, dict[str, Any]]:
    """Return what inputs can hold, where activations become integers."""
    if job.options.quantize not in CALIBRATED_MODES:
        return {}
    found = input_scales(
        inputs,
        calibration.arrays,
        stated_ranges(job.options.input_range, inputs),
        Normalisation.of(job.image_mean, job.image_std),
    )
    return {name: scale.to_dict() for name, scale in found.items()}


def _given(
    job: Job, option: str, source: Any, inputs: tuple[TensorSpec, ...], limit: int
) -> Samples | None:
    if source is None:
        return None
    return load_samples(
        source, inputs, limit=limit, mean=job.image_mean, std=job.image_std, option=option
    )


def _split(pool: Samples, calibration: int, parity: int) -> tuple[Samples, Samples]:
    """Split off samples for parity; calibration keeps up to its number first."""
    used = min(pool.count, calibration)
    first = min(used, max(0, pool.count - parity))
    return pool.select(0, used), pool.select(first, first + parity)
