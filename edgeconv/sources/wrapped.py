"""A source around another one, which changes some of what it does."""

from __future__ import annotations

from dataclasses import dataclass

from edgeconv.convert.torch.values import Values
from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.core.stream import Stream
from edgeconv.sources.load import RunArtifact, RunStream, Source
from edgeconv.toolchain.worker.stage import Stage


@dataclass(frozen=True, slots=True)
class WrappedSource:
    """A source that does what another one does, but for what a subclass says.

    Attributes:
        inner: The other one.
    """

    inner: Source

    @property
    def reference(self) -> str:
        """That of the source inside."""
        return self.inner.reference

    @property
    def artifact(self) -> Artifact:
        """That of the source inside."""
        return self.inner.artifact

    def first_stage(self) -> Stage:
        """Return that of the source inside."""
        return self.inner.first_stage()

    def compute(self, onnx: Artifact, inputs: Arrays, run: RunArtifact) -> Arrays:
        """Return what the source inside computes."""
        return self.inner.compute(onnx, inputs, run)

    def compute_stream(
        self, onnx: Artifact, inputs: Arrays, stream: Stream, run: RunStream
    ) -> Arrays:
        """Return what the source inside computes step by step."""
        return self.inner.compute_stream(onnx, inputs, stream, run)

    def values(self) -> Values | None:
        """Return those of the source inside."""
        return self.inner.values()

    def release(self) -> None:
        """Release the source inside."""
        self.inner.release()
