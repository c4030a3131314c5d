"""`edgeconv verify`: parity again, of a bundle or of any two models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeconv.commands.choice import Choice, choice, memory_option
from edgeconv.commands.console import EXIT_GATE, Display, reported, show
from edgeconv.core.errors import UsageError
from edgeconv.core.gates import TOLERANCE_DB
from edgeconv.core.options import RuntimeName, parse_memory

if TYPE_CHECKING:
    from edgeconv.metrics.report import ParityReport
    from edgeconv.parity.verdict import Verification

_PATH = click.Path(path_type=Path)
_OUT = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


@click.command()
@click.argument("what", metavar="BUNDLE | A B", nargs=-1, required=True, type=_PATH)
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="[STAGE:]METRIC=VALUE",
    help="Limit that parity must hold, for example sqnr=40 or tflite_int8:top1=0.99. Repeatable.",
)
@click.option(
    "--baseline", type=_PATH, help="An earlier parity.json, or bundle: fail where it was better."
)
@click.option(
    "--tolerance",
    type=float,
    default=TOLERANCE_DB,
    show_default=True,
    help="Decibels of SQNR that may be lost against the baseline.",
)
@click.option("--markdown", type=_OUT, metavar="FILE", help="Write a report as Markdown.")
@click.option("--junit", type=_OUT, metavar="FILE", help="Write a report as JUnit XML.")
@click.option("--html", type=_OUT, metavar="FILE", help="Write a report as one web page.")
@click.option(
    "--model-explorer",
    type=_OUT,
    metavar="FILE",
    help="Write the layers' errors as node data for Model Explorer.",
)
@click.option(
    "--update", is_flag=True, help="Put the new parity.json and report.html into the bundle."
)
@click.option(
    "--isolate",
    metavar="[STAGE:]NODE",
    help="Write an ONNX node alone, as a stage has it, its inputs and a script that shows its "
    "error into ./NODE.isolated, instead.",
)
@click.option(
    "--against",
    type=click.Choice(["onnx-tf"]),
    help="BUNDLE: convert its ONNX file with this converter and with our own, and compare what "
    "the two SavedModels compute, instead. It needs: edgeconv toolchain install onnx-tf.",
)
@click.option("--no-layers", is_flag=True, help="Do not measure the error of each layer.")
@click.option(
    "--data",
    metavar="DATA",
    help="A B: inputs to run on. By default the vectors of A's bundle, or B's, or generated ones.",
)
@click.option(
    "--samples", type=int, default=16, show_default=True, help="A B: how many of them at most."
)
@click.option(
    "--layout",
    type=Choice(["nhwc", "nchw", "source"]),
    help="A B: how B stores images, where shapes leave it open; source: as A does.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of generated inputs.")
@click.option(
    "--timeout",
    type=float,
    default=1800.0,
    show_default=True,
    help="Seconds that one call into a native runtime may take.",
)
@memory_option
@click.option(
    "--runtime",
    type=choice(RuntimeName),
    default="litert",
    show_default=True,
    help="BUNDLE: what runs .tflite files.",
)
@click.option("--json", "as_json", is_flag=True, help="Print parity.json, or the error, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no warnings on stderr.")
@click.option("-v", "--verbose", is_flag=True, help="Log in detail, with tracebacks.")
def verify(
    what: tuple[Path, ...], as_json: bool, quiet: bool, verbose: bool, **values: Any
) -> None:
    """Check parity again: of a bundle's stages, or of any two models.

    Everything is computed from the files: a bundle's digests are checked first. A and B are torch
    programs, ONNX files, SavedModels or .tflite files. Limits also come from [gates] in
    edgeconv.toml, or [tool.edgeconv.gates] in pyproject.toml, here or in a directory above.
    """
    with reported(as_json=as_json, verbose=verbose):
        from edgeconv.reports import text as report

        _check_options(what, values)
        with Display(quiet=quiet, verbose=verbose) as display:
            if values["isolate"] is not None:
                text = _isolate(what[0], values, as_json=as_json)
            else:
                found = _bundle(what[0], values, display) if len(what) == 1 else _pair(what, values)
        if values["isolate"] is not None:
            show(text)
            return
        _write_reports(found, what[0], values)
        if as_json:
            show(json.dumps(found.parity.to_dict(), indent=2, ensure_ascii=False))
        else:
            show(report.render_text(found.manifest, found.parity))
    if not found.passed:
        raise click.exceptions.Exit(EXIT_GATE)


def _check_options(what: tuple[Path, ...], values: Mapping[str, Any]) -> None:
    if len(what) > 2:
        raise UsageError("verify takes a bundle, or two models", why=f"{len(what)} are given")
    for option in ("isolate", "update", "model_explorer", "against"):
        if len(what) == 2 and values[option]:
            raise UsageError(f"--{option.replace('_', '-')} is for a bundle, not for two models")
    for option in ("isolate", "update", "model_explorer"):
        if values["against"] and values[option]:
            raise UsageError(f"--{option.replace('_', '-')} and --against exclude each other")


def _isolate(path: Path, values: Mapping[str, Any], *, as_json: bool) -> str:
    from edgeconv.parity.isolate import isolate

    name = re.sub(r"[^\w.+-]", "_", values["isolate"]).lstrip(".") or "node"
    memory = parse_memory(values["memory_limit"])
    place = Path(f"{name}.isolated")
    found = isolate(path, values["isolate"], place, values["timeout"], memory)
    if as_json:
        content = {"directory": str(found.directory), "value": found.value}
        return json.dumps({**content, "stage": found.stage, "sqnr_db": found.sqnr_db})
    return (
        f"{found.value} alone in {found.stage}: {found.sqnr_db:.1f} dB SQNR on one sample\n"
        f"files: {found.directory}\nshow:  cd {found.directory} && python show_error.py"
    )


def _bundle(path: Path, values: Mapping[str, Any], display: Display) -> Verification:
    from edgeconv.core.gate_files import gates_from
    from edgeconv.parity.bundle import VerifyOptions, verify_bundle
    from edgeconv.parity.cross_check import cross_check
    from edgeconv.targets.gates import known_gates

    options = VerifyOptions(
        gates=gates_from(values["gates"], Path.cwd(), known_gates()),
        baseline=values["baseline"],
        tolerance_db=values["tolerance"],
        layers=not values["no_layers"],
        timeout=values["timeout"],
        memory=parse_memory(values["memory_limit"]),
        runtime=values["runtime"],
    )
    if values["against"] is not None:
        return cross_check(path, values["against"], options, display)
    return verify_bundle(path, options, display)


def _pair(what: tuple[Path, ...], values: Mapping[str, Any]) -> Verification:
    from edgeconv.core.gate_files import gates_from
    from edgeconv.parity.pairs import PairOptions, verify_pair
    from edgeconv.targets.gates import known_gates

    options = PairOptions(
        data=values["data"],
        samples=values["samples"],
        layout=values["layout"],
        gates=gates_from(values["gates"], Path.cwd(), known_gates()),
        baseline=values["baseline"],
        tolerance_db=values["tolerance"],
        seed=values["seed"],
        timeout=values["timeout"],
        memory=parse_memory(values["memory_limit"]),
        layers=not values["no_layers"],
    )
    return verify_pair(what[0], what[1], options)


def _write_reports(found: Verification, path: Path, values: Mapping[str, Any]) -> None:
    from edgeconv.reports.bundle import update
    from edgeconv.reports.html import render_html
    from edgeconv.reports.junit import render_junit
    from edgeconv.reports.markdown import render_markdown

    if values["update"]:
        update(path, found.parity, found.vectors[2])
    manifest, parity = found.manifest, found.parity
    reports: dict[str, Callable[[], str]] = {
        "markdown": lambda: render_markdown(manifest, parity),
        "junit": lambda: render_junit(parity),
        "html": lambda: render_html(manifest, parity, *found.vectors),
        "model_explorer": lambda: _node_data(parity, path, values["model_explorer"]),
    }
    for option, render in reports.items():
        if values[option] is not None:
            _write(values[option], render())


def _node_data(parity: ParityReport, bundle: Path, file: Path) -> str:
    """Return the node data of the stage that the file is named after, else of the last one."""
    from edgeconv.parity.layers.tensors import tensor_names
    from edgeconv.reports.model_explorer import render_node_data

    stages = [stage for stage in parity.stages if stage.layers and stage.layers.layers]
    if not stages:
        raise UsageError("there are no layers to show", hint="leave --no-layers out")
    stage = next((item for item in stages if item.stage in file.name), stages[-1])
    data = render_node_data(stage, tensor_names(bundle, stage.stage))
    return json.dumps(data, indent=1)


def _write(path: Path, text: str) -> None:
    """Write a report to a file, or to stdout for ``-``."""
    if str(path) == "-":
        show(text)
        return
    try:
        with click.open_file(str(path), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(
            "the report cannot be written", where=str(path), why=error.strerror or str(error)
        ) from error
