"""The devices that a model can be converted for: a module or folder each, which offers ``TARGET``.

Other packages add theirs by an entry point of the group ``edgeconv.targets``, whose name is the
target's and whose object is a `edgeconv.targets.base.Target`, or a class that makes one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from edgeconv.core.artifacts import Artifact, Format
from edgeconv.core.errors import UsageError, meant
from edgeconv.core.wording import named
from edgeconv.targets.base import Target

GROUP = "edgeconv.targets"
"""The group of entry points by which other packages add targets."""

DEFAULT = "cpu"
"""The target that needs no device."""

_LOG = logging.getLogger(__name__)


def names() -> list[str]:
    """Return the name of every target, the default's first."""
    return sorted({*_own(), *_others()}, key=lambda name: (name != DEFAULT, name))


def find(name: str) -> Target:
    """Return the target of that name.

    Raises:
        UsageError: There is none, or the package that has it is broken.
    """
    own = _own()
    if name in own:
        return own[name]
    others = _others()
    if name in others:
        return _loaded(others[name])
    known = {other: target.name for target in own.values() for other in target.also_called}
    hint = f"did you mean {known[name]}?" if name in known else meant(name, names())
    raise UsageError(f"{named('target')} {name} is not known", hint=hint)


def every() -> Iterator[Target]:
    """Yield every target; one whose package is broken is left out, with a word in the log."""
    yield from _own().values()
    for name, point in sorted(_others().items()):
        try:
            yield _loaded(point)
        except UsageError as error:
            _LOG.debug("--target %s is left out: %s", name, error)


def of(artifact: Artifact) -> Target:
    """Return the target that a compiled artifact is for.

    Raises:
        UsageError: It is not installed here.
    """
    known = {target.word: target.name for target in every()}
    name = artifact.target or known.get(artifact.word, artifact.word)
    if name not in names():
        raise UsageError(
            f"the model is compiled for {name}, a target that is not installed here",
            where=str(artifact.path),
            hint="install the package that has it",
        )
    return find(name)


def is_for(artifact: Artifact, target: Target) -> bool:
    """Tell whether an artifact is compiled for a target."""
    if artifact.format is not Format.COMPILED:
        return False
    if artifact.target:
        return artifact.target == target.name
    return artifact.word == target.word


def compiled_for(path: Path) -> Target | None:
    """Return the target that a file is compiled for; ``None`` where it is for none."""
    return next((target for target in every() if target.describe(path) is not None), None)


def with_compiler() -> Target:
    """Return the target that models are compiled for where none is named."""
    return next(target for target in every() if target.compiles)


def settings_of(target: Target, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a target's own settings that are given.

    Args:
        target: The target.
        values: Values by name; ``None``, ``False`` and ``()`` are not given.

    Raises:
        UsageError: The target has no such setting.
    """
    own = [setting.name for setting in target.settings]
    given = {name: value for name, value in values.items() if value not in (None, False, ())}
    unknown = [name for name in given if name not in own]
    if unknown:
        raise UsageError(
            f"--{unknown[0].replace('_', '-')} is no option of --target {target.name}",
            hint="leave it out, or name another --target",
        )
    return given


@cache
def _own() -> dict[str, Target]:
    """Return the targets below this package by name."""
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    found = [module.TARGET for module in modules if hasattr(module, "TARGET")]
    return {target.name: target for target in found}


def _others() -> dict[str, EntryPoint]:
    """Return the entry points of other packages by the name of their target."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in _own()}


def _loaded(point: EntryPoint) -> Target:
    try:
        found = point.load()
        target: Target = found() if isinstance(found, type) else found
    except Exception as error:
        package = point.dist.name if point.dist else point.value
        raise UsageError(
            f"{named('target')} {point.name} cannot be loaded",
            where=package,
            why=f"{type(error).__name__}: {error}",
            hint="mend or uninstall that package",
        ) from error
    if target.name != point.name:
        raise UsageError(
            f"{named('target')} {point.name} cannot be loaded",
            where=point.value,
            why=f"the target calls itself {target.name}",
            hint="give the entry point and the target the same name",
        )
    return target
