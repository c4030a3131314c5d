"""Which function translates which ONNX operator.

A translation is a pure function whose signature is the operator's entry in the ONNX spec: after
the context come the inputs, positional, in the spec's order (optional ones default to None), then
the attributes, keyword-only, with the spec's defaults. `Registry` binds a node to it, so that an
unknown attribute or a missing input is refused in one place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

OpFunction = Callable[..., Any]
_F = TypeVar("_F", bound=OpFunction)
_MARK = "onnx_versions"


class Unsupported(Exception):
    """A translation refuses a node; the translator turns it into an `UnsupportedNode`.

    Args:
        reason: Which part is not supported.
        hint: What to do about it.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        self.reason = reason
        self.hint = hint
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class OpVersion:
    """An operator of a domain, from one opset version on."""

    domain: str
    name: str
    since: int


def op(name: str, *, since: int = 1, domain: str = "") -> Callable[[_F], _F]:
    """Mark a function as the translation of an ONNX operator.

    Args:
        name: Operator type.
        since: First opset version with this signature; it holds up to the next one marked.
        domain: Operator domain; ONNX's own by default.
    """

    def mark(function: _F) -> _F:
        versions = getattr(function, _MARK, ())
        setattr(function, _MARK, (*versions, OpVersion(domain, name, since)))
        return function

    return mark


class Registry:
    """Translations by operator and version.

    Args:
        functions: Functions marked with `op`.

    Raises:
        ValueError: Two functions claim the same operator version.
    """

    def __init__(self, functions: Iterable[OpFunction]) -> None:
        self._functions: dict[tuple[str, str], dict[int, OpFunction]] = {}
        for function in functions:
            for version in getattr(function, _MARK):
                versions = self._functions.setdefault((version.domain, version.name), {})
                if version.since in versions:
                    raise ValueError(f"{version} is registered twice")
                versions[version.since] = function

    @classmethod
    def from_modules(cls, modules: Iterable[ModuleType]) -> Registry:
        """Collect the marked functions that some modules define, alone or in tuples."""
        functions = {
            function: None
            for module in modules
            for value in vars(module).values()
            for function in (value if isinstance(value, tuple) else (value,))
            if hasattr(function, _MARK) and function.__module__ == module.__name__
        }
        return cls(functions)

    def find(self, domain: str, name: str, opset: int) -> OpFunction | None:
        """Return the newest translation that an opset allows, or None."""
        versions = self._functions.get((domain, name), {})
        allowed = [since for since in versions if since <= opset]
        return versions[max(allowed)] if allowed else None

    def names(self) -> tuple[str, ...]:
        """Return the operators of ONNX's own domain that have a translation, sorted."""
        return tuple(sorted(name for domain, name in self._functions if domain == ""))


def bind(
    function: OpFunction, inputs: Sequence[Any], attributes: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Match a node's inputs and attributes with a translation's signature.

    Raises:
        Unsupported: An attribute that the translation does not know, too many inputs, or a
            required input is missing.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    known = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    unknown = sorted(set(attributes) - known)
    if unknown:
        raise Unsupported(f"attribute {', '.join(unknown)} is not supported")
    positional = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    variadic = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    trimmed = list(inputs)
    while trimmed and trimmed[-1] is None:
        trimmed.pop()
    if len(trimmed) > len(positional) and not variadic:
        raise Unsupported(f"{len(trimmed)} inputs where at most {len(positional)} are known")
    for number, parameter in enumerate(positional):
        present = number < len(trimmed) and trimmed[number] is not None
        if parameter.default is inspect.Parameter.empty and not present:
            raise Unsupported(f"input {parameter.name} is missing")
    return trimmed, dict(attributes)
