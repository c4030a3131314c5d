"""What ``parity.json`` says of the layers of one stage, and of what was tried against its loss."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgeconv.core.decode import key
from edgeconv.metrics.layer_errors import LayerError

_EVEN_IF_EMPTY = ("name", "op", "sqnr_db", "here_db", "carried_db")


@dataclass(frozen=True, slots=True)
class Trial:
    """A next step that was tried against a stage's loss.

    Attributes:
        options: What a user writes for it, ``("--keep-float", "mel*")``.
        reached_db: SQNR of the worst output with it; ``None`` where it failed.
        gain_db: How much that is more than without it.
        passes: Whether the stage's gate holds with it.
        layer: The layer that it is about, where it is one.
        failed: Why it cannot be done, ``""`` where it can.
    """

    options: tuple[str, ...]
    reached_db: float | None = None
    gain_db: float | None = None
    passes: bool = False
    layer: str = ""
    failed: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the entry in ``trials`` of ``parity.json``."""
        return asdict(self) | {"options": list(self.options)}


def next_step(trials: tuple[Trial, ...]) -> Trial | None:
    """Return the trial to take: the first that passes, else that which gains most, if any does."""
    passing = [trial for trial in trials if trial.passes]
    gaining = [trial for trial in trials if (trial.gain_db or 0.0) > 0]
    return next(iter(passing), max(gaining, key=lambda trial: trial.gain_db or 0.0, default=None))


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A layer of one graph without a counterpart of its own in the other.

    Attributes:
        name: The layer.
        op: Its operator.
        why: Why there is none.
    """

    name: str
    op: str
    why: str


@dataclass(frozen=True, slots=True)
class LayersReport:
    """The layers of one stage.

    Attributes:
        worst: The worst layers, the worst first, with what to do about them.
        first: The first layer, in the order of the network, that makes too much error.
        samples: How many samples they were measured on; ``None`` where they were not measured.
        digest: SHA-256 of the file that was measured, where the bundle lacks what to compare it
            with, or something was tried; else ``""``.
        layers: Every layer that could be matched, in the order of the network; figures are rounded.
        unmatched: The others of both graphs.
        note: Why layers were not measured, or not now.
        trials: What was tried against the stage's loss, in that order.
    """

    worst: tuple[LayerError, ...] = field(default=(), metadata=key("worst_layers"))
    first: LayerError | None = field(default=None, metadata=key("first_layer"))
    samples: int | None = field(default=None, metadata=key("layer_samples"))
    digest: str = field(default="", metadata=key("layers_of"))
    layers: tuple[LayerError, ...] = ()
    unmatched: tuple[Unmatched, ...] = field(default=(), metadata=key("unmatched_layers"))
    note: str = field(default="", metadata=key("layers_note"))
    trials: tuple[Trial, ...] = ()

    @property
    def next_step(self) -> Trial | None:
        """The trial to take."""
        return next_step(self.trials)

    def to_dict(self) -> dict[str, Any]:
        """Return what the stage's entry in ``parity.json`` says of layers."""
        data: dict[str, Any] = {"worst_layers": [layer.to_dict() for layer in self.worst]}
        if self.samples is not None:
            data["first_layer"] = None if self.first is None else self.first.to_dict()
            data["layer_samples"] = self.samples
        if self.digest:
            data["layers_of"] = self.digest
        if self.samples is not None:
            data["layers"] = [_short(layer) for layer in self.layers]
            data["unmatched_layers"] = [asdict(item) for item in self.unmatched]
        if self.note:
            data["layers_note"] = self.note
        if self.trials:
            best = self.next_step
            data["trials"] = [trial.to_dict() for trial in self.trials]
            data["next_step"] = None if best is None else best.to_dict()
        return data


def _short(layer: LayerError) -> dict[str, Any]:
    """Return a layer without what is unknown; a model may have thousands."""
    return {
        name: value
        for name, value in layer.to_dict().items()
        if name in _EVEN_IF_EMPTY or value not in ("", None)
    }
