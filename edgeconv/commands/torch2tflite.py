"""`edgeconv torch2tflite`: the whole pipeline, from a PyTorch model to a bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from edgeconv.commands.console import EXIT_GATE, Display, reported, show
from edgeconv.commands.options import Grouped, given
from edgeconv.core.errors import UsageError
from edgeconv.core.job import Job
from edgeconv.core.options import parse_memory
from edgeconv.core.sniff import Kind, kind_of
from edgeconv.sources.workers import worker_pool
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool


@click.command(cls=Grouped)
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest, or the error, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no warnings on stderr.")
@click.option("-v", "--verbose", is_flag=True, help="Log in detail, with tracebacks.")
@click.pass_context
def torch2tflite(
    ctx: click.Context,
    /,
    model: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **_options: object,
) -> None:
    """Convert MODEL to ONNX, SavedModel, TFLite and quantized TFLite, checking parity each time.

    MODEL is a torch.export program (.pt2), a TorchScript archive, a state dict with --model, a
    pickled module with --trust-pickle, or an ONNX file; its content tells which. Any option but
    --trust-pickle may stand in edgeconv.toml, or [tool.edgeconv] in pyproject.toml, too, here or in
    a directory above.
    """
    with reported(as_json=as_json, verbose=verbose):
        with ExitStack() as stack:
            display = stack.enter_context(Display(quiet=quiet, verbose=verbose))
            job = _job(model, *given(ctx))
            memory = parse_memory(job.options.memory_limit)
            workers = stack.enter_context(worker_pool(timeout=job.options.timeout, memory=memory))
            _check_data(job)
            _start(workers, model)
            from edgeconv.pipeline import run as pipeline
            from edgeconv.reports import text as report

            result = pipeline.convert(job, display, workers)
        if as_json:
            show(json.dumps(result.manifest, indent=2, ensure_ascii=False))
        else:
            # Warnings went to stderr, unless that was to be quiet.
            shown: dict[str, Any] = {} if quiet else {"warnings": []}
            show(report.render_text({**result.manifest, **shown}, result.parity))
            if job.options.explain:
                show(report.explain(result.manifest, result.parity))
            show(f"\nbundle: {result.path}\nmodel:  {result.model.path}")
    if not result.passed:
        raise click.exceptions.Exit(EXIT_GATE)


def _check_data(job: Job) -> None:
    """Refuse data that cannot be used before a process loads the model."""
    if job.calibration_data is not None or job.verify_data is not None:
        from edgeconv.sources.samples import check_data

        check_data(job)


def _start(workers: WorkerPool, model: Path | None) -> None:
    """Start what any conversion of such a file needs first; our own imports take time too."""
    try:
        exported = model is not None and kind_of(model) is Kind.ONNX
    except UsageError:
        return
    workers.start(WorkerKind.ONNXRUNTIME if exported else WorkerKind.TORCH, WorkerKind.TENSORFLOW)


def _job(model: Path | None, values: Mapping[str, object], options: Mapping[str, object]) -> Job:
    from edgeconv.targets.options import options_of

    # What the command line and the file give has the types of the fields.
    checked: dict[str, Any] = dict(values)
    return Job(model, options_of(options), command=("edgeconv", *sys.argv[1:]), **checked)
