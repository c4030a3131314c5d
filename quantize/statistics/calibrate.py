"""Run the float model over samples and find the range of each tensor that needs one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from edgeconv.core.artifacts import Array
from edgeconv.core.errors import InvalidData
from edgeconv.quantize.params.needs import View
from edgeconv.quantize.params.qparams import Range
from edgeconv.quantize.statistics.calibrators import Calibrator, HistogramObserver
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


def observe_tensors(
    graph: Graph,
    tensors: Iterable[int],
    samples: Sequence[Sequence[Array]],
    *,
    seen: Mapping[int, HistogramObserver] | None = None,
    views: Mapping[int, Sequence[View]] | None = None,
    progress: Progress | None = None,
) -> dict[int, HistogramObserver]:
    """Return what tensors of a float model hold over samples.

    Args:
        graph: The float graph.
        tensors: Indices of the float32 activations concerned.
        samples: Per sample the graph's inputs, in order, in the stored shape and dtype.
        seen: What was seen of these tensors before, which is added to.
        views: By tensor what is seen in its place, where not all of its values matter.
        progress: Progress callback.

    Raises:
        InvalidData: There are no samples.
    """
    found = {index: (seen or {}).get(index) or HistogramObserver() for index in tensors}
    if not samples and not seen:
        raise InvalidData("calibration needs at least one sample")
    if samples:
        _observe(graph, found, samples, views or {}, progress)
    return found


def ranges_of(seen: Mapping[int, HistogramObserver], calibrator: Calibrator) -> dict[int, Range]:
    """Return the range of each tensor, zero included; `require_finite` tells which are none."""
    return {index: _range(one.range(calibrator)) for index, one in seen.items()}


def require_finite(graph: Graph, ranges: Mapping[int, Range]) -> None:
    """Check the ranges of tensors that become integers.

    Raises:
        InvalidData: A range is not finite.
    """
    for index, found in ranges.items():
        if not math.isfinite(found.width):
            raise InvalidData(
                "a tensor becomes NaN or infinite during calibration",
                where=graph.name(index),
                why=f"its values span {found.low} to {found.high}",
                hint="check the calibration data, and the model in float",
            )


def _observe(
    graph: Graph,
    seen: Mapping[int, HistogramObserver],
    samples: Sequence[Sequence[Array]],
    views: Mapping[int, Sequence[View]],
    progress: Progress | None,
) -> None:
    """Run the samples."""
    shown: dict[int, list[tuple[HistogramObserver, Callable[[Array], Array] | None]]] = {}
    for index, one in seen.items():
        for source, made in views.get(index, ((index, None),)):
            shown.setdefault(source, []).append((one, made))

    def see(index: int, values: Array) -> None:
        for one, made in shown[index]:
            one.update(values if made is None else made(values))

    runner = Runner(graph, shown)
    for count, sample in enumerate(samples, 1):
        runner.show(sample, see)
        if progress is not None:
            progress(count, len(samples))


def _range(found: tuple[float, float]) -> Range:
    low, high = found
    # Other than NaN, infinity would vanish where a range is scaled or joined.
    return Range.of(low, high) if math.isfinite(high - low) else Range(math.nan, math.nan)
