"""`edgeconv inspect`: what is inside a model file, and where its operators will run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgeconv.console import Display, reported


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--target",
    metavar="NAME",
    help="Say where each operator of a .tflite will run, and what would change that.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
def inspect(file: Path, target: str | None, as_json: bool, verbose: bool) -> None:
    """Show what is inside FILE: .onnx, SavedModel, .tflite, _edgetpu.tflite, or a bundle."""
    with reported(as_json=as_json, verbose=verbose), Display(quiet=False, verbose=verbose):
        from edgeconv.inspection.inspect import inspect as inspect_file
        from edgeconv.inspection.text import render

        found = inspect_file(file, target)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        click.echo(render(found))
