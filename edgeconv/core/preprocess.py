"""How a model's inputs are made of bytes, where the model itself is to do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeconv.core.artifacts import Array, Arrays

BYTE = 255.0


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """``(x / 255 - mean) / std`` of bytes ``x``.

    Attributes:
        mean: Of all values, or of each channel.
        std: Likewise.
        axis: The channels' axis in the input's shape; ``None`` where all values are alike.
        why: How that is known.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    axis: int | None
    why: str

    def factors(self, rank: int) -> tuple[Array, Array]:
        """Return ``a`` and ``b`` of ``a * x + b``, float64, to broadcast over an input.

        Args:
            rank: The input's, without a sample axis.
        """
        count = max(len(self.mean), len(self.std))
        mean, std = (np.resize(np.asarray(one, np.float64), count) for one in (self.mean, self.std))
        shape = [1] * rank
        if self.axis is not None:
            shape[self.axis] = count
        return (1 / (BYTE * std)).reshape(shape), (-mean / std).reshape(shape)

    def normalised(self, raw: Array) -> Array:
        """Return what ``[sample, *input shape]`` of bytes become, float32."""
        scale, offset = self.factors(raw.ndim - 1)
        return np.asarray(raw * scale + offset, np.float32)

    def raw(self, normalised: Array) -> Array:
        """Return what ``[sample, *input shape]`` was before, float64 and not rounded."""
        scale, offset = self.factors(normalised.ndim - 1)
        return np.asarray((normalised.astype(np.float64) - offset) / scale)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std), "scale": BYTE}


def normalised(arrays: Arrays, preprocessing: Mapping[str, Preprocessing]) -> Arrays:
    """Return arrays with those of bytes preprocessed, ``[sample, *input shape]`` by name."""
    return {
        name: preprocessing[name].normalised(array) if name in preprocessing else array
        for name, array in arrays.items()
    }
