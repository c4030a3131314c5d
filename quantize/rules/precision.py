"""Which precision each operator computes in: the mode's, and the rules that say otherwise.

A *static* precision has calibrated integer activations. In the others activations are float32, and
only the weight is stored in fewer bits, if at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from fnmatch import translate
from typing import Any, Literal, get_args

from edgeconv.core.errors import UsageError
from edgeconv.quantize.rules.table import INT16_VERSIONS, RULES
from edgeconv.tflite.file import BUILTIN_CODES, OperatorT
from edgeconv.tflite.graph import Graph

Precision = Literal["int8", "int16", "float", "fp16", "dynamic", "weight-only"]

BITS: Mapping[str, int] = {"int8": 8, "int16": 16}
"""Bits of the activations of each static precision."""

MODES: Mapping[str, Precision] = {
    "fp16": "fp16",
    "dynamic": "dynamic",
    "weight-only": "weight-only",
    "int8": "int8",
    "int16x8": "int16",
}
"""Precision of the operators that no rule names, by mode."""


Origins = Mapping[str, Sequence[str]]
"""Names of ONNX nodes and PyTorch modules, by the scope that their tensors are named after."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The precision of the operators that match; a later rule wins.

    Attributes:
        precision: What they compute in.
        op: Builtin name of the operators; any where empty.
        pattern: Regular expression that is searched in the names of an operator: those of its
            outputs, of the ONNX nodes and of the PyTorch modules; any where empty.
        required: Whether it is an error that nothing matches.
        source: What the user wrote, for messages.
    """

    precision: Precision
    op: str = ""
    pattern: str = ""
    required: bool = True
    source: str = ""

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise UsageError(
                f"{self.source or 'a rule'} asks for the precision {self.precision}",
                why="it is not known",
                hint="use one of " + ", ".join(get_args(Precision)),
            )
        if self.op and self.op not in BUILTIN_CODES:
            raise UsageError(
                f"{self.source or 'a rule'} names the operator {self.op}",
                why="TFLite has none of that name",
                hint=_meant(self.op, BUILTIN_CODES),
            )
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise UsageError(
                f"{self.source or 'a rule'} has a pattern that is no regular expression",
                why=f"{self.pattern}: {error}",
            ) from error

    def matches(self, graph: Graph, operator: OperatorT, origins: Origins) -> bool:
        """Tell whether the rule is about an operator."""
        if self.op and graph.op(operator) != self.op:
            return False
        names = names_of(graph, operator, origins) if self.pattern else ()
        return not self.pattern or any(re.search(self.pattern, name) for name in names)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; the arguments of the class."""
        return asdict(self)


def keep(text: str, precision: Precision, option: str) -> Rule:
    """Return the rule that ``--keep-float TEXT`` stands for.

    Args:
        text: A builtin operator's name, in any case, or a pattern with ``*`` and ``?`` for the
            names of operators; without either, a part of one.
        precision: What the operators keep.
        option: The option, for messages.
    """
    source = f"{option} {text}".strip()
    if text.upper() in BUILTIN_CODES:
        return Rule(precision, op=text.upper(), source=source)
    wild = any(character in text for character in "*?[")
    return Rule(precision, pattern=translate(text) if wild else re.escape(text), source=source)


def names_of(graph: Graph, operator: OperatorT, origins: Origins) -> list[str]:
    """Return everything that an operator may be called.

    The converter joins the names of what it fuses by ``;``, each a scope and an operation in it.
    """
    names = [graph.name(index) for index in operator.outputs]
    for part in [part for name in names for part in name.split(";")]:
        scope = part
        while scope and scope not in origins:
            scope = scope.rpartition("/")[0]
        names += origins.get(scope, ())
    return names


def assign(
    graph: Graph, base: Precision, rules: Sequence[Rule], origins: Origins
) -> list[Precision]:
    """Return the precision of every operator, in order.

    Args:
        graph: The float graph.
        base: The precision of what no rule matches.
        rules: The rules; later ones win.
        origins: Further names of the operators.

    Raises:
        UsageError: A rule that must match does not.
    """
    found: list[Precision] = [base] * len(graph.operators)
    for rule in rules:
        places = [
            place
            for place, operator in enumerate(graph.operators)
            if rule.matches(graph, operator, origins)
        ]
        if rule.required and not places:
            raise _unmatched(graph, rule, origins)
        for place in places:
            found[place] = rule.precision
    return found


def takes_int16(graph: Graph, operator: OperatorT) -> bool:
    """Tell whether an operator can compute with int16 activations, or has no float ones."""
    if not any(map(graph.is_float, (*operator.inputs, *operator.outputs))):
        return True
    rule = RULES.get(graph.op(operator))
    if rule is None or graph.op(operator) not in INT16_VERSIONS:
        return False
    weight = None if rule.dynamic_weight else rule.weight
    slots = [slot for slot in (weight, rule.bias) if slot is not None]
    present = [operator.inputs[slot] for slot in slots if slot < len(operator.inputs)]
    return all(graph.is_constant(index) for index in present if index >= 0)


def _unmatched(graph: Graph, rule: Rule, origins: Origins) -> UsageError:
    names = [name for op in graph.operators for name in names_of(graph, op, origins)]
    operators = sorted({graph.op(operator) for operator in graph.operators})
    return UsageError(
        f"{rule.source or 'a rule'} matches nothing in the model",
        why="its operators are " + ", ".join(operators),
        hint=_meant(rule.source.rpartition(" ")[2], names),
    )


def _meant(text: str, known: Iterable[str]) -> str:
    close = get_close_matches(text, list(known), 3, 0.5)
    if close:
        return "did you mean " + " or ".join(close)
    return "name an operator such as CONV_2D, or a part of an ONNX node's or a module's name"


Chosen = Callable[[OperatorT], str]
"""Tells the precision of an operator."""


def chooser(graph: Graph, precisions: Sequence[str]) -> Chosen:
    """Return what tells the precision of an operator; of one that is added later, ``""``."""
    pairs = zip(graph.operators, precisions, strict=True)
    found = {id(operator): (operator, precision) for operator, precision in pairs}
    return lambda operator: found.get(id(operator), (None, ""))[1]
