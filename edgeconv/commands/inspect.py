"""`edgeconv inspect`: what is inside a model file, and where its operators will run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgeconv.commands.choice import memory_option
from edgeconv.commands.console import Display, reported, show
from edgeconv.core.options import parse_memory


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--target",
    metavar="NAME",
    help="Say where each operator of a .tflite will run, and what would change that.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds that each step of reading the file may take.",
)
@memory_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
def inspect(file: Path, target: str | None, as_json: bool, verbose: bool, **values: Any) -> None:
    """Show what is inside FILE: .onnx, SavedModel, .tflite, a compiled file, or a bundle."""
    with reported(as_json=as_json, verbose=verbose):
        from edgeconv.inspection.inspect import Limits
        from edgeconv.inspection.inspect import inspect as inspect_file
        from edgeconv.inspection.text import render

        limits = Limits(values["timeout"], parse_memory(values["memory_limit"]))
        with Display(quiet=False, verbose=verbose):
            found = inspect_file(file, target, limits)
        text = json.dumps(found, indent=2, ensure_ascii=False) if as_json else render(found)
        show(text)
