"""What a quantizer is fed: calibration samples as a graph takes them, and what inputs can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.core.artifacts import Array, TensorSpec
from edgeconv.core.errors import InvalidData
from edgeconv.core.states import State
from edgeconv.quantize.params.input_scales import Held, InputScale, input_scales
from edgeconv.tflite.graph import Graph


def read_samples(path: Path, specs: tuple[TensorSpec, ...]) -> list[Array]:
    """Return the arrays of the inputs, in order."""
    with np.load(path, allow_pickle=False) as archive:
        missing = [spec.name for spec in specs if spec.name not in archive.files]
        if missing:
            raise InvalidData(
                "the calibration samples lack inputs", where=str(path), why=", ".join(missing)
            )
        arrays = [archive[spec.name] for spec in specs]
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        raise InvalidData(
            "the inputs have different numbers of samples", where=str(path), why=str(sorted(counts))
        )
    return arrays


def held_of(
    specs: tuple[TensorSpec, ...],
    arrays: Sequence[Array],
    known: Mapping[str, Mapping[str, Any]] | None,
    states: Sequence[State] = (),
) -> Held:
    """Return what the inputs can hold, in order; the model itself tells it of its states."""
    if known is None:
        named = {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
        found = input_scales(specs, named)
    else:
        found = {name: InputScale(**data) for name, data in known.items()}
    for state in states:
        if state.input in found and not found[state.input].stated:
            del found[state.input]
    return [found.get(spec.name) for spec in specs]


def feeds_of(
    arrays: Sequence[Array], specs: tuple[TensorSpec, ...], graph: Graph
) -> list[list[Array]]:
    """Return per sample the graph's inputs in the stored form."""
    feeds = [
        [spec.store(array[count, ...]) for spec, array in zip(specs, arrays, strict=True)]
        for count in range(max(map(len, arrays), default=1))
    ]
    for spec, array, index in zip(specs, feeds[0] if feeds else [], graph.inputs, strict=False):
        if array.shape != graph.shape(index):
            raise InvalidData(
                "the calibration samples do not fit the model's input",
                where=spec.name,
                why=f"stored shape {array.shape}, expected {graph.shape(index)}",
            )
    return feeds
