"""Options of the command line, made of what `edgeconv.core.declare` is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgeconv.commands.choice import Choice
from edgeconv.core.declare import OUTPUT, Spec, grouped, specs
from edgeconv.core.gate_files import gates_of, merged
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.core.project_file import ProjectFile, read_project_file, typed


class Grouped(click.Command):
    """A command with the options of a conversion, in groups, behind its own parameters.

    Targets are asked for theirs when the command runs: other commands need not load them.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters and the options."""
        own = super().get_params(ctx)
        return [*own[: len(self.params)], *map(_click_option, _specs()), *own[len(self.params) :]]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under the names of their groups."""
        params = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        shown = {one.name: one.get_help_record(ctx) for one in params}
        groups = {
            name: [shown.pop(spec.name) for spec in every]
            for name, every in grouped(_specs()).items()
        }
        groups[OUTPUT] += shown.values()
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl([record for record in records if record])


def _specs() -> tuple[Spec, ...]:
    from edgeconv.targets.options import every_option

    return (*specs(Job), *every_option())


def _click_option(spec: Spec) -> click.Option:
    names = [spec.name, *filter(None, (spec.about.short,)), spec.flag]
    text = spec.about.help + (" Repeatable." if spec.repeatable else "")
    if spec.switch:
        return click.Option(names, is_flag=True, help=text)
    default = None if spec.about.parse else spec.default
    return click.Option(
        names,
        type=_type(spec),
        multiple=spec.repeatable,
        default=default,
        metavar=spec.about.metavar or None,
        help=text + (f"  [default: {spec.default_text}]" if spec.default_text else ""),
    )


def _type(spec: Spec) -> click.ParamType[Any] | type:
    if spec.choices:
        return Choice(spec.choices)
    if spec.kind is Path:
        return click.Path(path_type=Path)
    return spec.kind if spec.kind in (int, float) else str


def given(ctx: click.Context) -> tuple[dict[str, object], dict[str, object]]:
    """Return the values of the job and those of its options, by name, where they are set.

    The command line wins over the project's file.

    Raises:
        UsageError: The file is damaged, or a value is not understood.
    """
    by_name = {spec.name: spec for spec in _specs()}
    line = {
        name: _parsed(by_name[name], value)
        for name, value in ctx.params.items()
        if name in by_name and ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    from edgeconv.targets.gates import known_gates, require_stages

    gates: Any = line.get("gates", {})
    require_stages(gates)
    file = read_project_file(Path.cwd())
    target = str(line.get("target") or file.values.get("target") or ConvertOptions().target)
    values = {**file.values, **_of_target(file, target), **line}
    if file.path is not None:
        stages = known_gates()
        values["gates"] = merged(gates_of(file.table, file.path, stages), gates)
    job = {spec.name for spec in specs(Job)}
    return (
        {name: value for name, value in values.items() if name in job},
        {name: value for name, value in values.items() if name not in job},
    )


def _of_target(file: ProjectFile, target: str) -> Mapping[str, object]:
    """Return what the file says for a target; the tables of others are checked too."""
    from edgeconv import targets

    found: Mapping[str, object] = {}
    for name, table in file.targets.items():
        known = {spec.name: spec for spec in specs(targets.find(name).options)}
        assert file.path is not None
        checked = typed(table, known, file.path)
        found = checked if name == target else found
    return found


def _parsed(spec: Spec, value: Any) -> object:
    if spec.switch:
        return not spec.default
    return value if spec.about.parse is None else spec.about.parse(value)
