"""Which inputs of a model are states.

A wrong state makes parity feed a model what it was not made for, a missed one only leaves the
stream unmeasured; so an input is a state where several things say so. Its name and the output's
are one but for what marks the ends (``h_in`` and ``h_out``, ``past_key`` and ``present_key``), and
the name means a state. Or a recurrent layer of the graph begins with the input and ends with the
output. Or the input's name means a state, and one output alone can be what becomes of it.
Images that come out as images are none of these, and what has no other input is no stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from edgeconv.core.artifacts import TensorSpec
from edgeconv.core.states import Part, State, fits

_ENTERS = frozenset(
    ("in", "input", "inputs", "i", "prev", "previous", "past", "old", "last", "init", "initial")
)
_LEAVES = frozenset(
    ("out", "output", "outputs", "o", "next", "nxt", "new", "present", "updated", "n", "r", "ret")
)
_IN_TIME = frozenset(("prev", "previous", "past", "next", "nxt", "present", "updated"))
_STATES = frozenset(
    (
        "state", "states", "hidden", "hiddens", "h", "c", "hx", "cx", "hs", "cs", "cell", "cells",
        "cache", "caches", "mem", "memory", "memories", "buffer", "buffers", "buf", "past", "kv",
        "rnn", "gru", "lstm", "carry", "history", "hist", "ring", "fifo", "delay",
    )
)  # fmt: skip
# What transformers call their activations and what they attend to; of itself it is no state.
_AMBIGUOUS = frozenset(("hidden states", "encoder hidden states", "memory"))
_RESULTS = frozenset(
    (
        "y", "logits", "prob", "probs", "score", "scores", "mask", "masks", "pred", "prediction",
        "predictions", "class", "classes", "boxes", "label", "labels", "audio", "image", "wav",
        "enhanced", "embedding", "embeddings", "features",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Link:
    """A way through a graph that looks like that of a state.

    Attributes:
        input: Name of the input.
        output: Name of the output.
        part: The part of the output that it leads to.
        how: What the way is, in words.
        sure: Whether none but states have such a way.
    """

    input: str
    output: str
    part: Part | None
    how: str
    sure: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a graph says of its states.

    Attributes:
        links: Ways from inputs to outputs.
        depends: The inputs that each output depends on.
    """

    links: tuple[Link, ...] = ()
    depends: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def reaches(self, source: str, output: str) -> bool:
        """Tell whether an output may depend on an input."""
        return source in self.depends.get(output, (source,))


def means_state(name: str) -> bool:
    """Tell whether an input's name alone says that it is a state, as ``h``, ``conv_cache`` do."""
    words = _words(name)
    return bool(_STATES & set(words)) and " ".join(words) not in _AMBIGUOUS


def find_states(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], evidence: Evidence | None = None
) -> tuple[State, ...]:
    """Return the states of a model, in the order of its inputs.

    Args:
        inputs: The model's inputs.
        outputs: Its outputs.
        evidence: What its graph says, where that is known.
    """
    search = _Search(inputs, outputs, evidence or Evidence())
    search.linked()
    search.named()
    search.left()
    found = search.found
    if len(found) == len(inputs):
        return ()
    return tuple(found[spec.name] for spec in inputs if spec.name in found)


def _words(name: str) -> list[str]:
    """Return the words and numbers of a name; ``hn`` and ``h0`` are two."""
    name = re.sub(r"past_key_values?", "past", name)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    words: list[str] = []
    for word in re.findall(r"[A-Za-z]+|\d+", name):
        lower = word.lower()
        words += ["h", "n"] if lower == "hn" else ["c", "n"] if lower == "cn" else [lower]
    return words


def _stems(words: Sequence[str], marks: frozenset[str]) -> dict[tuple[str, ...], frozenset[str]]:
    """Return what is left of a name without its marks, and which those were.

    Single letters mark an end at the ends of a name only.
    """
    found: dict[tuple[str, ...], frozenset[str]] = {tuple(words): frozenset()}
    places = [
        place
        for place, word in enumerate(words)
        if word in marks and (len(word) > 1 or place in (0, len(words) - 1))
    ]
    if places:
        stem = tuple(word for place, word in enumerate(words) if place not in places)
        found[stem] = frozenset(words[place] for place in places)
    return found


def _named_alike(source: str, output: str) -> frozenset[str] | None:
    """Return the words of both names and their marks, where they are one but for marks."""
    enters, leaves = _stems(_words(source), _ENTERS), _stems(_words(output), _LEAVES)
    if "n" in _words(output)[-1:]:  # h_0 becomes h_n
        enters |= {stem[:-1]: frozenset(("0",)) for stem in [*enters] if stem[-1:] == ("0",)}
    for (stem, before), (other, after) in product(enters.items(), leaves.items()):
        if stem and stem == other and (before or after):
            return frozenset(stem) | before | after
    return None


class _Search:
    """Takes one input after the other for a state, the surest ones first."""

    def __init__(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], evidence: Evidence
    ) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self._evidence = evidence
        self.found: dict[str, State] = {}

    def linked(self) -> None:
        """Take those that recurrent layers begin and end with."""
        for link in self._evidence.links:
            if link.sure:
                self._take(link.input, link.output, link.how, link.part)

    def named(self) -> None:
        """Take those whose names are a pair, and mean states."""
        for source, output in product(self._open_inputs(), self._outputs):
            words = _named_alike(source.name, output.name)
            if words is None or not words & (_STATES | _IN_TIME):
                continue
            if self._may(source, output):
                self._take(source.name, output.name, f"named {source.name} and {output.name}")

    def left(self) -> None:
        """Take those whose names mean states, and that one output alone can be."""
        while True:
            before = len(self.found)
            for source in self._open_inputs():
                if _STATES & set(_words(source.name)):
                    self._only(source)
            if len(self.found) == before:
                return

    def _only(self, source: TensorSpec) -> None:
        ways = {
            (link.output, link.part): link
            for link in self._evidence.links
            if link.input == source.name and not self._taken(link.output, link.part)
        }
        if len(ways) == 1:
            (link,) = ways.values()
            self._take(source.name, link.output, f"named {source.name}, and {link.how}", link.part)
            return
        outputs = [output for output in self._open_outputs() if self._may(source, output)]
        if len(outputs) != 1 or not means_state(source.name):
            return
        (output,) = outputs
        rivals = [other for other in self._open_inputs() if self._may(other, output)]
        if len(rivals) == 1:
            why = f"named {source.name}, and {output.name} alone has its shape"
            self._take(source.name, output.name, why)

    def _open_inputs(self) -> list[TensorSpec]:
        return [spec for spec in self._inputs if spec.name not in self.found]

    def _open_outputs(self) -> list[TensorSpec]:
        return [
            spec
            for spec in self._outputs
            if not self._taken(spec.name, None) and not _RESULTS & set(_words(spec.name))
        ]

    def _taken(self, output: str, part: Part | None) -> bool:
        return any(
            state.output == output and (None in (part, state.part) or part == state.part)
            for state in self.found.values()
        )

    def _may(self, source: TensorSpec, output: TensorSpec) -> bool:
        """Tell whether an output can be fed to an input as far as the graph is concerned."""
        return (
            source.dtype == output.dtype
            and source.name != output.name
            and fits(source.source_shape, output.source_shape, exactly=True)
            and self._evidence.reaches(source.name, output.name)
        )

    def _take(self, source: str, output: str, why: str, part: Part | None = None) -> None:
        if source not in self.found and not self._taken(output, part):
            self.found[source] = State(source, output, why, part)
