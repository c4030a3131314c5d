"""`edgeconv compile`: integer models to models for the Edge TPU, with Google's compiler."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeconv.commands.choice import memory_option
from edgeconv.commands.console import Display, reported, show
from edgeconv.core.options import parse_memory

if TYPE_CHECKING:
    from edgeconv.targets.coral.compiler.compile import CompiledModel

_WIDTH = 80


@click.command("compile")
@click.argument(
    "models",
    metavar="BUNDLE|FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True),
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Directory for the results; made if it is missing.  [default: this one]",
)
@click.option(
    "--compiler-image", metavar="IMAGE", help="Container image that holds edgetpu_compiler."
)
@click.option(
    "--min-runtime-version",
    type=int,
    metavar="N",
    help="Oldest Edge TPU runtime that must run the result, 10 to 14.  [default: the newest]",
)
@click.option(
    "--num-segments",
    type=int,
    default=1,
    metavar="N",
    show_default=True,
    help="Cut one model into segments, for as many Edge TPUs.",
)
@click.option(
    "--intermediate-tensors",
    multiple=True,
    metavar="NAME,...",
    help="Tensors that end the part on the Edge TPU; once for each model, in order.",
)
@click.option(
    "--search-delegate",
    is_flag=True,
    help="Where the compiler fails, cut the model earlier and earlier.",
)
@click.option(
    "--delegate-search-step",
    type=int,
    metavar="N",
    help="Operators that each step of that search leaves out.",
)
@click.option(
    "--multiple-subgraphs",
    is_flag=True,
    help="Map every part that can be mapped, not only the first. Experimental.",
)
@click.option("--bisect", is_flag=True, help="Search the operator that the compiler fails on.")
@click.option(
    "--timeout",
    type=float,
    default=600.0,
    show_default=True,
    help="Seconds that the compiler may take.",
)
@memory_option
@click.option("--json", "as_json", is_flag=True, help="Print the result, or the error, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no warnings on stderr.")
@click.option("-v", "--verbose", is_flag=True, help="Log in detail, with tracebacks.")
def compile_command(
    models: tuple[Path, ...], as_json: bool, quiet: bool, verbose: bool, **values: Any
) -> None:
    """Compile int8 .tflite files, or those of bundles, with Google's edgetpu_compiler.

    Several models are compiled together, so that they share the chip's memory; the first has the
    first claim on it. Each result is checked: its inputs and outputs are the source's, and every
    operator is told to be on the Edge TPU or on the CPU.
    """
    with reported(as_json=as_json, verbose=verbose):
        with Display(quiet=quiet, verbose=verbose) as display:
            display.started("compile")
            found = _compile([_model(path) for path in models], values)
            display.finished("compile")
        if as_json:
            result = {"models": [model.to_dict() for model in found]}
            show(json.dumps(result, indent=2, ensure_ascii=False))
        else:
            show("\n".join(_lines(found)))


def _model(path: Path) -> Path:
    """Return a .tflite file, or the int8 one of a bundle."""
    from edgeconv.core.bundle import open_bundle
    from edgeconv.deployment.model import model_of

    return model_of(open_bundle(path), "coral")[1].path if path.is_dir() else path


def _compile(models: Sequence[Path], values: dict[str, Any]) -> list[CompiledModel]:
    from edgeconv.core.errors import CompilerError, UsageError
    from edgeconv.targets.coral.compiler.bisect import located
    from edgeconv.targets.coral.compiler.compile import compile_models
    from edgeconv.targets.coral.compiler.find import require
    from edgeconv.targets.coral.compiler.options import CompileOptions
    from edgeconv.tflite import file as tflite

    options = CompileOptions(
        min_runtime_version=values["min_runtime_version"],
        num_segments=values["num_segments"],
        search_delegate=values["search_delegate"],
        search_step=values["delegate_search_step"],
        intermediate_tensors=tuple(
            tuple(names.split(",")) for names in values["intermediate_tensors"]
        ),
        multiple_subgraphs=values["multiple_subgraphs"],
        timeout=values["timeout"],
        image=values["compiler_image"],
        memory=parse_memory(values["memory_limit"]),
    )
    if values["bisect"] and (len(models) > 1 or options.num_segments > 1):
        raise UsageError("--bisect takes one model, without segments", hint="leave it out")
    for model in models:
        tflite.load(model)  # what is wrong with it is told before what is missing
    compiler = require(options.image)
    output: Path = values["output"]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            "the directory cannot be made", where=str(output), why=error.strerror or str(error)
        ) from error
    try:
        return compile_models(models, output, options, compiler)
    except CompilerError as error:
        if values["bisect"]:
            raise located(error, models[0], options, compiler) from error
        raise


def _lines(models: Sequence[CompiledModel]) -> Iterator[str]:
    for model in models:
        figures = model.to_dict()
        total = figures["on_edgetpu"] + figures["on_cpu"]
        yield str(model.path)
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
        for fate in model.comparison.surprises:
            yield from _wrapped(
                f"operator {fate.index} ({fate.op}) was predicted on the {fate.predicted} and is "
                f"on the {fate.placement}"
            )


def _wrapped(text: str) -> list[str]:
    indent = " " * 14
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent=indent)
