"""What passes from stage to stage: a file of a known format with known inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""A numpy array of any dtype."""

Arrays = dict[str, Array]
"""Arrays by input or output name."""


_HALF = 0.5 + 1e-3
"""What is a half but for the rounding of float32 counts as one."""


class Format(StrEnum):
    """The file format of an artifact."""

    TORCH = "torch"
    ONNX = "onnx"
    SAVED_MODEL = "saved_model"
    TFLITE = "tflite"
    COMPILED = "compiled"


@dataclass(frozen=True, slots=True)
class Quantization:
    """Per-tensor affine quantization: ``real = scale * (stored - zero_point)``."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of an artifact.

    Attributes:
        name: The name that the source model gave it; the same in every artifact.
        shape: Stored shape; ``None`` for a dimension known at run time only.
        dtype: numpy name of the stored dtype, ``"float32"``, ``"int8"``.
        permutation: Stored axis ``i`` holds axis ``permutation[i]`` of the source model's tensor:
            ``(0, 2, 3, 1)`` is an NCHW image stored as NHWC. Identity where nothing moved.
        quantization: Scale and zero point of an integer tensor that stands for real numbers.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    permutation: tuple[int, ...]
    quantization: Quantization | None = None

    @classmethod
    def plain(cls, name: str, shape: tuple[int | None, ...], dtype: str) -> TensorSpec:
        """Return the spec of a tensor stored as the source model has it."""
        return cls(name, shape, dtype, tuple(range(len(shape))))

    @property
    def source_shape(self) -> tuple[int | None, ...]:
        """The shape in the source model's axis order."""
        return tuple(
            self.shape[self.permutation.index(axis)] for axis in range(len(self.permutation))
        )

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this shape, stored, is one that the tensor can hold."""
        return len(shape) == len(self.shape) and all(
            own in (None, size) for own, size in zip(self.shape, shape, strict=True)
        )

    @property
    def of_one(self) -> TensorSpec:
        """The spec of a single sample: an open batch dimension is 1."""
        return replace(self, shape=tuple(1 if size is None else size for size in self.shape))

    @property
    def nbytes(self) -> int:
        """The bytes of a single sample."""
        return math.prod(size or 1 for size in self.shape) * np.dtype(self.dtype).itemsize

    @property
    def layout(self) -> str:
        """``"nhwc"`` for an NCHW tensor stored channels last, else ``"source"``."""
        return "nhwc" if self.permutation == (0, 2, 3, 1) else "source"

    def store(self, array: Array) -> Array:
        """Turn an array of the source model (its layout, real numbers) into the stored form.

        A single number becomes an array of rank 0, as the runtimes want it.
        """
        moved = np.transpose(array, self.permutation)
        if self.quantization is None:
            return np.asarray(moved, self.dtype, order="C")
        limits = np.iinfo(self.dtype)
        # Halves go up, so that bytes whose zero lies between two integers stay apart.
        steps = np.floor(moved / self.quantization.scale + _HALF) + self.quantization.zero_point
        return np.asarray(np.clip(steps, limits.min, limits.max), self.dtype, order="C")

    def restore(self, array: Array) -> Array:
        """Turn a stored array back into the source model's layout, in real numbers."""
        if self.quantization is not None:
            shifted = array.astype(np.float32) - np.float32(self.quantization.zero_point)
            array = shifted * np.float32(self.quantization.scale)
        return np.asarray(np.transpose(array, np.argsort(self.permutation)))

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        quantization = self.quantization
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "layout": self.layout,
            "permutation": list(self.permutation),
            "scale": quantization.scale if quantization else None,
            "zero_point": quantization.zero_point if quantization else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TensorSpec:
        """Rebuild a spec from the manifest's form."""
        scale = data["scale"]
        return cls(
            name=data["name"],
            shape=tuple(data["shape"]),
            dtype=data["dtype"],
            permutation=tuple(data["permutation"]),
            quantization=None if scale is None else Quantization(scale, data["zero_point"]),
        )


@dataclass(frozen=True, slots=True)
class JoinedPart:
    """One of the outputs that an output of the source model has become.

    Attributes:
        name: The output's name in the file.
        slices: Start, stop and step of its positions on the axis, one after the other.
    """

    name: str
    slices: tuple[tuple[int, int, int], ...]

    @classmethod
    def at(cls, name: str, positions: Sequence[int]) -> JoinedPart:
        """Return the part with these positions, ascending, in as few slices as they take."""
        found: list[tuple[int, int, int]] = []
        rest = list(positions)
        while rest:
            step = rest[1] - rest[0] if len(rest) > 1 else 1
            count = next(
                (i for i in range(1, len(rest)) if rest[i] - rest[i - 1] != step), len(rest)
            )
            found.append((rest[0], rest[count - 1] + 1, step))
            rest = rest[count:]
        return cls(name, tuple(found))

    @property
    def positions(self) -> list[int]:
        """Its positions on the axis."""
        return [position for ends in self.slices for position in range(*ends)]


