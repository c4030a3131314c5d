"""The stage that compiles a model, for targets that have no stage of their own for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeconv.core.artifacts import Artifact
from edgeconv.core.options import ConvertOptions, parse_memory
from edgeconv.targets.compiling import CompilerRun
from edgeconv.toolchain.worker.stage import StageContext

if TYPE_CHECKING:
    from edgeconv.targets.base import Target


@dataclass(frozen=True, slots=True)
class CompileStage:
    """TFLite to the compiled file of a target."""

    target: Target

    @property
    def name(self) -> str:
        """The target's word for its device."""
        return self.target.place

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        """Compile; the manifest says what the compiler says."""
        run = replace(run_of(self.target, context.options), progress=context.progress)
        (made,) = self.target.compile([source.path], context.directory, run)
        context.details["compiled"] = dict(made.data)
        context.details["notes"] = list(made.notes)
        return source.compiled(made.path, self.target.name, self.target.word)


def run_of(target: Target, options: ConvertOptions) -> CompilerRun:
    """Return how the compiler is run in a conversion: with the settings that it has options for."""
    own = options.of(target.options).to_dict()
    given = {item.name: own.get(item.name) for item in target.settings}
    settings = {name: value for name, value in given.items() if value is not None}
    return CompilerRun(options.timeout, parse_memory(options.memory_limit), settings)
