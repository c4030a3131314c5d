"""What a report says of a quantized model, beside figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeconv.core.amounts import MaxDrop
from edgeconv.quantize.islands.index_path import IndexPath
from edgeconv.quantize.mixed.search import Found
from edgeconv.quantize.params.qparams import Range
from edgeconv.quantize.rewrite import quotient
from edgeconv.quantize.rewrite.qdq import Imported
from edgeconv.quantize.rules.names import NAMED, kinds, named
from edgeconv.quantize.rules.precision import Chosen, Origins, Precision, names_of
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph


def exact(graph: Graph, path: IndexPath, origins: Origins, io_dtype: str) -> list[str]:
    """Say what computes in float for the sake of whole numbers, and where they still come wrong."""
    if not path.moved:
        return []
    moved = [graph.operators[place] for place in path.moved]
    what = "whole numbers, and positions that select samples, are computed in float32, so that"
    what = f"{what} rounding is the reference's"
    if path.undefined:
        what = "NaN or infinity, and what leads there, is computed in float32, which 8 bits lack"
    notes = [f"{what}: {kinds(graph, moved)}, at {_first(graph, moved, origins)}"]
    if path.inexact:
        layers = [graph.operators[place] for place in path.inexact]
        what = f"{path.differing:.1%} of the positions that select samples differ from the float"
        notes.append(f"{what} model's, for they come of {_first(graph, layers, origins)}")
    fed = [graph.name(index) for index in graph.inputs if index in path.fed]
    if fed and io_dtype in ("int8", "uint8"):
        what = f"input {', '.join(fed)} decides which samples are selected, and has 8 bits"
        notes.append(f"{what}: --io-dtype float32 keeps all of it")
    return notes


def _first(graph: Graph, operators: Sequence[OperatorT], origins: Origins) -> str:
    return named(names_of(graph, operator, origins)[-1] for operator in operators)


def used(graph: Graph, imported: Imported, ranges: Mapping[int, Range]) -> list[str]:
    """Say how many activations have the scales that the model brought."""
    if not imported.affine:
        return []
    note = f"{len(imported.affine)} activations have the scales of the model's own QuantizeLinear"
    rest = [graph.name(index).partition(";")[0] for index in ranges if index not in imported.affine]
    names = ", ".join(rest[:NAMED]) + (", ..." if len(rest) > NAMED else "")
    return [f"{note}; {len(rest)} have none and are calibrated: {names}" if rest else note]


def unused(imported: Imported, mode: str) -> list[str]:
    """Say that the scales that the model brought are of no use."""
    if not imported.affine:
        return []
    return [f"the model's own QuantizeLinear is for 8-bit activations, and not used for {mode}"]


def left_float(graph: Graph, asked: Chosen, lowered: Sequence[Precision]) -> list[str]:
    """Return a note of the operators that compute in float for want of an int16 kernel."""
    left = [
        operator
        for operator, precision in zip(graph.operators, lowered, strict=True)
        if precision == "float" and asked(operator) == "int16"
    ]
    if not left:
        return []
    names = kinds(graph, left)
    first = ", ".join(graph.label(operator).partition(";")[0] for operator in left[:NAMED])
    return [
        f"no kernel takes int16 activations for {names}: they compute in float32, at {first}"
        + (", ..." if len(left) > NAMED else "")
    ]


def kept(graph: Graph, found: Found, limit: MaxDrop, origins: Origins, *, mixed: bool) -> str:
    """Say which layers have 16 bits, or would have if the target allowed it."""
    unit = " dB" if limit.unit == "dB" else " points"
    asked = f"a drop of at most {limit.amount:g}{unit}"
    if not found.kept:
        return f"{asked} needs no layer in 16 bits: int8 alone drops {found.before:.1f}{unit}"
    names = ", ".join(_short(graph, layer, origins) for layer in found.kept[:NAMED])
    names += ", ..." if len(found.kept) > NAMED else ""
    verb = "keeps" if mixed else "would keep, if the target allowed it,"
    reached = f"{found.before:.1f}{unit} become {found.after:.1f}{unit}"
    missed = "" if found.after <= limit.amount else ", which is the least that can be had"
    return f"{asked} {verb} {len(found.kept)} layers in 16 bits: {names}; {reached}{missed}"


def divided(graph: Graph, precisions: Sequence[Precision]) -> list[str]:
    """Say which quotients have 16 bits inside."""
    quotients = quotient.find(graph)
    names = [
        graph.label(operator).partition(";")[0]
        for operator, precision in zip(graph.operators, precisions, strict=True)
        if precision == "int8" and quotients.keys() & set(operator.outputs)
    ]
    if not names:
        return []
    first = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    what = "quotients of int8 tensors are computed in 16 bits and rounded to int8"
    return [f"{what}, for LiteRT has no int8 DIV: {first}"]


def _short(graph: Graph, operator: OperatorT, origins: Origins) -> str:
    """Return the last of an operator's names, the PyTorch module's where it is known."""
    last = names_of(graph, operator, origins)[-1]
    return f"{last.partition(';')[0]} ({graph.op(operator)})"
