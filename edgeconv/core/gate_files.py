"""Gates that a project keeps in a file: ``edgeconv.toml``, or ``pyproject.toml``.

The file is the first one found in a directory or above it. A table ``[gates]``
(``[tool.edgeconv.gates]`` in ``pyproject.toml``) holds limits for every stage, and a table within
it those of one stage::

    [gates]
    cosine = 0.99

    [gates.tflite_int8]
    sqnr = 30
    top1 = 0.99
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from edgeconv.core.errors import UsageError
from edgeconv.core.gates import (
    DEFAULT_GATES,
    EVERY_STAGE,
    SHORT_NAMES,
    Gate,
    Gates,
    check_gate,
    parse_gate,
)
from edgeconv.core.project_file import check_names, find_table


def gates_from(
    options: Iterable[str], directory: Path, stages: Collection[str] = DEFAULT_GATES
) -> dict[str, Gate]:
    """Return the gates of the command line over those of the project's file.

    Args:
        options: What ``--gate`` was given, each ``[STAGE:]METRIC=VALUE``.
        directory: Where to begin looking for the file.
        stages: The stages that may be named.

    Raises:
        UsageError: A gate is not understood, or the file is damaged.
    """
    given: dict[str, Gate] = {}
    for text in options:
        stage, metric, limit = parse_gate(text, stages)
        given.setdefault(stage, {})[metric] = limit
    return merged(read_gates(directory, stages), given)


def merged(*sources: Gates) -> dict[str, Gate]:
    """Return the gates of several sources; later ones win, one for all stages over any earlier."""
    result: dict[str, Gate] = {}
    for gates in sources:
        for metric in gates.get(EVERY_STAGE, {}):
            for earlier in result.values():
                earlier.pop(metric, None)
        for stage, limits in gates.items():
            result.setdefault(stage, {}).update(limits)
    return result


def read_gates(directory: Path, stages: Collection[str] = DEFAULT_GATES) -> dict[str, Gate]:
    """Return the gates of the nearest file in a directory or above it; none where there is none.

    Raises:
        UsageError: The file is damaged, or names an unknown stage or metric.
    """
    found = find_table(directory)
    return {} if found is None else gates_of(*found, stages)


def gates_of(
    content: Mapping[str, Any], path: Path, stages: Collection[str] = DEFAULT_GATES
) -> dict[str, Gate]:
    """Return the gates of a project's table.

    Raises:
        UsageError: It names an unknown option, stage or metric.
    """
    check_names(content, path)
    table = content.get("gates", {})
    if not isinstance(table, dict):
        raise UsageError(
            "the gates must be a table",
            where=str(path),
            hint="write limits under [gates] or [gates.STAGE]",
        )
    return _gates(table, path, stages)


def _gates(table: Mapping[str, Any], path: Path, stages: Collection[str]) -> dict[str, Gate]:
    gates: dict[str, Gate] = {}
    for key, value in table.items():
        stage, limits = (key, value) if isinstance(value, dict) else (EVERY_STAGE, {key: value})
        for name, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, int | float):
                raise UsageError(f"the gate {name} must be a number", where=str(path))
            metric = SHORT_NAMES.get(name, name)
            check_gate(stage, metric, float(limit), stages)
            gates.setdefault(stage, {})[metric] = float(limit)
    return gates
