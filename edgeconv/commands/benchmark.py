"""`edgeconv benchmark`: latency and peak memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from edgeconv.commands.choice import choice
from edgeconv.commands.console import Display, reported, show
from edgeconv.commands.devices import device_of, device_options, run_options
from edgeconv.core.options import RuntimeName

_COLUMNS = ("stage", "size", "median ms", "p90 ms", "first ms", "memory", "ran on")


@click.command()
@click.argument("what", metavar="BUNDLE|FILE", type=click.Path(path_type=Path, exists=True))
@device_options
@click.option(
    "--runtime",
    type=choice(RuntimeName),
    help="What runs the model.  [default: litert; on a board what is installed there]",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the inputs of a lone file."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures, or the error, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no warnings on stderr.")
@click.option("-v", "--verbose", is_flag=True, help="Log in detail, with tracebacks.")
def benchmark(what: Path, as_json: bool, quiet: bool, verbose: bool, **values: Any) -> None:
    """Measure a .tflite file, or all .tflite stages of a bundle, on this machine or a board.

    Latency is that of the model alone, in a process of its own; the first run is told apart,
    because it sets up memory and loads parameters. Memory is the peak of that process, runtime
    and Python included.
    """
    with reported(as_json=as_json, verbose=verbose):
        with Display(quiet=quiet, verbose=verbose) as display:
            from edgeconv.deployment.benchmark import benchmark as run

            device, probe, where = device_of(values)
            if values["host"] is not None:
                probe(None)  # one that does not answer is told before anything long is tried
            entries = run(what, run_options(values), device, display, values["seed"])
        if as_json:
            result = {"device": where, "models": entries}
            show(json.dumps(result, indent=2, ensure_ascii=False))
        else:
            show("\n".join(_lines(where, entries)))


def _lines(where: str, entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    from edgeconv import targets
    from edgeconv.reports.words import format_bytes

    first = entries[0]
    yield f"{where}: {first['machine']}, {first['runtime']}, {first['latency_ms']['runs']} runs"
    yield ""
    rows = [_COLUMNS]
    for entry in entries:
        times, memory = entry["latency_ms"], entry["memory_bytes"]
        rows.append(
            (
                entry["stage"],
                format_bytes(entry["bytes"]),
                f"{times['median']:.3f}",
                f"{times['p90']:.3f}",
                f"{times['first']:.3f}",
                "-" if memory is None else format_bytes(memory),
                entry["ran_on"],
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        first_cell, *rest = row
        cells = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join((first_cell.ljust(widths[0]), *cells))
    for entry in entries:
        if entry["fallback"]:
            label = targets.find(entry["compiled_for"]).label
            yield f"\n{entry['stage']} did not run on {label}: {entry['fallback']}"
            yield f"  next: {entry['advice']}"
