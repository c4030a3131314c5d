"""`edgeconv compile`: finished models to models for a device, with its target's compiler."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeconv.commands.choice import memory_option
from edgeconv.commands.console import Display, reported, show
from edgeconv.core.options import parse_memory

if TYPE_CHECKING:
    from edgeconv.targets.base import Target
    from edgeconv.targets.compiling import CompilerResult, Setting


class CompileCommand(click.Command):
    """The command with the options of every target's compiler, shown under the target's name."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters, and those of the targets."""
        return [*super().get_params(ctx), *(_option(item) for item in _settings().values())]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then each target's."""
        from edgeconv import targets

        own = [param.get_help_record(ctx) for param in super().get_params(ctx)]
        with formatter.section("Options"):
            formatter.write_dl([record for record in own if record is not None])
        for target in targets.every():
            records = [_option(item).get_help_record(ctx) for item in target.settings]
            if records:
                with formatter.section(f"Options of --target {target.name}"):
                    formatter.write_dl([record for record in records if record is not None])


def _settings() -> dict[str, Setting]:
    """Return the settings of every target by name; of one name the first counts."""
    from edgeconv import targets

    found: dict[str, Setting] = {}
    for target in targets.every():
        for setting in target.settings:
            found.setdefault(setting.name, setting)
    return found


def _option(setting: Setting) -> click.Option:
    """Return the option; its value tells whether it was given, so the default is only shown."""
    flag = setting.type is bool
    shown = "" if flag or setting.default is None else f"  [default: {setting.default}]"
    return click.Option(
        [setting.flag, setting.name],
        type=None if flag else setting.type,
        is_flag=flag,
        multiple=setting.repeatable,
        metavar=setting.metavar,
        help=setting.help + shown,
    )


@click.command("compile", cls=CompileCommand)
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
    "--target",
    metavar="NAME",
    help="Whose compiler.  [default: what the bundle was made for, else the first that has one]",
)
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
    """Compile integer .tflite files, or those of bundles, with a target's compiler.

    Several models are compiled together, so that they share the chip's memory; the first has the
    first claim on it. Each result is checked: its inputs and outputs are the source's, and every
    operator is told to be on the device or on the CPU.
    """
    with reported(as_json=as_json, verbose=verbose):
        with Display(quiet=quiet, verbose=verbose) as display:
            display.started("compile")
            found = _compile(models, values)
            display.finished("compile")
        if as_json:
            result = {"models": [model.data for model in found]}
            show(json.dumps(result, indent=2, ensure_ascii=False))
        else:
            show("\n".join(line for model in found for line in (str(model.path), *model.lines)))


def _compile(paths: Sequence[Path], values: dict[str, Any]) -> Sequence[CompilerResult]:
    from edgeconv import targets
    from edgeconv.core.errors import UsageError
    from edgeconv.targets.compiling import CompilerRun
    from edgeconv.tflite import file as tflite

    target = _target(paths, values["target"])
    models = [_model(path, target) for path in paths]
    run = CompilerRun(
        values["timeout"],
        parse_memory(values["memory_limit"]),
        targets.settings_of(target, {name: values[name] for name in _settings()}),
    )
    for model in models:
        tflite.load(model)  # what is wrong with it is told before what is missing
    target.require_compiler(run)
    output: Path = values["output"]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            "the directory cannot be made", where=str(output), why=error.strerror or str(error)
        ) from error
    return target.compile(models, output, run)


def _target(paths: Sequence[Path], name: str | None) -> Target:
    """Return the target that is named, or the one that a bundle was made for."""
    from edgeconv import targets
    from edgeconv.core.bundle import open_bundle

    if name is not None:
        return targets.find(name)
    for path in paths:
        if path.is_dir():
            made_for = targets.find(str(open_bundle(path).manifest["options"]["target"]))
            if made_for.compiles:
                return made_for
    return targets.with_compiler()


def _model(path: Path, target: Target) -> Path:
    """Return a .tflite file, or the one of a bundle that the target compiles."""
    from edgeconv.core.bundle import open_bundle
    from edgeconv.deployment.model import model_of

    return model_of(open_bundle(path), target)[1].path if path.is_dir() else path
