"""Which tensor of a SavedModel holds which ONNX value, written down while it is translated.

The file lies in the SavedModel's ``assets.extra``, the place for files that TensorFlow does not
read. Without it nothing is known: names that look alike are no evidence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.core.artifacts import Array

PLACE = Path("assets.extra") / "onnx_values.json"


@dataclass(frozen=True, slots=True)
class HeldValue:
    """An ONNX value that a tensor holds.

    Attributes:
        value: Its name.
        tensor: Name of the TensorFlow tensor, ``"conv/Add:0"``.
        permutation: Axis order of the ONNX value that the tensor's elements are in.
        shape: Shape of the tensor, -1 for an open dimension.
    """

    value: str
    tensor: str
    permutation: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def node(self) -> str:
        """Name of the TensorFlow node."""
        return self.tensor.rpartition(":")[0]

    def fits(self, shape: Sequence[int]) -> bool:
        """Tell whether a tensor of this shape can hold the value."""
        return len(shape) == len(self.shape) and all(
            own in (-1, size) for own, size in zip(self.shape, shape, strict=True)
        )

    def store(self, array: Array) -> Array:
        """Turn the value, as ONNX has it, into the tensor's form."""
        return np.ascontiguousarray(array.transpose(self.permutation)).reshape(self.shape)

    def restore(self, array: Array, shape: Sequence[int]) -> Array:
        """Turn the tensor's content back into the value of this shape, as ONNX has it."""
        moved = array.reshape([shape[axis] for axis in self.permutation])
        return np.ascontiguousarray(moved.transpose(np.argsort(self.permutation)))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeldValue:
        """Rebuild it from the JSON form."""
        return cls(
            str(data["value"]),
            str(data["tensor"]),
            tuple(map(int, data["permutation"])),
            tuple(map(int, data["shape"])),
        )


def scope_name(name: str) -> str:
    """Return an ONNX value name in the characters that TensorFlow allows in a scope."""
    allowed = re.sub(r"[^A-Za-z0-9_.\-/]", "_", name)
    return allowed if re.match(r"[A-Za-z0-9.]", allowed) else "." + allowed


def write_map(
    directory: Path, held: Iterable[HeldValue], same: Mapping[str, str], absent: Mapping[str, str]
) -> None:
    """Write the map of a SavedModel.

    Args:
        directory: The SavedModel.
        held: Values in the order of the network, one for each tensor.
        same: Values that are only another view of a held one, by name.
        absent: Why no tensor holds the other ones.
    """
    path = directory / PLACE
    path.parent.mkdir(exist_ok=True)
    content = {"values": [item.to_dict() for item in held], "same": same, "absent": absent}
    path.write_text(json.dumps(content, indent=0))


def read_map(directory: Path) -> tuple[list[HeldValue], dict[str, str], dict[str, str]] | None:
    """Read the map of a SavedModel; ``None`` where it has none, or a damaged one."""
    try:
        content = json.loads((directory / PLACE).read_text())
        held = [HeldValue.from_dict(item) for item in content["values"]]
        return held, dict(content["same"]), dict(content["absent"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def unique(
    found: Sequence[tuple[str, HeldValue | None, str]],
) -> tuple[list[HeldValue], dict[str, str], dict[str, str]]:
    """Sort values into those that tensors hold, views of these, and absent ones.

    Args:
        found: Per value its name, what holds it, and why nothing does.
    """
    first: dict[str, HeldValue] = {}
    same: dict[str, str] = {}
    absent: dict[str, str] = {}
    for name, held, why in found:
        if held is None:
            absent[name] = why
        elif held.tensor in first:
            same[name] = first[held.tensor].value
        else:
            first[held.tensor] = held
    return list(first.values()), same, absent
