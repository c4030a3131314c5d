"""The options of a conversion and those that targets add, as one list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeconv import targets
from edgeconv.core.declare import Spec, specs
from edgeconv.core.errors import UsageError, close_to
from edgeconv.core.options import ConvertOptions
from edgeconv.core.wording import named


def added() -> dict[str, tuple[Spec, ...]]:
    """Return the options that each target adds, by its name."""
    return {target.name: specs(target.options) for target in targets.every()}


def every_option() -> tuple[Spec, ...]:
    """Return every option of a conversion once, those of targets behind the others."""
    own = {spec.name: spec for several in added().values() for spec in several}
    common = specs(ConvertOptions)
    return (*common, *(own[name] for name in own if name not in {one.name for one in common}))


def options_of(values: Mapping[str, object]) -> ConvertOptions:
    """Return the options of a conversion.

    Args:
        values: By name, those of targets among them.

    Raises:
        UsageError: A name or a value is not known, or an option is another target's.
    """
    common = {spec.name for spec in specs(ConvertOptions)}
    # What a dataclass is given is checked by its own code.
    options = ConvertOptions(**{name: values[name] for name in values if name in common})  # type: ignore[arg-type]
    left = {name: value for name, value in values.items() if name not in common}
    if not left:
        return options
    kind = targets.find(options.target).options
    own = {spec.name for spec in specs(kind)}
    for name, value in left.items():
        if name not in own:
            _refuse(name, value, options.target)
    given = {name: value for name, value in left.items() if name in own}
    return replace(options, target_options=kind(**given) if given else None)


def _refuse(name: str, value: object, target: str) -> None:
    """Refuse an option that the target does not have, unless it is as it is by itself."""
    having = {other: spec for other, own in added().items() for spec in own if spec.name == name}
    if not having:
        raise unknown(name)
    spec = next(iter(having.values()))
    if value == spec.default or not spec.about.needs:
        return
    raise UsageError(
        f"{named(name)} needs {spec.about.needs.format(target=target)}",
        why=spec.about.why or f"{named('target')} is {target}",
        hint=f"add {' or '.join(named('target', other) for other in having)}, or leave it out",
    )


def unknown(name: str, where: str = "") -> UsageError:
    """Return the error for a name that no option has."""
    known = [spec.name for spec in every_option()]
    return UsageError(
        f"there is no option {name}",
        where=where,
        hint=close_to(name, known) or "the options are " + ", ".join(known),
    )
