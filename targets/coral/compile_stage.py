"""The stage that compiles the integer model for the Edge TPU, where there is a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeconv.core.artifacts import Artifact, Format
from edgeconv.core.errors import CompilerError
from edgeconv.core.options import ConvertOptions, parse_memory
from edgeconv.targets.coral.compiler.find import PROGRAM, Compiler, find
from edgeconv.toolchain.worker.stage import StageContext

if TYPE_CHECKING:
    from edgeconv.targets.coral.compiler.options import CompileOptions

STAGE = "edgetpu"


@dataclass(frozen=True, slots=True)
class Compile:
    """int8 TFLite to a TFLite file whose custom operator runs on the Edge TPU."""

    compiler: Compiler
    name: str = STAGE

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        """Compile, and compare with the source and with the prediction."""
        # They read flatbuffers, which the command line's start should not pay for.
        from edgeconv.targets.coral.compiler.bisect import located
        from edgeconv.targets.coral.compiler.compile import compile_model

        options = _options(context.options)
        try:
            model = compile_model(source.path, context.directory, options, self.compiler)
        except CompilerError as error:
            if context.options.bisect:
                raise located(
                    error, source.path, options, self.compiler, context.progress
                ) from error
            raise
        described = model.to_dict()
        context.details["compiled"] = described
        context.details["notes"] = _notes(described, model.comparison.surprises)
        return replace(source, format=Format.EDGETPU, path=model.path)


def stages(options: ConvertOptions) -> Sequence[Compile]:
    """Return the stage, or none where this machine has no compiler.

    Raises:
        UsageError: An option of the compiler, or the variable that names it, is wrong.
        ToolMissing: A container image is asked for, and nothing here runs containers.
    """
    _options(options)
    compiler = find(options.compiler_image)
    return () if compiler is None else (Compile(compiler),)


def _options(options: ConvertOptions) -> CompileOptions:
    from edgeconv.targets.coral.compiler.options import CompileOptions

    return CompileOptions(
        min_runtime_version=options.min_runtime_version,
        search_delegate=options.search_delegate,
        timeout=options.timeout,
        image=options.compiler_image,
        memory=parse_memory(options.memory_limit),
    )


def skipped() -> str:
    """Return the sentence that says why nothing was compiled, and what to do."""
    return (
        f"not compiled: {PROGRAM} is not installed; edgeconv doctor --target coral says how to "
        "get it"
    )


def _notes(described: dict[str, Any], surprises: Sequence[Any]) -> list[str]:
    total = described["on_edgetpu"] + described["on_cpu"]
    compiler = described["compiler"] or "an unknown compiler"
    text = (
        f"compiled by {compiler}: "
        f"{described['on_edgetpu']} of {total} operators run on the Edge TPU, "
        f"{described['cached_parameter_bytes']:,} bytes of parameters stay on the chip, "
        f"{described['streamed_parameter_bytes']:,} are streamed"
    )
    wrong = [
        f"operator {fate.index} ({fate.op}) was predicted on the {fate.predicted} and is on the "
        f"{fate.placement}"
        for fate in surprises
    ]
    return [text, *wrong]
