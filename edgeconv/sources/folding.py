"""A source whose model is to take bytes: its reference gets them preprocessed, its stages raw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeconv.convert.onnx.fold_input import fold_input, write_copy
from edgeconv.convert.torch.values import TorchMatch, Values
from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.core.preprocess import Preprocessing, normalised
from edgeconv.core.stream import Stream
from edgeconv.sources.load import RunArtifact, RunStream, Source
from edgeconv.sources.wrapped import WrappedSource
from edgeconv.toolchain.worker.stage import Stage, StageContext


@dataclass(frozen=True, slots=True)
class FoldedSource(WrappedSource):
    """A source whose preprocessing is folded into the model.

    Attributes:
        inner: The model as it is.
        preprocessing: What is folded, by input.
        plain: The ONNX artifact as it was before, where that is the reference, once it is made.
    """

    preprocessing: Mapping[str, Preprocessing]
    plain: list[Artifact] = field(default_factory=list, repr=False)

    def first_stage(self) -> Stage:
        """Make the ONNX file, and fold the preprocessing into it."""
        return _Folding(self.inner.first_stage(), self)

    def compute(self, onnx: Artifact, inputs: Arrays, run: RunArtifact) -> Arrays:
        """Run the model as it is on what the bytes become."""
        before = self.plain[-1] if self.plain else onnx
        return self.inner.compute(before, normalised(inputs, self.preprocessing), run)

    def compute_stream(
        self, onnx: Artifact, inputs: Arrays, stream: Stream, run: RunStream
    ) -> Arrays:
        """Run the model as it is step by step; an ONNX file as it has become."""
        return self.inner.compute_stream(onnx, normalised(inputs, self.preprocessing), stream, run)

    def values(self) -> Values | None:
        """Return those of the model as it is."""
        found = self.inner.values()
        return None if found is None else _Values(found, self.preprocessing)


@dataclass(frozen=True, slots=True)
class _Values:
    """The values inside a model that is fed with what bytes become."""

    inner: Values
    preprocessing: Mapping[str, Preprocessing]

    def match(self, onnx: Path) -> TorchMatch:
        """Return what the ONNX file has of them."""
        return self.inner.match(onnx)

    def record(self, inputs: Arrays, names: Sequence[str], path: Path) -> None:
        """Write some of them for each sample of bytes."""
        self.inner.record(normalised(inputs, self.preprocessing), names, path)


@dataclass(frozen=True, slots=True)
class _Folding:
    """The first stage of a source, and then the folding."""

    inner: Stage
    source: FoldedSource
    name: str = "onnx"

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        """Run the stage, and rewrite its file.

        Raises:
            ConversionError: Some operator cannot take the preprocessing over exactly.
        """
        made = self.inner.run(source, context)
        if self.source.reference == "onnx":
            scratch = context.directory / ".work"
            scratch.mkdir(exist_ok=True)
            self.source.plain.append(write_copy(made, scratch / f"{context.name}_plain.onnx"))
        context.details["notes"] = [
            f"input {name} takes bytes, 0 to 255: (x/255 - {_text(one.mean)}) / {_text(one.std)}, "
            f"by {one.why}, is folded into the layers that read it"
            for name, one in self.source.preprocessing.items()
        ]
        return fold_input(made, self.source.preprocessing)


def _text(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def folded(source: Source, preprocessing: Mapping[str, Preprocessing]) -> Source:
    """Return a source that takes bytes; as it is where nothing is folded."""
    return FoldedSource(source, preprocessing) if preprocessing else source
