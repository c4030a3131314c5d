"""Sizes that an exported program takes in its open dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeconv.core.input_shapes import Shape, format_shape
from edgeconv.core.wording import named

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

Inputs = Sequence[tuple[str, "torch.Tensor"]]
"""The inputs by name, each with the fake tensor that describes it."""

_TRIES = 4096  # sizes that are looked at before a dimension's lower bound is taken as it is


def advice(program: ExportedProgram, inputs: Inputs, given: Mapping[str, Shape]) -> str:
    """Return an option for every input that needs one, with sizes that the program takes.

    Args:
        program: The program.
        inputs: Its inputs.
        given: Shapes that are settled; dimensions that depend on them follow.
    """
    chosen = _smallest(program, inputs, _solved(program, inputs, given))
    options = []
    for label, value in inputs:
        shape = [
            size if isinstance(size, int) else int(_expression(size).subs(chosen))
            for size in value.shape
        ]
        if any(not isinstance(size, int) for size in value.shape):
            options.append(
                f"{named('input_shapes')} {label}={format_shape(given.get(label, shape))}"
            )
    return " ".join(options)


def limits(program: ExportedProgram, inputs: Inputs) -> str:
    """Return the sizes that each open dimension takes, as text."""
    found = {}
    for expression in _expressions(inputs):
        lower, upper = _range(program, expression)
        factor, _ = expression.as_coeff_Mul()
        steps = f" in multiples of {factor}" if factor != 1 else ""
        end = f"{lower} or more" if upper is None else f"{lower} to {upper}"
        found[str(expression)] = f"{expression} takes {end}{steps}"
    return ", ".join(found.values())


def _expression(size: Any) -> Any:
    """Return the sympy expression of an open dimension."""
    return size.node.expr


def _expressions(inputs: Inputs) -> Iterator[Any]:
    for _, value in inputs:
        yield from (_expression(size) for size in value.shape if not isinstance(size, int))


def _range(program: ExportedProgram, expression: Any) -> tuple[int, int | None]:
    """Return the least size, at least 1, and the largest one, ``None`` where there is none."""
    bounds: Any = program.range_constraints.get(expression)
    if bounds is None:
        return 1, None
    lower = max(1, int(bounds.lower)) if bounds.lower.is_Integer else 1
    return lower, int(bounds.upper) if bounds.upper.is_Integer else None


def _fits(program: ExportedProgram, expression: Any, size: Any) -> bool:
    lower, upper = _range(program, expression)
    return bool(size.is_Integer and size >= lower and (upper is None or size <= upper))


def _solved(program: ExportedProgram, inputs: Inputs, given: Mapping[str, Shape]) -> dict[Any, int]:
    """Return the values of symbols that follow from shapes that are settled."""
    found: dict[Any, int] = {}
    for label, value in inputs:
        for size, chosen in zip(value.shape, given.get(label, ()), strict=False):
            if isinstance(size, int) or len(_expression(size).free_symbols) != 1:
                continue
            expression = _expression(size)
            (symbol,) = expression.free_symbols
            for trial in _trials(program, symbol):
                if expression.subs(symbol, trial) == chosen:
                    found.setdefault(symbol, trial)
                    break
    return found


def _smallest(
    program: ExportedProgram, inputs: Inputs, settled: Mapping[Any, int]
) -> dict[Any, int]:
    """Return for each symbol the least value with which every dimension lies in its range."""
    expressions = list(_expressions(inputs))
    found = dict(settled)
    symbols = {symbol for expression in expressions for symbol in expression.free_symbols}
    for symbol in sorted(symbols - set(found), key=str):
        own = [each for each in expressions if each.free_symbols == {symbol}]
        trials = _trials(program, symbol)
        found[symbol] = next(
            (
                trial
                for trial in trials
                if all(_fits(program, each, each.subs(symbol, trial)) for each in own)
            ),
            trials[0],
        )
    return found


def _trials(program: ExportedProgram, symbol: Any) -> range:
    first, last = _range(program, symbol)
    return range(first, first + _TRIES if last is None else min(last + 1, first + _TRIES))
