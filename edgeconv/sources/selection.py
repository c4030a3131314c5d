"""A source of which some outputs are wanted, under the names that the user gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgeconv.convert.onnx.select_outputs import chosen_outputs, select_outputs
from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.core.stream import Stream
from edgeconv.sources.load import RunArtifact, RunStream, Source
from edgeconv.sources.wrapped import WrappedSource
from edgeconv.toolchain.worker.stage import Stage, StageContext


@dataclass(frozen=True, slots=True)
class SelectedSource(WrappedSource):
    """A source with the outputs that ``--outputs`` names.

    Attributes:
        inner: The whole model.
        choices: ``NAME`` or ``NAME=NEW``; see `edgeconv.convert.onnx.select_outputs`.
        whole: The whole model's ONNX artifact, its outputs under their new names, once it is made.
    """

    choices: Sequence[str]
    whole: list[Artifact] = field(default_factory=list, repr=False)

    @property
    def artifact(self) -> Artifact:
        """That of the whole model; which outputs it will have is not known yet."""
        return replace(self.inner.artifact, outputs=())

    def first_stage(self) -> Stage:
        """Make the ONNX file, and leave in it what is wanted."""
        return _Selecting(self.inner.first_stage(), self)

    def compute(self, onnx: Artifact, inputs: Arrays, run: RunArtifact) -> Arrays:
        """Return the outputs that are wanted."""
        found = self.inner.compute(self._returned(onnx), inputs, run)
        return {spec.name: found[spec.name] for spec in onnx.outputs}

    def compute_stream(
        self, onnx: Artifact, inputs: Arrays, stream: Stream, run: RunStream
    ) -> Arrays:
        """Return the outputs of a stream that are wanted."""
        found = self.inner.compute_stream(self._returned(onnx), inputs, stream, run)
        return {spec.name: found[spec.name] for spec in onnx.outputs}

    def _returned(self, onnx: Artifact) -> Artifact:
        """Return what the reference returns: the file's outputs, or all that the model has."""
        return onnx if self.reference == "onnx" else self.whole[-1]


@dataclass(frozen=True, slots=True)
class _Selecting:
    """The first stage of a source, and then the choice of outputs."""

    inner: Stage
    source: SelectedSource
    name: str = "onnx"

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        """Run the stage, and rewrite its file.

        Raises:
            UsageError: A name is not that of an output.
        """
        made = self.inner.run(source, context)
        names = chosen_outputs([spec.name for spec in made.outputs], self.source.choices)
        renamed = tuple(
            replace(spec, name=names.get(spec.name, f"{spec.name}_unselected"))
            for spec in made.outputs
        )
        self.source.whole.append(replace(made, outputs=renamed))
        return select_outputs(made.path, names)


def selected(source: Source, choices: Sequence[str]) -> Source:
    """Return a source with the outputs of ``--outputs``; as it is where that is not given."""
    return SelectedSource(source, choices) if choices else source
