"""Predict what the compiler makes of a ``.tflite`` model: which operators it maps, and why not.

The compiler keeps one partition. It takes it as TensorFlow Lite's delegates do: operators are
visited in rounds of one kind, all that are ready of those that map, then all that are ready of
those that do not; the first round of those that map is the partition. So what stands before it on
the CPU may feed it, and whatever depends on an operator that does not map is stranded.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.core.errors import InvalidModel
from edgeconv.targets.coral.placement import ops
from edgeconv.targets.coral.placement.front_end import Objection, objections
from edgeconv.targets.coral.placement.ops import Refusal
from edgeconv.targets.coral.placement.package import CHIP_BYTES
from edgeconv.targets.coral.placement.parameters import Parameters, estimate
from edgeconv.targets.placement import CPU, Cut, Placement, Refused
from edgeconv.targets.placement import OpPlacement as TypedOp
from edgeconv.targets.placement import Parameters as Memory
from edgeconv.tflite import view as graph
from edgeconv.tflite.view import Op, View, macs

EDGETPU = "edgetpu"
_MAPPED = "Mapped to Edge TPU"
_STRANDED = "More than one subgraph is not supported"


@dataclass(frozen=True, slots=True)
class OpPlacement:
    """Where an operator runs.

    Attributes:
        index: Its index in the subgraph.
        op: Its name.
        name: Name of its first output.
        placement: ``edgetpu`` or ``cpu``.
        mappable: Whether it would map if nothing before it stood in the way.
        reason: Why it runs there.
        status: What the compiler's log says of it.
        advice: The rewrite or change that would map it.
        macs: Its multiplications.
        constant_bytes: Bytes of its constants.
    """

    index: int
    op: str
    name: str
    placement: str
    mappable: bool
    reason: str
    status: str
    advice: str
    macs: int
    constant_bytes: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the compiler is expected to make of a model.

    Attributes:
        ops: Each operator of the first subgraph, in order.
        cuts: Operators that cut the graph, the one that strands most first.
        objections: Why the compiler would refuse the whole model; then nothing maps.
        parameters: Estimated bytes of parameters.
    """

    ops: tuple[OpPlacement, ...]
    cuts: tuple[Cut, ...]
    objections: tuple[Objection, ...]
    parameters: Parameters

    @property
    def on_edgetpu(self) -> int:
        """Number of operators on the Edge TPU."""
        return sum(op.placement == EDGETPU for op in self.ops)

    @property
    def on_cpu(self) -> int:
        """Number of operators on the CPU."""
        return len(self.ops) - self.on_edgetpu

    @property
    def macs_share(self) -> float:
        """Share of the multiplications on the Edge TPU, 0 to 1; 1 of nothing."""
        return self.placement.macs_share

    @property
    def placement(self) -> Placement:
        """The same as every target tells it."""
        memory = Memory(self.parameters.cached, self.parameters.streamed, CHIP_BYTES)
        return Placement(
            EDGETPU,
            tuple(_typed(op) for op in self.ops),
            self.cuts,
            tuple(Refused(**item.to_dict()) for item in self.objections),
            memory,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return self.placement.to_dict()


def _typed(op: OpPlacement) -> TypedOp:
    more = {name: getattr(op, name) for name in ("name", "mappable", "status", "constant_bytes")}
    return TypedOp(op.index, op.op, op.placement, op.reason, op.advice, op.macs, more)


def predict(path: Path, runtime: int = ops.NEWEST_RUNTIME) -> Prediction:
    """Predict the placement of a model's operators.

    Args:
        path: The model, not compiled.
        runtime: The oldest runtime that it is compiled for.

    Raises:
        InvalidModel: The file is missing, is not TFLite, or is truncated or inconsistent.
    """
    return predict_read(graph.load(path), str(path), runtime)


def predict_read(view: View, where: str, runtime: int = ops.NEWEST_RUNTIME) -> Prediction:
    """Predict the placement of the operators of a model that was read from a file.

    Raises:
        InvalidModel: It is inconsistent.
    """
    try:
        return predict_view(view, runtime)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        # An operator without the inputs, the rank or the options that it always has.
        raise InvalidModel(
            "an operator of the model is not well formed",
            where=where,
            why=f"{type(error).__name__}: {error}",
            hint="convert it again; the TFLite runtime would refuse it, too",
            details=traceback.format_exc(),
        ) from error


def predict_view(view: View, runtime: int = ops.NEWEST_RUNTIME) -> Prediction:
    """Predict the placement of the operators of a model that is in memory."""
    refusals = [ops.refusal(op, runtime) for op in view.ops]
    found = objections(view)
    needs = view.needs()
    inside = set() if found else first_partition([item is None for item in refusals], needs)
    placements = tuple(
        _place(op, refusal, inside, found) for op, refusal in zip(view.ops, refusals, strict=True)
    )
    mapped = [op for op in view.ops if op.index in inside]
    return Prediction(
        placements,
        () if found else tuple(_cuts(placements, refusals, needs)),
        tuple(found),
        estimate(mapped),
    )


def first_partition(mappable: Sequence[bool], needs: Sequence[set[int]]) -> set[int]:
    """Return the operators of the first partition that the delegate gets.

    Args:
        mappable: Whether each operator maps.
        needs: The operators that each one waits for.
    """
    done: set[int] = set()
    while len(done) < len(mappable):
        left = [index for index in range(len(mappable)) if index not in done]
        first = next((index for index in left if needs[index] <= done), None)
        if first is None:
            return set()
        round_ = _round(left, mappable, needs, done, kind=mappable[first])
        if mappable[first]:
            return round_
        done |= round_
    return set()


def _round(
    left: Sequence[int],
    mappable: Sequence[bool],
    needs: Sequence[set[int]],
    done: set[int],
    *,
    kind: bool,
) -> set[int]:
    """Return every operator of a kind that is ready, or becomes so within the round."""
    taken: set[int] = set()
    grown = True
    while grown:
        grown = False
        for index in left:
            waits = needs[index] - done - taken
            if index not in taken and mappable[index] == kind and not waits:
                taken.add(index)
                grown = True
    return taken


def _place(
    op: Op, refusal: Refusal | None, inside: set[int], found: Sequence[Objection]
) -> OpPlacement:
    placement, reason, status, advice = CPU, "", "", ""
    if refusal is not None:
        reason, status, advice = refusal.why, refusal.status, refusal.advice
    elif op.index in inside:
        placement, reason, status = EDGETPU, "mapped", _MAPPED
    elif found:
        reason = "it would map, but the compiler refuses the model"
        advice = found[0].advice
    else:
        reason = "it would map, but depends on an operator that does not"
        status, advice = _STRANDED, "see the operators that cut the graph"
    return OpPlacement(
        op.index,
        op.name,
        op.outputs[0].name if op.outputs else "",
        placement,
        refusal is None,
        reason,
        status,
        advice,
        macs(op),
        op.constant_bytes,
    )


def _cuts(
    placements: Sequence[OpPlacement],
    refusals: Sequence[Refusal | None],
    needs: Sequence[set[int]],
) -> list[Cut]:
    readers: list[set[int]] = [set() for _ in needs]
    for index, sources in enumerate(needs):
        for source in sources:
            readers[source].add(index)
    total_macs = sum(op.macs for op in placements) or 1
    total_bytes = sum(op.constant_bytes for op in placements) or 1
    cuts = []
    for index, refusal in enumerate(refusals):
        if refusal is None:
            continue
        behind = [
            placements[i]
            for i in sorted(_reach(index, readers))
            if placements[i].placement == CPU and placements[i].mappable
        ]
        lost = [placements[index], *behind]
        cuts.append(
            Cut(
                index,
                placements[index].op,
                refusal.why,
                refusal.advice,
                len(lost) / len(placements),
                sum(op.macs for op in lost) / total_macs,
                sum(op.constant_bytes for op in lost) / total_bytes,
                tuple(op.index for op in behind),
            )
        )
    return sorted(cuts, key=lambda cut: (-cut.macs, -cut.ops, cut.index))


def _reach(start: int, readers: Sequence[set[int]]) -> set[int]:
    """Return everything that depends on an operator."""
    found: set[int] = set()
    open_ = list(readers[start])
    while open_:
        index = open_.pop()
        if index not in found:
            found.add(index)
            open_ += readers[index]
    return found
