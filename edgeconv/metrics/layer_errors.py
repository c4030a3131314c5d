"""How much of a stage's error each layer makes, and how much has come together by then.

Decibels are signal over noise, as ``sqnr_db`` in `edgeconv.metrics.parity`: lower is worse.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeconv.core.artifacts import Array
from edgeconv.core.decode import decode
from edgeconv.metrics.sums import decibel

# What stands for NaN and infinity where the reference has a number; its square is finite.
_HUGE = 1e100

# Elements that are compared at a time: in double precision they stay in the processor's cache, and
# BLAS does not spread so few over threads.
_BLOCK = 8192


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
    def from_dict(cls, data: Mapping[str, Any]) -> LayerError:
        """Rebuild a layer's error from the form in ``parity.json``."""
        return decode(cls, data)


class Ratio:
    """Signal and noise of one layer, added up over samples in double precision."""

    def __init__(self) -> None:
        self.signal = 0.0
        self.noise = 0.0

    def add(self, expected: Array, found: Array) -> None:
        """Add one sample; what is not finite in the reference is left out."""
        signals, others = expected.reshape(-1), found.reshape(-1)
        signal, noise = np.empty((2, min(_BLOCK, signals.size)))
        for start in range(0, signals.size, _BLOCK):
            part = signals[start : start + _BLOCK]
            self.merge(_sums(part, others[start : start + _BLOCK], signal[: part.size], noise))

    def merge(self, sums: Sequence[float]) -> None:
        """Add what another process has added up."""
        self.signal += sums[0]
        self.noise += sums[1]

    @property
    def decibels(self) -> float | None:
        """Signal over noise; ``None`` where there is no signal to compare with."""
        if self.signal == 0 and self.noise != 0:
            return None
        return decibel(self.signal, self.noise)


def _sums(
    expected: Array, found: Array, signal: npt.NDArray[np.float64], noise: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Return the sums of squares of signal and noise; the last two are overwritten."""
    noise = noise[: signal.size]
    signal[:] = expected
    with np.errstate(invalid="ignore", over="ignore"):
        np.subtract(found, signal, out=noise)
        sums = float(signal @ signal), float(noise @ noise)
    if not all(map(math.isfinite, sums)):
        finite = np.isfinite(signal)
        signal = signal[finite]
        noise = np.nan_to_num(noise[finite], nan=_HUGE, posinf=_HUGE, neginf=-_HUGE)
        sums = float(signal @ signal), float(noise @ noise)
    return sums


def ranked(layers: Iterable[LayerError], count: int | None = None) -> tuple[LayerError, ...]:
    """Return the worst layers first; layers without any figure are left out.

    Args:
        layers: The layers, in any order; equals keep theirs.
        count: The largest number to return; all by default.
    """
    known = [layer for layer in layers if layer.sqnr_db is not None]
    return tuple(sorted(known, key=lambda layer: layer.sqnr_db or 0.0)[:count])
