"""Compile models for the Edge TPU, and trust nothing of it that was not looked at.

`compile_model` is what the rest of edgeconv calls.
"""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.core.errors import (
    BadCompilerOutput,
    CompilerCrashed,
    CompilerRefused,
    CompilerTimeout,
    NothingMapped,
    UsageError,
)
from edgeconv.targets.coral.compiler.advice import cause_of
from edgeconv.targets.coral.compiler.check import Comparison, compare
from edgeconv.targets.coral.compiler.find import Compiler, require
from edgeconv.targets.coral.compiler.options import CompileOptions
from edgeconv.targets.coral.compiler.report import ModelReport, Report, parse
from edgeconv.targets.coral.compiler.run import Finished, run, version_of
from edgeconv.targets.coral.placement.package import packages
from edgeconv.tflite import file as tflite

_LAST_LINE = "Compilation failed!"
_SEGFAULT_STATUS = 128 + signal.SIGSEGV


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A model that was compiled, and checked.

    Attributes:
        source: The model that the compiler was given; of a segment, the segment.
        path: The compiled model.
        log: The compiler's log beside it.
        version: The compiler's release; empty where it did not say.
        report: What the compiler says of the model.
        comparison: Where each operator went, and what the custom operators hold.
    """

    source: Path
    path: Path
    log: Path
    version: str
    report: ModelReport
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        comparison = self.comparison
        return {
            "file": self.path.name,
            "log": self.log.name,
            "compiler": self.version,
            "on_edgetpu": comparison.on_edgetpu,
            "on_cpu": len(comparison.fates) - comparison.on_edgetpu,
            "cached_parameter_bytes": sum(p.cached_parameter_bytes for p in comparison.packages),
            "streamed_parameter_bytes": sum(
                p.streamed_parameter_bytes for p in comparison.packages
            ),
            "min_runtime_version": max(p.min_runtime_version for p in comparison.packages),
            "report": self.report.to_dict(),
            "ops": [fate.to_dict() for fate in comparison.fates],
            "surprises": [fate.index for fate in comparison.surprises],
        }


def compile_model(
    model: Path,
    directory: Path,
    options: CompileOptions | None = None,
    compiler: Compiler | None = None,
) -> CompiledModel:
    """Compile one model as a whole.

    Args:
        model: An int8 or uint8 ``.tflite`` file.
        directory: Where ``<model>_edgetpu.tflite`` and ``<model>_edgetpu.log`` go.
        options: The compiler's options.
        compiler: The compiler; found by default.

    Returns:
        The compiled model, its inputs and outputs compared with the source's.

    Raises:
        InvalidModel: The model cannot be read, or is compiled already.
        UsageError: The options do not fit.
        ToolMissing: There is no compiler.
        CompilerError: Nothing usable came out: `CompilerRefused`, `CompilerCrashed`,
            `CompilerTimeout`, `NothingMapped` or `BadCompilerOutput`.
    """
    options = options or CompileOptions()
    if options.num_segments != 1:
        raise UsageError(
            "segments are compiled with compile_models", hint="leave num_segments at 1"
        )
    return compile_models([model], directory, options, compiler)[0]


def compile_models(
    models: Sequence[Path],
    directory: Path,
    options: CompileOptions | None = None,
    compiler: Compiler | None = None,
) -> list[CompiledModel]:
    """Compile models together, so that they share the chip's memory, or one into segments.

    Args:
        models: The models; the first has the first claim on the memory.
        directory: Where the results go; see `compile_model`.
        options: The compiler's options.
        compiler: The compiler; found by default.

    Returns:
        The compiled models in order; of one model with segments, its segments.

    Raises:
        InvalidModel: See `compile_model`; so for the rest.
        UsageError: Two models have one name, or options do not fit the number of models.
        ToolMissing: There is no compiler.
        CompilerError: Nothing usable came out of one of them; then none is kept.
    """
    options = options or CompileOptions()
    options.require_for(len(models))
    names = [_safe_name(model) for model in models]
    if len(set(names)) != len(names):
        raise UsageError("two models have the same name", hint="rename one of them")
    for model in models:
        _require_source(model)
    compiler = compiler or require(options.image)
    with tempfile.TemporaryDirectory(prefix=".edgetpu-", dir=directory) as scratch:
        place = Path(scratch)
        for model, name in zip(models, names, strict=True):
            shutil.copyfile(model, place / f"{name}.tflite")
        arguments = options.arguments([f"{name}.tflite" for name in names], version_of(compiler))
        finished = run(compiler, arguments, place, options.timeout, options.memory)
        report = _require_success(finished, compiler)
        stems = _segments(names[0], options.num_segments) if options.num_segments > 1 else names
        sources = [place / f"{stem}.tflite" for stem in stems]
        checked = [_check(source, report, finished, place) for source in sources]
        return [_move(item, directory, models, options.num_segments) for item in checked]


def _safe_name(model: Path) -> str:
    """Return a file name that no program takes for an option or a list."""
    return re.sub(r"[^\w.+-]", "_", model.stem).lstrip("-.") or "model"


def _segments(name: str, count: int) -> list[str]:
    return [f"{name}_segment_{index}_of_{count}" for index in range(count)]


def _require_source(model: Path) -> None:
    if packages(tflite.load(model), str(model)):
        raise UsageError(
            "the model is compiled already", where=str(model), hint="give the model it was made of"
        )


def _require_success(finished: Finished, compiler: Compiler) -> Report:
    """Return the report of a run that went well.

    Raises:
        CompilerError: It did not.
    """
    report = parse(finished.output)
    if finished.status == 0 and not report.failed:
        return report
    cause = cause_of("\n".join(report.failures) or "")
    said = _telling(report.failures)
    parts = {"where": str(compiler), "details": finished.output}
    if finished.status < 0 or finished.status == _SEGFAULT_STATUS or "Segmentation" in said:
        number = -finished.status if finished.status < 0 else signal.SIGSEGV
        raise CompilerCrashed(
            "the compiler crashed",
            why=_signal_name(number) + (f"; {said}" if said else ""),
            hint=cause.hint,
            **parts,
        )
    if "compilation timeout" in said.lower():
        raise CompilerTimeout(
            "the compiler's own time limit passed", why=cause.why, hint=cause.hint, **parts
        )
    if not report.failures and not report.models:
        raise CompilerCrashed(
            "the compiler ended without a word of the model",
            why=f"exit status {finished.status}",
            hint=cause.hint,
            **parts,
        )
    raise CompilerRefused(
        "the compiler refuses the model",
        why=f"{cause.why} ({said})" if said else cause.why,
        hint=cause.hint,
        **parts,
    )


def _telling(failures: Sequence[str]) -> str:
    """Return the line that says most: the last but for the one that every failure ends with."""
    lines = [line for line in failures if line != _LAST_LINE] or list(failures)
    return lines[-1] if lines else ""


def _signal_name(number: int) -> str:
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


def _check(source: Path, report: Report, finished: Finished, place: Path) -> CompiledModel:
    output = place / f"{source.stem}_edgetpu.tflite"
    log = place / f"{source.stem}_edgetpu.log"
    if not output.is_file() or not source.is_file():
        raise BadCompilerOutput(
            "the compiler said it succeeded, but wrote no model",
            where=output.name,
            why=f"exit status {finished.status}",
            hint="look whether the disk is full; run with --verbose for what it printed",
            details=finished.output,
        )
    if not log.is_file():
        log.write_text(finished.output)
    comparison = compare(source, output)
    mine = next((item for item in report.models if item.output == output.name), ModelReport())
    logged = parse(log.read_text(errors="replace")).models
    if not mine.statuses and logged:
        mine = _with_statuses(mine, logged[0])
    if not comparison.packages:
        raise NothingMapped(
            "the compiler mapped no operator to the Edge TPU",
            where=source.name,
            why="; ".join(f"{row.count} x {row.op}: {row.status}" for row in mine.statuses),
            hint=f"see edgeconv inspect {source.name} --target coral for what to change",
            details=finished.output,
        )
    return CompiledModel(source, output, log, report.version, mine, comparison)


def _with_statuses(report: ModelReport, logged: ModelReport) -> ModelReport:
    values = {name: getattr(report, name) for name in ModelReport.__dataclass_fields__}
    return ModelReport(**{**values, "statuses": logged.statuses})


def _move(
    item: CompiledModel, directory: Path, models: Sequence[Path], segments: int
) -> CompiledModel:
    """Move what was checked to where it is wanted, each file whole or not at all."""
    path, log = (
        item.path.replace(directory / item.path.name),
        item.log.replace(directory / item.log.name),
    )
    if segments > 1:
        source = item.source.replace(directory / item.source.name)
    else:
        source = next(model for model in models if _safe_name(model) == item.source.stem)
    return CompiledModel(source, path, log, item.version, item.report, item.comparison)
