"""`edgeconv deploy`: run a bundle's model on a device, and compare."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from edgeconv.commands.console import EXIT_GATE, Display, reported, show
from edgeconv.commands.devices import device_of, device_options, run_options

_WIDTH = 80


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--target", metavar="NAME", help="What to run on.  [default: what the bundle was made for]"
)
@device_options
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="[STAGE:]METRIC=VALUE",
    help="Limit that parity must hold, for example tflite_int8:sqnr_db=20. Repeatable.",
)
@click.option(
    "--max-lsb",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Quantization steps that an output may be away from this CPU's.",
)
@click.option(
    "--compiler-image", metavar="IMAGE", help="Container image that holds the target's compiler."
)
@click.option(
    "--export",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a folder that runs on a board without a network, and run nothing there.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Class names to put into that folder.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Also deploy a bundle that was not verified; replace an earlier --export.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result, or the error, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no warnings on stderr.")
@click.option("-v", "--verbose", is_flag=True, help="Log in detail, with tracebacks.")
def deploy(bundle: Path | None, as_json: bool, quiet: bool, verbose: bool, **values: Any) -> None:
    """Run BUNDLE's model on a device, on the bundle's own test vectors, and compare.

    BUNDLE is the newest one of the current directory by default. For a target with a compiler the
    model is compiled first if that has not been done and the compiler is there. Where its device
    cannot run it, the plain model runs on the CPU, and the result says why. Parity is written into
    the bundle.
    """
    with reported(as_json=as_json, verbose=verbose):
        with Display(quiet=quiet, verbose=verbose) as display:
            from edgeconv.core.gate_files import gates_from
            from edgeconv.deployment.run import DeployOptions
            from edgeconv.deployment.run import deploy as run
            from edgeconv.targets.gates import known_gates

            device, probe, where = device_of(values)
            options = DeployOptions(
                target=values["target"],
                run=run_options(values),
                gates=gates_from(values["gates"], Path.cwd(), known_gates()),
                max_lsb=values["max_lsb"],
                force=values["force"],
                image=values["compiler_image"],
                export=values["export"],
                labels=values["labels"],
            )
            found = run(bundle, options, device, where, display, probe)
        if as_json:
            result = {"bundle": str(found.bundle), **found.result}
            show(json.dumps(result, indent=2, ensure_ascii=False))
        else:
            lines = (
                _lines(found.result, found.target.label)
                if "ran_on" in found.result
                else _exported(found.result)
            )
            show("\n".join((*lines, f"bundle   {found.bundle}")))
    if not found.passed:
        raise click.exceptions.Exit(EXIT_GATE)


def _exported(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"export   {result['export']}"
    yield "         copy it to the board, and run there: python3 runner.py"


def _lines(result: Mapping[str, Any], label: str) -> Iterator[str]:
    fallback = result["fallback"]
    name = "the CPU" if result["ran_on"] == "cpu" else label
    instead = f", not {label}" if fallback else ""
    yield f"device   {result['device']} ({result['machine']}, Python {result['python']})"
    yield f"ran on   {name}{instead}, with {result['runtime']}"
    if fallback:
        yield from _wrapped("why", fallback)
        yield from _wrapped("next", result["advice"])
    yield f"latency  {latency(result['latency_ms'])}"
    figures = [f"{item['max']} LSB" for item in result["lsb"]]
    distance = f", {', '.join(figures)} from this machine's CPU" if figures else ""
    yield f"parity   {result['status']}{distance}"
    for reason in result["reasons"]:
        yield from _wrapped("", reason)
    for note in result["notes"]:
        yield from _wrapped("note", note)


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{head:<9}",
        subsequent_indent=" " * 9,
        break_on_hyphens=False,
        break_long_words=False,
    )


def latency(values: Mapping[str, Any]) -> str:
    """Return the latency in words."""
    return (
        f"median {values['median']:.3g} ms, p90 {values['p90']:.3g} ms, "
        f"first run {values['first']:.3g} ms ({values['runs']} runs)"
    )
