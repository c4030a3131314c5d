"""The stage that compiles the integer model for the Edge TPU, where there is a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeconv.core.artifacts import Artifact
from edgeconv.core.options import ConvertOptions, parse_memory
from edgeconv.targets.compiling import CompilerRun
from edgeconv.targets.coral.compiler.find import PROGRAM, Compiler, find
from edgeconv.targets.coral.options import CoralOptions
from edgeconv.toolchain.worker.stage import StageContext

TARGET = "coral"
STAGE = "edgetpu"


@dataclass(frozen=True, slots=True)
class Compile:
    """int8 TFLite to a TFLite file whose custom operator runs on the Edge TPU."""

    compiler: Compiler
    name: str = STAGE

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        """Compile, and compare with the source and with the prediction."""
        # It reads flatbuffers, which the command line's start should not pay for.
        from edgeconv.targets.coral.compiler.service import compile_all

        run = replace(_run(context.options), progress=context.progress)
        (made,) = compile_all([source.path], context.directory, run, self.compiler)
        context.details["compiled"] = dict(made.data)
        context.details["notes"] = list(made.notes)
        return source.compiled(made.path, TARGET, STAGE)


def stages(options: ConvertOptions) -> Sequence[Compile]:
    """Return the stage, or none where this machine has no compiler.

    Raises:
        UsageError: An option of the compiler, or the variable that names it, is wrong.
        ToolMissing: A container image is asked for, and nothing here runs containers.
    """
    from edgeconv.targets.coral.compiler.service import options_of

    options_of(_run(options))
    compiler = find(options.of(CoralOptions).compiler_image)
    return () if compiler is None else (Compile(compiler),)


def _run(options: ConvertOptions) -> CompilerRun:
    own = options.of(CoralOptions)
    settings = {
        "min_runtime_version": own.min_runtime_version,
        "search_delegate": own.search_delegate,
        "compiler_image": own.compiler_image,
        "bisect": own.bisect,
    }
    return CompilerRun(options.timeout, parse_memory(options.memory_limit), settings)


def skipped() -> str:
    """Return the sentence that says why nothing was compiled, and what to do."""
    return (
        f"not compiled: {PROGRAM} is not installed; edgeconv doctor --target coral says how to "
        "get it"
    )
