"""Run the compiler as every target's is run, and say what it made."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeconv.core.errors import CompilerError, UsageError
from edgeconv.targets.compiling import CompilerResult, CompilerRun
from edgeconv.targets.coral.compiler.bisect import located
from edgeconv.targets.coral.compiler.compile import CompiledModel, compile_models
from edgeconv.targets.coral.compiler.find import Compiler, require
from edgeconv.targets.coral.compiler.options import CompileOptions

_WIDTH = 80


def options_of(run: CompilerRun) -> CompileOptions:
    """Return the compiler's options.

    Raises:
        UsageError: A setting is wrong.
    """
    given = dict(run.settings)
    return CompileOptions(
        min_runtime_version=given.get("min_runtime_version"),
        num_segments=given.get("num_segments", 1),
        search_delegate=given.get("search_delegate", False),
        search_step=given.get("delegate_search_step"),
        intermediate_tensors=tuple(
            tuple(names.split(",")) for names in given.get("intermediate_tensors", ())
        ),
        multiple_subgraphs=given.get("multiple_subgraphs", False),
        timeout=run.timeout,
        image=given.get("compiler_image"),
        memory=run.memory,
    )


def compile_all(
    models: Sequence[Path], directory: Path, run: CompilerRun, compiler: Compiler | None = None
) -> list[CompilerResult]:
    """Compile models together; where the compiler fails and it is asked for, search the operator.

    Args:
        models: The models.
        directory: Where the results go.
        run: How.
        compiler: The compiler; found by default.

    Raises:
        UsageError: The settings do not fit.
        ToolMissing: There is no compiler.
        CompilerError: Nothing usable came out.
    """
    options, bisect = options_of(run), run.settings.get("bisect", False)
    if bisect and (len(models) > 1 or options.num_segments > 1):
        raise UsageError("--bisect takes one model, without segments", hint="leave it out")
    compiler = compiler or require(options.image)
    try:
        found = compile_models(models, directory, options, compiler)
    except CompilerError as error:
        if bisect:
            raise located(error, models[0], options, compiler, run.progress) from error
        raise
    return [_result(model) for model in found]


def _result(model: CompiledModel) -> CompilerResult:
    data = model.to_dict()
    return CompilerResult(model.path, data, tuple(_lines(model, data)), tuple(_notes(model, data)))


def _lines(model: CompiledModel, figures: dict[str, Any]) -> Iterator[str]:
    total = figures["on_edgetpu"] + figures["on_cpu"]
    yield f"  compiler    {figures['compiler'] or 'unknown'}"
    yield f"  operators   {figures['on_edgetpu']} of {total} on the Edge TPU"
    yield (
        f"  parameters  {figures['cached_parameter_bytes']:,} bytes on the chip, "
        f"{figures['streamed_parameter_bytes']:,} streamed"
    )
    yield f"  runtime     {figures['min_runtime_version']} or later"
    for row in model.report.statuses:
        if not row.mapped:
            yield from _wrapped(f"{row.count} x {row.op} on the CPU: {row.status}")
    for text in _surprises(model):
        yield from _wrapped(text)


def _notes(model: CompiledModel, figures: dict[str, Any]) -> Iterator[str]:
    total = figures["on_edgetpu"] + figures["on_cpu"]
    yield (
        f"compiled by {figures['compiler'] or 'an unknown compiler'}: "
        f"{figures['on_edgetpu']} of {total} operators run on the Edge TPU, "
        f"{figures['cached_parameter_bytes']:,} bytes of parameters stay on the chip, "
        f"{figures['streamed_parameter_bytes']:,} are streamed"
    )
    yield from _surprises(model)


def _surprises(model: CompiledModel) -> Iterator[str]:
    for fate in model.comparison.surprises:
        yield (
            f"operator {fate.index} ({fate.op}) was predicted on the {fate.predicted} and is "
            f"on the {fate.placement}"
        )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent=" " * 14)
