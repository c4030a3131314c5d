"""How a message names an option: as a parameter in Python, as a flag on the command line.

Whoever writes a message says which option it means, by `named`. The message carries a mark then,
and who shows it says how options are called there: `in_python` is how errors read by themselves,
`in_flags` is for the command line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

Wording = Callable[[str], str]
"""Turns the marks of a text into words."""

OptionValue = bool | int | float | str | Sequence[str] | None
"""What an option may be set to."""

# Private use characters: no message has them by itself.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARK = re.compile(rf"{_OPEN}(\w+)(?:=([^{_OPEN}{_CLOSE}]*))?{_CLOSE}")


def named(option: str, *values: OptionValue) -> str:
    """Return the mark that stands for an option, and for a value that it is set to.

    Args:
        option: Its name in Python.
        values: Nothing, or one value.
    """
    setting = f"={json.dumps(values[0], ensure_ascii=False)}" if values else ""
    return f"{_OPEN}{option}{setting}{_CLOSE}"


def as_it_is(text: str) -> str:
    """Keep the marks: for messages that go to another process."""
    return text


def in_python(text: str) -> str:
    """Name options as parameters: ``quantize="int8"``."""

    def parameter(found: re.Match[str]) -> str:
        if found[2] is None:
            return found[1]
        value = json.loads(found[2])
        return f"{found[1]}={found[2] if isinstance(value, str) else repr(value)}"

    return _MARK.sub(parameter, text)


def in_flags(flags: Mapping[str, str]) -> Wording:
    """Return the wording that names options as flags: ``--quantize int8``.

    Args:
        flags: The flags that are not called like their options, ``{"states": "--state"}``; one for
            an option that is switched off as ``{"verify": "--no-verify"}``.
    """

    def flag(found: re.Match[str]) -> str:
        name = flags.get(found[1], "--" + found[1].replace("_", "-"))
        value = json.loads(found[2]) if found[2] is not None else None
        if value is None or isinstance(value, bool):
            return name
        each = value if isinstance(value, list) else [value]
        return " ".join(f"{name} {one}" for one in each)

    return lambda text: _MARK.sub(flag, text)
