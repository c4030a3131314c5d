"""Compare a compiled model with its source: the same inputs and outputs, and where each op went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeconv.core.errors import BadCompilerOutput, InvalidModel
from edgeconv.targets.coral.placement.package import CUSTOM_OP, Package, packages
from edgeconv.targets.coral.placement.predict import EDGETPU, predict_view
from edgeconv.targets.placement import CPU
from edgeconv.tflite import file as tflite
from edgeconv.tflite import view as graph


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an operator of the source.

    Attributes:
        index: Its index in the source.
        op: Its name.
        predicted: ``edgetpu`` or ``cpu``, as predicted.
        placement: ``edgetpu`` or ``cpu``, as compiled.
        reason: Why it was predicted so.
        advice: What would map it.
    """

    index: int
    op: str
    predicted: str
    placement: str
    reason: str
    advice: str

    @property
    def surprising(self) -> bool:
        """Whether the prediction was wrong."""
        return self.predicted != self.placement

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A compiled model beside its source.

    Attributes:
        fates: Each operator of the source, in order.
        packages: What the custom operators hold.
    """

    fates: tuple[Fate, ...]
    packages: tuple[Package, ...]

    @property
    def on_edgetpu(self) -> int:
        """Operators of the source that run on the Edge TPU."""
        return sum(fate.placement == EDGETPU for fate in self.fates)

    @property
    def surprises(self) -> tuple[Fate, ...]:
        """Operators that are not where they were predicted."""
        return tuple(fate for fate in self.fates if fate.surprising)


def compare(source: Path, compiled: Path, *, same_outputs: bool = True) -> Comparison:
    """Compare a compiled model with its source.

    Args:
        source: The model that the compiler was given.
        compiled: What it wrote.
        same_outputs: Whether inputs and outputs must be equal.

    Raises:
        InvalidModel: The source cannot be read.
        BadCompilerOutput: The compiled file is missing, not a model, or has other inputs or
            outputs than the source.
    """
    before = tflite.load(source)
    try:
        after = tflite.load(compiled)
        inside = tuple(package for _, package in packages(after, str(compiled)))
    except InvalidModel as error:
        raise BadCompilerOutput(
            "the compiler's output cannot be used",
            where=str(compiled),
            why=f"{error.what}: {error.why}" if error.why else error.what,
            hint="compile again; look whether the disk is full",
        ) from error
    if same_outputs:
        _require_same(before, after, compiled)
    view = graph.view(before)
    left = set(_left_on_cpu(after)) if inside else None
    fates = tuple(
        Fate(
            expected.index,
            expected.op,
            expected.placement,
            CPU if left is None or (op.name, op.outputs[0].name) in left else EDGETPU,
            expected.reason,
            expected.advice,
        )
        for op, expected in zip(view.ops, predict_view(view).ops, strict=True)
    )
    return Comparison(fates, inside)


def _left_on_cpu(model: tflite.ModelT) -> Iterator[tuple[str, str]]:
    """Yield name and first output of each operator that the compiler left as it was."""
    tensors = model.subgraphs[0].tensors
    for operator in model.subgraphs[0].operators:
        name = tflite.operator_name(model, operator)
        if name != CUSTOM_OP and len(operator.outputs):
            yield name, tflite.tensor_name(tensors[operator.outputs[0]])


def _require_same(before: tflite.ModelT, after: tflite.ModelT, compiled: Path) -> None:
    for kind in ("inputs", "outputs"):
        wanted, found = _interface(before, kind), _interface(after, kind)
        if wanted != found:
            raise BadCompilerOutput(
                f"the compiled model has other {kind} than its source",
                where=str(compiled),
                why=f"{_different(found, wanted)} instead of {_different(wanted, found)}",
                hint="compile again, from the source that belongs to it",
            )


def _interface(model: tflite.ModelT, kind: str) -> list[tuple[Any, ...]]:
    graph_ = model.subgraphs[0]
    return [_describe(graph_.tensors[index]) for index in getattr(graph_, kind)]


def _describe(tensor: tflite.TensorT) -> tuple[Any, ...]:
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    quantization = tensor.quantization
    scales = [] if quantization is None or quantization.scale is None else quantization.scale
    zeros = [] if quantization is None or quantization.zeroPoint is None else quantization.zeroPoint
    return (
        tflite.tensor_name(tensor),
        shape,
        tflite.dtype_of(tensor),
        [float(scale) for scale in scales],
        [int(zero) for zero in zeros],
    )


def _different(these: list[tuple[Any, ...]], others: list[tuple[Any, ...]]) -> str:
    wrong = [item for at, item in enumerate(these) if at >= len(others) or others[at] != item]
    return ", ".join(f"{name} {dtype}{shape}" for name, shape, dtype, _, _ in wrong) or "none"
