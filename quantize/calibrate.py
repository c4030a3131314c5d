"""Run the float model over samples and find the range of each tensor that needs one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from edgeconv.artifacts import Array
from edgeconv.errors import InvalidData
from edgeconv.quantize.calibrators import Calibrator
from edgeconv.quantize.graph import Graph
from edgeconv.quantize.qparams import Range
from edgeconv.quantize.runs import Runner

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


C = TypeVar("C", bound=Calibrator)


def watch(
    graph: Graph,
    tensors: Iterable[int],
    samples: Sequence[Sequence[Array]],
    calibrator: Callable[[], C],
    *,
    views: Mapping[int, Callable[[Array], Array]] | None = None,
    progress: Progress | None = None,
) -> dict[int, C]:
    """Show tensors of a float model to their calibrators.

    Args:
        graph: The float graph.
        tensors: Indices of the float32 activations concerned.
        samples: Per sample the graph's inputs, in order, in the stored shape and dtype.
        calibrator: Makes the calibrator of one tensor.
        views: What of a tensor's values matters, for tensors where that is not all.
        progress: Progress callback.

    Returns:
        The calibrator of each tensor, which has seen all samples.

    Raises:
        InvalidData: There are no samples.
    """
    if not samples:
        raise InvalidData("calibration needs at least one sample")
    watched = {index: calibrator() for index in tensors}
    _observe(graph, watched, samples, views or {}, progress)
    return watched


def ranges_of(graph: Graph, watched: Mapping[int, Calibrator]) -> dict[int, Range]:
    """Return the range of each tensor, zero included.

    Raises:
        InvalidData: A range is not finite.
    """
    return {index: _checked(graph, index, watcher.range()) for index, watcher in watched.items()}


def _observe(
    graph: Graph,
    watchers: Mapping[int, Calibrator],
    samples: Sequence[Sequence[Array]],
    views: Mapping[int, Callable[[Array], Array]],
    progress: Progress | None,
) -> None:
    """Show the tensors' values to their calibrators, sample by sample."""

    def see(index: int, values: Array) -> None:
        watchers[index].update(views[index](values) if index in views else values)

    runner = Runner(graph, watchers)
    for count, sample in enumerate(samples, 1):
        runner.show(sample, see)
        if progress is not None:
            progress(count, len(samples))


def _checked(graph: Graph, index: int, found: tuple[float, float]) -> Range:
    low, high = found
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidData(
            "a tensor becomes NaN or infinite during calibration",
            where=graph.name(index),
            why=f"its values span {low} to {high}",
            hint="check the calibration data, and the model in float",
        )
    return Range.of(low, high)
