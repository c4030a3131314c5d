"""How much of a stage's error each layer makes, and how much has come together by then.

Decibels are signal over noise, as ``sqnr_db`` in `edgeconv.parity`: lower is worse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LayerError:
    """The error of one layer's output, over all samples.

    Attributes:
        name: The tensor that the layer makes.
        op: Its operator in the artifact, ``"CONV_2D"``.
        here_db: SQNR of the layer alone, fed with the reference's values; ``None`` where it was
            not measured.
        carried_db: SQNR of the whole run up to this layer, against the reference; ``None`` where
            it was not measured.
        onnx_node: The ONNX node that the layer came from, ``""`` where unknown.
        module: The PyTorch module, ``"features.3.conv"``, ``""`` where unknown.
        source: Where in the source code it is written, ``"net.py:12"``, ``""`` where unknown.
        advice: The next step that was tried for this layer, in words; ``""`` where none was.
        gain_db: What that step gained on the model's worst output; ``None`` where none was tried.
    """

    name: str
    op: str
    here_db: float | None = None
    carried_db: float | None = None
    onnx_node: str = ""
    module: str = ""
    source: str = ""
    advice: str = ""
    gain_db: float | None = None

    @property
    def sqnr_db(self) -> float | None:
        """What the layer is ranked by: the error that it makes, else the error it carries."""
        return self.carried_db if self.here_db is None else self.here_db

    def to_dict(self) -> dict[str, Any]:
        """Return the entry in ``worst_layers`` of ``parity.json``."""
        return {
            "name": self.name,
            "op": self.op,
            "sqnr_db": self.sqnr_db,
            "here_db": self.here_db,
            "carried_db": self.carried_db,
            "onnx_node": self.onnx_node,
            "module": self.module,
            "source": self.source,
            "advice": self.advice,
            "gain_db": self.gain_db,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LayerError:
        """Rebuild a layer's error from the form in ``parity.json``."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


def ranked(layers: Iterable[LayerError], count: int | None = None) -> tuple[LayerError, ...]:
    """Return the worst layers first; layers without any figure are left out.

    Args:
        layers: The layers, in any order; equals keep theirs.
        count: The largest number to return; all by default.
    """
    known = [layer for layer in layers if layer.sqnr_db is not None]
    return tuple(sorted(known, key=lambda layer: layer.sqnr_db or 0.0)[:count])