@dataclass(frozen=True, slots=True)
class OutputJoin:
    """How an output of the source model is put together from several of the file.

    Attributes:
        output: The source model's output, real numbers; stored as its parts are.
        axis: The axis along which the parts lie, counted in the source model's layout.
        parts: The parts; together they have every position of the axis once.
    """

    output: TensorSpec
    axis: int
    parts: tuple[JoinedPart, ...]

    def join(self, arrays: Mapping[str, Array], leading: int = 0) -> Array:
        """Return the output.

        Args:
            arrays: The parts by name, restored: in the source model's layout, real numbers.
            leading: Axes before those of the source model: 1 where the arrays hold samples.
        """
        found = [arrays[part.name] for part in self.parts]
        order = np.argsort([place for part in self.parts for place in part.positions])
        return np.take(np.concatenate(found, self.axis + leading), order, self.axis + leading)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        parts = [
            {"name": part.name, "slices": [list(ends) for ends in part.slices]}
            for part in self.parts
        ]
        return {
            "output": self.output.name,
            "axis": self.axis,
            "parts": parts,
            "tensor": self.output.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OutputJoin:
        """Rebuild a join from the manifest's form."""
        parts = tuple(
            JoinedPart(part["name"], tuple((ends[0], ends[1], ends[2]) for ends in part["slices"]))
            for part in data["parts"]
        )
        return cls(TensorSpec.from_dict(data["tensor"]), data["axis"], parts)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model file with what is known of it.

    Attributes:
        format: File format.
        path: The file, or the directory of a SavedModel.
        inputs: Inputs in the source model's order.
        outputs: Outputs in the source model's order.
        tail: The model of what was cut off for the CPU. It reads some of the outputs, and inputs of
            the source model; its outputs replace those that it reads.
        returns: With a tail, the names of the source model's outputs in their order.
        joins: How outputs of the source model, or what the tail reads, are joined from outputs.
        target: Of a compiled file, the name of the target that it is for; empty where its manifest
            does not say, which then has the target's word.
        word: Of a compiled file, what manifests call its format.
    """

    format: Format
    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tail: Artifact | None = None
    returns: tuple[str, ...] = ()
    joins: tuple[OutputJoin, ...] = ()
    target: str = ""
    word: str = ""

    def compiled(self, path: Path, target: str, word: str = "") -> Artifact:
        """Return the artifact of a file that a target's compiler made of this one.

        Args:
            path: The file.
            target: Name of the target.
            word: What manifests call the format, where it is not ``compiled``.
        """
        word = "" if word == Format.COMPILED else word
        return replace(self, format=Format.COMPILED, path=path, target=target, word=word)

    @property
    def joined(self) -> tuple[TensorSpec, ...]:
        """The outputs, those that are parts of one put together."""
        first = {join.parts[0].name: join for join in self.joins}
        parts = {part.name for join in self.joins for part in join.parts}
        return tuple(
            first[spec.name].output if spec.name in first else spec
            for spec in self.outputs
            if spec.name in first or spec.name not in parts
        )

    @property
    def results(self) -> tuple[TensorSpec, ...]:
        """What is left when parts are joined and the tail has run: the source model's outputs."""
        if self.tail is None:
            return self.joined
        known = {spec.name: spec for spec in (*self.joined, *self.tail.outputs)}
        return tuple(known[name] for name in self.returns)

    def join(self, arrays: Mapping[str, Array]) -> Arrays:
        """Return the outputs, those that are parts of one put together.

        Args:
            arrays: All outputs by name, ``[sample, ...]``, restored.
        """
        made = {join.output.name: join.join(arrays, 1) for join in self.joins}
        return {spec.name: {**arrays, **made}[spec.name] for spec in self.joined}

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        tail: dict[str, Any] = {}
        if self.tail is not None:
            tail = {"tail": self.tail.to_dict(), "returns": list(self.returns)}
        if self.joins:
            tail["joins"] = [join.to_dict() for join in self.joins]
        if self.target:
            tail["target"] = self.target
        return {
            "format": self.word or self.format.value,
            "path": str(self.path),
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
            **tail,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Artifact:
        """Rebuild an artifact from its JSON form."""
        format_, word = _format_of(data["format"])
        return cls(
            format=format_,
            path=Path(data["path"]),
            inputs=tuple(TensorSpec.from_dict(spec) for spec in data["inputs"]),
            outputs=tuple(TensorSpec.from_dict(spec) for spec in data["outputs"]),
            tail=cls.from_dict(data["tail"]) if "tail" in data else None,
            returns=tuple(data.get("returns", ())),
            joins=tuple(OutputJoin.from_dict(join) for join in data.get("joins", ())),
            target=str(data.get("target", "")),
            word=word,
        )


def _format_of(word: str) -> tuple[Format, str]:
    """Return the format that a manifest names, and its word where that is a target's own."""
    if word in set(Format):
        return Format(word), ""
    if not word.isidentifier():
        raise ValueError(f"{word!r} is no format")
    return Format.COMPILED, word
