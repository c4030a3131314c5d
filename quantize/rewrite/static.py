"""Static quantization: calibrate a float graph once, then rewrite it, as often as needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeconv.core.artifacts import Array
from edgeconv.quantize.params.centre import centre
from edgeconv.quantize.params.input_scales import Held, quant_params_of
from edgeconv.quantize.params.qparams import Range
from edgeconv.quantize.rewrite import check, weights
from edgeconv.quantize.rewrite.edges import IoDtype
from edgeconv.quantize.rewrite.int8 import rewrite
from edgeconv.quantize.rewrite.plan import Plan
from edgeconv.quantize.rewrite.qdq import Imported
from edgeconv.quantize.rewrite.split import split
from edgeconv.quantize.rules.precision import BITS, Precision, chooser
from edgeconv.quantize.statistics.calibrate import (
    Progress,
    observe_tensors,
    ranges_of,
    require_finite,
)
from edgeconv.quantize.statistics.calibrators import Calibrator, HistogramObserver
from edgeconv.quantize.statistics.scores import mark
from edgeconv.tflite.graph import Graph


def uniform(precisions: Sequence[Precision]) -> bool:
    """Tell whether all operators have the same static precision."""
    return len(set(precisions)) == 1 and precisions[0] in BITS


def calibrated_ranges(
    graph: Graph,
    feeds: Sequence[Sequence[Array]],
    calibrator: Calibrator,
    *,
    everything: bool,
    seen: Mapping[int, HistogramObserver] | None = None,
    imported: Imported | None = None,
    held: Held = (),
    progress: Progress | None = None,
) -> dict[int, Range]:
    """Return the ranges of a lowered float graph's activations.

    The arguments are those of `collect_statistics`.
    """
    found = collect_statistics(
        graph,
        feeds,
        everything=everything,
        seen=seen,
        imported=imported,
        held=held,
        progress=progress,
    )
    return ranges_of(found, calibrator)


def collect_statistics(
    graph: Graph,
    feeds: Sequence[Sequence[Array]],
    *,
    everything: bool,
    seen: Mapping[int, HistogramObserver] | None = None,
    imported: Imported | None = None,
    held: Held = (),
    progress: Progress | None = None,
) -> dict[int, HistogramObserver]:
    """Return what a lowered float graph's activations hold.

    Args:
        graph: The graph.
        feeds: Per sample the graph's inputs, in the stored form.
        everything: Whether to watch every activation, not only those that decide when all
            operators have the same precision.
        seen: What was seen of the same activations over other samples, which is added to.
        imported: The scales that the model brought; none where ``None``.
        held: What the graph's inputs can hold, in order; nothing is watched of those.
        progress: Told (samples done, samples in all).
    """
    bits = dict.fromkeys(graph.activations(), 8)
    known = quant_params_of(graph, held, bits)
    plan = Plan(graph, given=known | (imported.affine if imported else {}))
    tensors = graph.activations() if everything else plan.calibrated()
    # What moves a known input may be float, and its copy of 8 bits then has a range of its own.
    idle = known.keys() & set(graph.inputs) if everything else known.keys()
    tensors = [index for index in tensors if index not in idle]
    if not tensors:
        return {}
    found = observe_tensors(graph, tensors, feeds, seen=seen, views=plan.views(), progress=progress)
    mark(graph, found)
    return found


def build(
    graph: Graph,
    ranges: dict[int, Range],
    precisions: Sequence[Precision],
    io_dtype: IoDtype,
    imported: Imported | None = None,
    held: Held = (),
) -> dict[str, Range]:
    """Quantize a lowered float graph in place.

    Args:
        graph: The graph.
        ranges: What `calibrated_ranges` returned for it.
        precisions: The precision of each operator.
        io_dtype: dtype of the graph's inputs and outputs that stand for real numbers.
        imported: The scales that the model brought; none where ``None``.
        held: What the graph's inputs can hold, in order.

    Returns:
        By name, beyond what the values of a tensor do not matter to its readers.

    Raises:
        ConversionError: A float tensor is left beside an integer operator.
        InvalidData: The range of a tensor that becomes an integer one is not finite.
    """
    imported = imported or Imported()
    imported.settle(graph)
    real = io_dtype == "float32"
    centre(graph, held, precisions, real=real)
    chosen = chooser(graph, precisions)
    if uniform(precisions) and _edges_fit(precisions[0], io_dtype):
        bits = dict.fromkeys(graph.activations(), BITS[precisions[0]])
        plan = Plan(graph, bits, quant_params_of(graph, held, bits, real=real) | imported.affine)
    else:
        parts = split(graph, precisions, io_dtype)
        copies = {copy: imported.affine.get(index) for copy, index in parts.origin.items()}
        given = {copy: affine for copy, affine in copies.items() if affine is not None}
        known = quant_params_of(graph, held, parts.bits, parts.origin, real=real)
        plan = Plan(graph, parts.bits, known | imported.affine | given)
        ranges = {index: ranges[parts.origin.get(index, index)] for index in plan.calibrated()}
    require_finite(graph, {index: ranges[index] for index in plan.calibrated()})
    affine = plan.choose(ranges)
    needed = {graph.name(index): found for index, found in plan.needed().items()}
    rewrite(graph, affine, io_dtype, imported.scales.of_weight, plan.rescaled())
    check.integers_meet(graph, chosen)
    weights.quantize(graph, chosen)
    return needed


def _edges_fit(precision: str, io_dtype: str) -> bool:
    """Tell whether the inputs and outputs can have the precision of the operators at the edge."""
    return io_dtype in ("float32", precision) or (precision, io_dtype) == ("int8", "uint8")
