"""What is said of an option, once: the command line, the file and the documentation read it.

An option is a field of a dataclass. Its name, type and default are the field's; the rest is its
metadata::

    seed: int = option(0, About(RUNNING, "Seed of generated inputs."))

`specs` returns all that is known of a class's options.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from edgeconv.core.errors import UsageError
from edgeconv.core.wording import named

FIRST = "Needed most"
MODEL = "Model"
CALIBRATION = "Calibration"
PRECISION = "Precision"
PORTS = "Inputs and outputs"
VERIFICATION = "Verification"
RUNNING = "Running"
OUTPUT = "Output"
GROUPS = (FIRST, MODEL, CALIBRATION, PRECISION, PORTS, VERIFICATION, RUNNING, OUTPUT)
"""Every group that is not a target's, in the order of help and documentation."""

_KEY = "edgeconv option"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class About:
    """What a field alone does not tell of its option.

    Attributes:
        group: What it is shown under.
        help: One line.
        more: What the documentation says after that.
        flag: What the command line calls it, where that is not its name.
        short: A flag of one letter.
        place: Where it stands in its group; options of one place stand as they are declared.
        metavar: What stands for a value in help.
        shown: The default in words, where the value does not tell.
        parse: Makes the value of the command line's text, or of its texts for a `repeatable` one.
        repeatable: Whether the flag may be given several times.
        in_file: Whether a project's file may set it.
        is_path: Whether texts may name files, which a project's file names from where it is.
        needs: Which target it needs, after "needs"; others then refuse it, else they ignore it.
        why: Why they refuse it.
    """

    group: str
    help: str
    more: str = ""
    flag: str = ""
    short: str = ""
    place: int = 0
    metavar: str = ""
    shown: str = ""
    parse: Callable[[Any], object] | None = None
    repeatable: bool = False
    in_file: bool = True
    is_path: bool = False
    needs: str = ""
    why: str = ""

    @property
    def metadata(self) -> dict[str, About]:
        """The form for `dataclasses.field`."""
        return {_KEY: self}


def option(default: T, about: About) -> T:
    """Return the field of an option, whose type is that of its default."""
    made: T = field(default=default, metadata=about.metadata)
    return made


@dataclass(frozen=True, slots=True)
class Spec:
    """An option.

    Attributes:
        name: Its name in Python.
        kind: The type of a value, or of one of several: a class, or a `Literal`.
        default: Its default.
        about: All else.
        several: Whether it holds a tuple.
    """

    name: str
    kind: Any
    default: object
    about: About
    several: bool = False

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that there are, ``()`` where there are no such."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def switch(self) -> bool:
        """Whether it is on or off."""
        return self.kind is bool

    @property
    def flag(self) -> str:
        """What the command line calls it; a switch that is on by itself has one that is off."""
        negative = "no-" if self.default is True else ""
        return self.about.flag or f"--{negative}{self.name.replace('_', '-')}"

    @property
    def usage(self) -> str:
        """Its flag with what stands for the value."""
        if self.switch:
            return self.flag
        return f"{self.flag} {self.about.metavar or '|'.join(self.choices) or self._metavar}"

    @property
    def _metavar(self) -> str:
        return {int: "N", float: "X", Path: "PATH"}.get(self.kind, "TEXT")

    @property
    def repeatable(self) -> bool:
        """Whether the flag may be given several times."""
        return self.several or self.about.repeatable

    @property
    def default_text(self) -> str:
        """The default in words, ``""`` where there is none worth a word."""
        if self.about.shown or self.switch or not self.default:
            return self.about.shown or ("0" if type(self.default) is int else "")
        value = self.default
        return f"{value:g}" if isinstance(value, float) else str(value)


def specs(options: type[Any]) -> tuple[Spec, ...]:
    """Return the options that are fields of a dataclass, in order."""
    return _specs(cast("Hashable", options))


@cache
def _specs(options: Any) -> tuple[Spec, ...]:
    hints = get_type_hints(options)
    return tuple(
        _spec(item.name, hints[item.name], _default(item), item.metadata[_KEY])
        for item in fields(options)
        if _KEY in item.metadata
    )


def _default(item: Any) -> object:
    return item.default if item.default_factory is MISSING else item.default_factory()


def _spec(name: str, hint: Any, default: object, about: About) -> Spec:
    alone = [one for one in get_args(hint) if one is not NoneType]
    kind = alone[0] if NoneType in get_args(hint) and len(alone) == 1 else hint
    several = get_origin(kind) is tuple and about.parse is None
    return Spec(name, get_args(kind)[0] if several else kind, default, about, several)


def flags(every: Iterable[Spec]) -> dict[str, str]:
    """Return the flags by option, for `edgeconv.core.wording.in_flags`."""
    return {spec.name: spec.flag for spec in every}


def grouped(every: Iterable[Spec]) -> dict[str, list[Spec]]:
    """Return options by group, in the order of help; a target's own groups come before output."""
    found: dict[str, list[Spec]] = {}
    for spec in sorted(every, key=lambda spec: spec.about.place):
        found.setdefault(spec.about.group, []).append(spec)
    own = [name for name in found if name not in GROUPS]
    order = (*GROUPS[:-2], *own, *GROUPS[-2:])
    return {name: found[name] for name in order if name in found}


def described(options: type) -> str:
    """Return the section of a docstring that says what the fields hold."""
    lines = [f"    {spec.name}: {_sentence(spec)}" for spec in specs(options)]
    return "\n".join(["Attributes:", *lines])


def _sentence(spec: Spec) -> str:
    return " ".join(filter(None, (spec.about.help, spec.about.more)))


def rows(every: Iterable[Spec]) -> list[str]:
    """Return a table in Markdown: flag, name in Python and in the file, default, meaning."""
    head = ["| option | Python, file | default | |", "|---|---|---|---|"]
    return head + [
        f"| `{_cell(spec.usage)}` | `{spec.name}` | {_cell(spec.default_text)} "
        f"| {_cell(_sentence(spec))} |"
        for spec in every
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def as_tuples(options: object) -> None:
    """Make tuples of the lists that a frozen dataclass was given.

    Raises:
        UsageError: A list of texts is one text.
    """
    for spec in specs(type(options)):
        if spec.several:
            value: Sequence[str] = getattr(options, spec.name)
            if isinstance(value, str):
                raise UsageError(f"{named(spec.name)} is a list of texts, not one text")
            object.__setattr__(options, spec.name, tuple(value))


def from_table(spec: Spec, value: object) -> object:
    """Return a value that a file gives an option, of the option's own type.

    Raises:
        UsageError: It is of another type.
    """
    if spec.several or (spec.repeatable and isinstance(value, list)):
        right, noun = _is_texts(value), "a list of texts"
    else:
        noun, kinds = _IN_FILES.get(spec.kind, ("a text", (str,)))
        right = type(value) in kinds
    if not right:
        raise UsageError(f"{spec.name} must be {noun}, not {value!r}")
    return [value] if spec.repeatable and isinstance(value, str) else value


_IN_FILES: dict[object, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
