"""States of a stream: inputs that a model returns, for its next step to take."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeconv.core.artifacts import Array, TensorSpec
from edgeconv.core.errors import UsageError
from edgeconv.core.wording import named

OFF = "none"
"""What ``--state`` says where nothing is to be taken for a state."""

_HINT = (
    f"write it as {named('states')} IN=OUT, or IN=OUT[0:1] for a part of an output; none "
    "for no states"
)


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of an output along one axis."""

    axis: int
    start: int
    stop: int

    def of(self, array: Array) -> Array:
        """Return the slice."""
        return array[(slice(None),) * self.axis + (slice(self.start, self.stop),)]

    def __str__(self) -> str:
        return "[" + ":," * self.axis + f"{self.start}:{self.stop}]"


@dataclass(frozen=True, slots=True)
class State:
    """An input that an output, or a part of one, is fed to in the next step.

    Attributes:
        input: Name of the input.
        output: Name of the output.
        why: What says so.
        part: The part of the output, in the source model's axis order; ``None`` for all of it.
    """

    input: str
    output: str
    why: str
    part: Part | None = None

    @property
    def source(self) -> str:
        """The output, and which part of it."""
        return f"{self.output}{self.part or ''}"

    def of(self, array: Array, shape: Sequence[int]) -> Array:
        """Return what an output, as the source model has it, makes of the input of a shape."""
        return (array if self.part is None else self.part.of(array)).reshape(shape)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        data = {"input": self.input, "output": self.output, "why": self.why}
        part = self.part
        if part is None:
            return data
        return {**data, "part": {"axis": part.axis, "start": part.start, "stop": part.stop}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> State:
        """Rebuild a state from the manifest's form."""
        part = Part(**data["part"]) if data.get("part") else None
        return cls(data["input"], data["output"], data["why"], part)


def parse_states(texts: Iterable[str]) -> tuple[State, ...] | None:
    """Return the states that ``--state`` names; ``None`` where they are to be found.

    Raises:
        UsageError: A text is not understood, or two name the same input.
    """
    texts = tuple(texts)
    if not texts:
        return None
    if OFF in texts:
        if len(texts) > 1:
            raise UsageError(f"{named('states')} none does not go with other states", hint=_HINT)
        return ()
    found = tuple(map(_parsed, texts))
    names = [state.input for state in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{named('states')} names the input {name} twice", hint=_HINT)
    return found


def check_states(
    states: Iterable[State], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    """Require states that were named to be ones that the model can have.

    Raises:
        UsageError: An input or output has another name, shape or dtype.
    """
    for state in states:
        source = _spec("output", state.output, outputs)
        target = _spec("input", state.input, inputs)
        if source.dtype != target.dtype:
            raise _misfit(state, f"they are {source.dtype} and {target.dtype}")
        shape = source.source_shape
        if state.part is not None:
            shape = _part_shape(state, shape)
        if not fits(target.source_shape, shape, exactly=state.part is None):
            raise _misfit(state, f"their shapes are {list(shape)} and {list(target.source_shape)}")


def _parsed(text: str) -> State:
    found = re.fullmatch(r"([^=]+)=([^\[\]]+)(?:\[((?::,)*)(\d+)(?::(\d+))?\])?", text.strip())
    if found is None:
        raise UsageError(f"{named('states')} {text} is not understood", hint=_HINT)
    given, output, axes, start, stop = found.groups()
    if start is None:
        return State(given, output, "--state")
    part = Part(axes.count(","), int(start), int(start) + 1 if stop is None else int(stop))
    if part.stop <= part.start:
        raise UsageError(f"{named('states')} {text} names a part without elements", hint=_HINT)
    return State(given, output, "--state", part)


def _spec(kind: str, name: str, specs: Sequence[TensorSpec]) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    raise UsageError(
        f"{named('states')} names the {kind} {name}, which the model does not have",
        why=f"its {kind}s are {', '.join(spec.name for spec in specs)}",
        hint=_HINT,
    )


def _misfit(state: State, why: str) -> UsageError:
    return UsageError(
        f"{named('states')} {state.input}={state.source}: these do not fit each other",
        why=why,
        hint=_HINT,
    )


def _part_shape(state: State, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    part = state.part
    assert part is not None
    size = shape[part.axis] if part.axis < len(shape) else 0
    if size is None or part.stop > size:
        raise _misfit(state, f"the output is {list(shape)}")
    return (*shape[: part.axis], part.stop - part.start, *shape[part.axis + 1 :])


def fits(first: tuple[int | None, ...], second: tuple[int | None, ...], *, exactly: bool) -> bool:
    """Tell whether an array of one shape can be fed to the other, which open sizes allow.

    Args:
        first: One shape.
        second: The other.
        exactly: Whether they must be alike; else the number of elements decides.
    """
    one, other = (tuple(1 if size is None else size for size in shape) for shape in (first, second))
    if not exactly:
        return int(np.prod(one)) == int(np.prod(other))
    return len(first) == len(second) and all(
        None in (a, b) or a == b for a, b in zip(first, second, strict=True)
    )


def unroll(
    states: Sequence[State],
    inputs: Mapping[str, Array],
    steps: int,
    step: Callable[[dict[str, Array]], dict[str, Array]],
    feed: Callable[[State, dict[str, Array], Array], Array] | None = None,
    enough: Callable[[int], bool] | None = None,
) -> dict[str, Array]:
    """Run a model as a stream: each step takes the states that the step before it returned.

    Args:
        states: The states; the first step takes those of the first sample.
        inputs: Samples by input name, ``[sample, ...]``; after the last one comes the first.
        steps: How many steps to run.
        step: Runs one sample by input name, and returns the outputs by name.
        feed: Takes a state, the outputs, and what the state was, and returns what it is next; by
            default as `State.of` does.
        enough: Tells before a step, by its number, whether to end there.

    Returns:
        The outputs by name, ``[step, ...]``.
    """
    count = len(next(iter(inputs.values())))
    carried: dict[str, Array] = {}
    found: dict[str, Array] = {}
    for number in range(steps):
        if enough is not None and number and enough(number):
            return {name: array[:number] for name, array in found.items()}
        sample = {name: array[number % count, ...] for name, array in inputs.items()} | carried
        outputs = step(sample)
        for name, array in outputs.items():
            if not number:
                found[name] = np.empty((steps, *np.shape(array)), np.asarray(array).dtype)
            found[name][number] = array
        carried = {
            state.input: (feed or _fed)(state, outputs, sample[state.input]) for state in states
        }
    return found


def _fed(state: State, outputs: dict[str, Array], before: Array) -> Array:
    return state.of(outputs[state.output], before.shape)
