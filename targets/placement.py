"""Where the operators of a model will run, as a target tells it: typed, with one JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

CPU = "cpu"
"""The place of an operator that the device leaves to the CPU."""


@dataclass(frozen=True, slots=True)
class OpPlacement:
    """Where an operator runs.

    Attributes:
        index: Its index in the first subgraph.
        op: Its name.
        place: `CPU`, or the target's word for its device.
        reason: Why it runs there.
        advice: What would bring it to the device; empty where nothing would, or need be.
        macs: Its multiplications.
        figures: What else the target says of it, JSON-ready.
    """

    index: int
    op: str
    place: str
    reason: str
    advice: str = ""
    macs: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "index": self.index,
            "op": self.op,
            "placement": self.place,
            "reason": self.reason,
            "advice": self.advice,
            "macs": self.macs,
            **self.figures,
        }


@dataclass(frozen=True, slots=True)
class Cut:
    """An operator that the device does not take, with what it strands.

    Attributes:
        index: Its index.
        op: Its name.
        why: Why the device does not take it.
        advice: What would change that.
        ops: Share of all operators that it strands, itself included, 0 to 1.
        macs: Share of all multiplications.
        bytes: Share of all bytes of constants.
        stranded: Indices of the operators that the device would run but for it, or others like it.
    """

    index: int
    op: str
    why: str
    advice: str
    ops: float
    macs: float
    bytes: float
    stranded: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why the device's compiler would refuse the whole model.

    Attributes:
        index: The operator concerned; ``None`` for the model.
        op: Its name.
        why: What is wrong.
        advice: What to change.
    """

    index: int | None
    op: str
    why: str
    advice: str


@dataclass(frozen=True, slots=True)
class Parameters:
    """Estimated bytes of parameters.

    Attributes:
        cached: Loaded once, kept on the device.
        streamed: Sent with each inference.
        chip: Memory of the device.
    """

    cached: int
    streamed: int
    chip: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the operators of a model will run.

    Attributes:
        place: The target's word for its device.
        ops: Each operator of the first subgraph, in order.
        cuts: Operators that cut the graph, the one that strands most first.
        refused: Why the compiler would refuse the whole model.
        parameters: What its parameters take; ``None`` where the target does not estimate that.
        figures: What else the target says, by names in words: cycles, for example.
        none_on: Words of devices on which nothing runs, for scripts that look for their counts.
    """

    place: str
    ops: tuple[OpPlacement, ...]
    cuts: tuple[Cut, ...] = ()
    refused: tuple[Refused, ...] = ()
    parameters: Parameters | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    none_on: tuple[str, ...] = ()

    @property
    def on_device(self) -> int:
        """Number of operators on the device."""
        return sum(op.place == self.place for op in self.ops)

    @property
    def ops_share(self) -> float:
        """Share of the operators on the device, 0 to 1; 1 of nothing."""
        return self.on_device / len(self.ops) if self.ops else 1.0

    @property
    def macs_share(self) -> float:
        """Share of the multiplications on the device, 0 to 1; 1 of nothing."""
        total = sum(op.macs for op in self.ops)
        there = sum(op.macs for op in self.ops if op.place == self.place)
        return there / total if total else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; the number on the device is called ``on_<place>``."""
        memory = self.parameters
        return {
            "ops": [op.to_dict() for op in self.ops],
            "on_cpu": sum(op.place == CPU for op in self.ops),
            f"on_{self.place}": self.on_device,
            "ops_share": self.ops_share,
            "macs_share": self.macs_share,
            **(
                {}
                if memory is None
                else {
                    "cached_parameter_bytes": memory.cached,
                    "streamed_parameter_bytes": memory.streamed,
                    "chip_bytes": memory.chip,
                }
            ),
            "cuts": [asdict(cut) for cut in self.cuts],
            "refused": [asdict(item) for item in self.refused],
            "figures": dict(self.figures),
            **{f"on_{word}": 0 for word in self.none_on},
        }
