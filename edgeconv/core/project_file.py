"""The file of a project: ``edgeconv.toml``, or ``[tool.edgeconv]`` in ``pyproject.toml``.

The file is the first one found in a directory or above it. It sets any option of a conversion but
those that let others run code; paths in it start where it lies. A target's options are in a table
of its name below ``targets``, and count for that target::

    quantize = "int8"
    calibration-data = "samples.npz"

    [gates.tflite_int8]
    sqnr = 30

    [targets.NAME]
    cut = ["auto"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.core.declare import Spec, from_table, specs
from edgeconv.core.errors import UsageError, close_to, meant
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions

OWN_FILE = "edgeconv.toml"
PROJECT_FILE = "pyproject.toml"
TARGETS = "targets"


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """What a project's file says, its names in Python's form.

    Attributes:
        path: The file.
        values: Values of options, of their types; ``gates`` is not among them.
        targets: The tables of targets, unchecked, by the target's name.
        table: All that the file says.
    """

    path: Path | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    targets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    table: Mapping[str, Any] = field(default_factory=dict)


def read_project_file(directory: Path) -> ProjectFile:
    """Return what the nearest file in a directory or above it says.

    Raises:
        UsageError: The file is damaged, an option is not known, or its value is of another type.
    """
    found = find_table(directory)
    if found is None:
        return ProjectFile()
    table, path = found
    check_names(table, path)
    tables = table.get(TARGETS, {})
    if not isinstance(tables, dict) or not all(isinstance(one, dict) for one in tables.values()):
        raise UsageError(
            "targets must hold tables",
            where=str(path),
            hint=f"write a target's options under [{TARGETS}.NAME]",
        )
    values = {key: value for key, value in table.items() if key not in (TARGETS, "gates")}
    return ProjectFile(path, typed(values, _options(), path), tables, table)


def check_names(table: Mapping[str, Any], path: Path) -> None:
    """Refuse names that a file cannot set.

    Raises:
        UsageError: One is not known, or only whoever makes the call may say so.
    """
    known = _options()
    for key in table:
        spec = known.get(_python(key))
        if spec is not None and not spec.about.in_file:
            raise UsageError(
                f"{key} cannot be set in a file",
                where=str(path),
                hint=f"give {spec.flag} with each call that needs it",
            )
        if spec is None and key != TARGETS:
            hint = close_to(_python(key), [*known, TARGETS])
            raise UsageError(
                f"there is no option {key}",
                where=str(path),
                hint=hint or f"a target's options go under [{TARGETS}.NAME], limits under [gates]",
            )


def typed(values: Mapping[str, object], known: Mapping[str, Spec], path: Path) -> dict[str, object]:
    """Return the values of a table, with names in Python's form and paths from where it lies.

    Raises:
        UsageError: A name is not among those known, or its value is of another type.
    """
    found: dict[str, object] = {}
    for key, value in values.items():
        spec = known.get(_python(key))
        if spec is None:
            raise UsageError(
                f"there is no option {key}", where=str(path), hint=meant(_python(key), known)
            )
        try:
            given = from_table(spec, value)
        except UsageError as error:
            raise UsageError(error.what, where=str(path)) from error
        if spec.about.is_path and isinstance(given, str):
            given = _from(path.parent, given, spec)
        parse = spec.about.parse
        found[spec.name] = given if parse is None else parse(given)
    return found


def _from(folder: Path, text: str, spec: Spec) -> str | Path:
    """Return a path from a folder; ``module:function`` stays what it is."""
    if spec.kind is Path:
        return folder / text
    return str(folder / text) if (folder / text).exists() else text


def _options() -> dict[str, Spec]:
    return {spec.name: spec for spec in (*specs(Job), *specs(ConvertOptions))}


def _python(key: str) -> str:
    return key.replace("-", "_")


def find_table(directory: Path) -> tuple[Mapping[str, Any], Path] | None:
    """Return what the nearest file says of edgeconv, and the file; ``None`` where there is none.

    Raises:
        UsageError: The file is damaged.
    """
    for place in (directory.resolve(), *directory.resolve().parents):
        for name in (OWN_FILE, PROJECT_FILE):
            path = place / name
            table = _table(path) if path.is_file() else None
            if table is not None:
                return table, path
    return None


def _table(path: Path) -> Mapping[str, Any] | None:
    """Return the table of edgeconv; ``None`` where the file does not speak of it."""
    try:
        content: Any = tomllib.loads(path.read_text())
    except RecursionError as error:
        why = "its values are nested too deeply"
        raise UsageError("cannot read this file", where=str(path), why=why) from error
    except (OSError, ValueError) as error:
        raise UsageError("cannot read this file", where=str(path), why=str(error)) from error
    if path.name == PROJECT_FILE:
        tools = content.get("tool")
        content = tools.get("edgeconv") if isinstance(tools, dict) else None
        if content is None:
            return None
    if not isinstance(content, dict):
        raise UsageError("the file has no table of edgeconv", where=str(path))
    table: Mapping[str, Any] = content
    return table
