"""A PyTorch model in a worker process, which ends when the model is not needed any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeconv.convert.torch.values import TorchMatch
from edgeconv.core.arrays import map_npz, write_npz
from edgeconv.core.artifacts import Arrays, Artifact, TensorSpec
from edgeconv.core.errors import LimitExceeded
from edgeconv.core.input_shapes import InputShapes
from edgeconv.core.scratch import scratch_directory
from edgeconv.core.stream import Stream
from edgeconv.core.wording import named
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool
from edgeconv.toolchain.worker.stage import StageContext


@dataclass(frozen=True, slots=True)
class RemoteTorch:
    """A model that `edgeconv.sources.torch_process` holds; the reference is the model itself.

    Attributes:
        workers: Where it is.
        artifact: Its inputs.
        known: Whether the values inside the model that was exported are known; one entry per
            export.
        reference: What stages are compared with.
        key: Tells models in the same process apart.
    """

    workers: WorkerPool
    artifact: Artifact
    known: list[bool] = field(default_factory=list)
    reference: str = "torch"
    key: str = "model"

    @classmethod
    def open(
        cls, workers: WorkerPool, shapes: InputShapes, key: str = "model", **arguments: Any
    ) -> RemoteTorch:
        """Load a model; the arguments are those of `edgeconv.convert.torch.load.load_model`.

        Raises:
            InvalidModel: The file is missing, damaged, unsafe, or not a model.
            UsageError: An option is missing, wrong, or does not fit the file.
            LimitExceeded: Loading it, and running it once, takes more than it may.
        """
        try:
            answer = _call(workers, key, "open_model", shapes=asdict(shapes), **arguments)
        except LimitExceeded as error:
            raise _too_much(arguments, error) from error
        return cls(workers, Artifact.from_dict(answer), key=key)

    def with_outputs(self) -> Artifact:
        """Return the artifact with the outputs for the example inputs, named by their place."""
        specs = _call(self.workers, self.key, "outputs")
        return replace(self.artifact, outputs=tuple(map(TensorSpec.from_dict, specs)))

    def first_stage(self) -> ExportElsewhere:
        """Export it."""
        return ExportElsewhere(self)

    def compute(self, onnx: Artifact, inputs: Arrays, run: object) -> Arrays:  # noqa: ARG002
        """Run each sample.

        Raises:
            ConversionError: The ONNX file has another number of outputs.
        """
        with _exchange(inputs) as (feeds, results):
            _call(
                self.workers, self.key, "compute", onnx=onnx.to_dict(), feeds=feeds, results=results
            )
            return map_npz(Path(results))

    def compute_stream(
        self,
        onnx: Artifact,
        inputs: Arrays,
        stream: Stream,
        run: object,  # noqa: ARG002
    ) -> Arrays:
        """Run the model step by step."""
        with _exchange(inputs) as (feeds, results):
            _call(
                self.workers,
                self.key,
                "stream",
                onnx=onnx.to_dict(),
                feeds=feeds,
                results=results,
                stream=stream.to_dict(),
            )
            return map_npz(Path(results))

    def values(self) -> RemoteValues | None:
        """Return the values inside the program that was exported."""
        return RemoteValues(self.workers, self.key) if self.known and self.known[-1] else None

    def decomposed_values(self) -> RemoteValues | None:
        """Return the values inside the program that would be exported; ``None`` for none known."""
        self.known.append(_call(self.workers, self.key, "decompose"))
        return self.values()

    def release(self) -> None:
        """End the process that holds the model."""
        self.workers.release(WorkerKind.TORCH)


@dataclass(frozen=True, slots=True)
class ExportElsewhere:
    """PyTorch to ONNX, in the process that holds the model."""

    source: RemoteTorch
    name: str = "onnx"

    def run(self, source: Artifact, context: StageContext) -> Artifact:  # noqa: ARG002
        """Export the model; `source` only names the inputs."""
        path = str(context.directory / f"{context.name}.onnx")
        answer = _call(self.source.workers, self.source.key, "export", path=path)
        self.source.known.append(answer["known"])
        return Artifact.from_dict(answer["artifact"])


@dataclass(frozen=True, slots=True)
class RemoteValues:
    """The values inside the program, as `edgeconv.convert.torch.values.TorchValues` has them."""

    workers: WorkerPool
    key: str

    def match(self, onnx: Path) -> TorchMatch:
        """Return what an ONNX file has of the program's values."""
        answer = _call(self.workers, self.key, "match", onnx=str(onnx))
        shapes = {name: tuple(shape) for name, shape in answer["shapes"].items()}
        return TorchMatch(shapes, tuple((name, op, why) for name, op, why in answer["unmatched"]))

    def record(self, inputs: Arrays, names: Sequence[str], path: Path) -> None:
        """Write values of each sample.

        Raises:
            InvalidData: A sample does not fit the model.
        """
        with _exchange(inputs) as (feeds, _):
            names = list(names)
            _call(self.workers, self.key, "record", feeds=feeds, names=names, results=str(path))


def _too_much(arguments: Mapping[str, Any], error: LimitExceeded) -> LimitExceeded:
    """Return the error with the name of the file."""
    if error.where == arguments["source"]:
        return error
    return LimitExceeded(
        "the model does not load and run once within its limits",
        where=arguments["source"] or f"{named('factory')} {arguments['factory']}",
        why=f"{error.where}: {error.what}" if error.where else error.what,
        hint=error.hint,
        details=error.details,
    )


def _call(workers: WorkerPool, key: str, function: str, **arguments: Any) -> Any:
    return workers.call(
        WorkerKind.TORCH, f"edgeconv.sources.torch_process:{function}", key=key, **arguments
    )


@contextmanager
def _exchange(feeds: Arrays) -> Iterator[tuple[str, str]]:
    """Yield the path of a file with arrays, and one for the answer."""
    with scratch_directory() as folder:
        path = Path(folder) / "feeds.npz"
        write_npz(path, feeds)
        yield str(path), str(path.with_name("results.npz"))
