"""Quantize a float TFLite model: the entry for a worker process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from edgeconv.core.amounts import MaxDrop
from edgeconv.core.artifacts import Array, Artifact
from edgeconv.core.errors import UsageError
from edgeconv.core.options import SplitOutputs
from edgeconv.core.states import State
from edgeconv.core.wording import named
from edgeconv.quantize import remarks
from edgeconv.quantize.islands import index_path, islands
from edgeconv.quantize.islands.index_path import IndexPath
from edgeconv.quantize.joins import apart, carried, cells
from edgeconv.quantize.joins.describe import describe
from edgeconv.quantize.joins.distribute import Parts
from edgeconv.quantize.mixed.search import Search
from edgeconv.quantize.params import factors
from edgeconv.quantize.params.input_scales import Held
from edgeconv.quantize.params.qparams import Range
from edgeconv.quantize.recovery import RECOVERIES, RETIRED
from edgeconv.quantize.recovery.base import Candidate
from edgeconv.quantize.recovery.recover import Step, recover
from edgeconv.quantize.rewrite import check, magnitude, qdq, static, weights
from edgeconv.quantize.rewrite.edges import IoDtype
from edgeconv.quantize.rewrite.lower import lower
from edgeconv.quantize.rewrite.qdq import Imported
from edgeconv.quantize.rules.names import NAMED
from edgeconv.quantize.rules.precision import (
    BITS,
    MODES,
    Origins,
    Precision,
    Rule,
    assign,
    chooser,
)
from edgeconv.quantize.statistics.calibrate import Progress
from edgeconv.quantize.statistics.calibrators import CALIBRATORS, Calibrator
from edgeconv.quantize.statistics.calibrators.roomy import Roomy
from edgeconv.quantize.statistics.feeds import feeds_of, held_of, read_samples
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph


def quantize(
    model: dict[str, Any],
    path: str,
    mode: str,
    io_dtype: str = "float32",
    samples: str | None = None,
    calibrator: str = "minmax",
    rules: Sequence[dict[str, Any]] = (),
    max_drop: str | None = None,
    mixed: bool = True,
    split_outputs: SplitOutputs = "auto",
    onnx: str | None = None,
    origins: Origins | None = None,
    disable_recovery: Sequence[str] = (),
    input_scales: Mapping[str, Mapping[str, Any]] | None = None,
    states: Sequence[dict[str, Any]] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Quantize a float TFLite model, and check that the result loads and runs.

    Args:
        model: The float model, as `Artifact.to_dict` gives it.
        path: The file to write.
        mode: ``fp16`` (weights stored as float16), ``dynamic`` (int8 weights, float activations),
            ``weight-only`` (int8 weights, float arithmetic), ``int8`` (everything) or ``int16x8``
            (int16 activations, int8 weights).
        io_dtype: dtype of the inputs and outputs that stand for real numbers: ``float32``,
            ``int8`` or ``uint8``, the latter two where activations are integers; ``int16`` in
            ``int16x8`` mode.
        samples: ``.npz`` file of calibration inputs by input name, in the source model's layout,
            with a leading sample axis; needed where activations are integers.
        calibrator: A name of `calibrators.CALIBRATORS`.
        rules: Operators of other precision, as `Rule.to_dict` gives them; later ones win.
        max_drop: The most that ``int8`` mode may lose, as `MaxDrop` reads it.
        mixed: Whether layers may be kept in 16 bits for that; otherwise it is only said which.
        split_outputs: Whether integer outputs become several where their parts differ in range:
            ``auto``, ``never``, or ``always``, whatever the ranges.
        onnx: The ONNX file that the model was made from, for the scales that it may state.
        origins: Names of the ONNX nodes and PyTorch modules, for rules and notes.
        disable_recovery: Methods of `recovery` that are left out; ``all`` for every one.
        input_scales: What the inputs can hold, by name, as `InputScale.to_dict` gives it; what the
            samples tell where ``None``.
        states: The model's states, as `State.to_dict` gives them; both ends of each get one scale.
        progress: Called with the number of calibrated samples and their total.

    Returns:
        The quantized model, as `Artifact.to_dict` gives it; ``notes`` for the report; and of a
        model with integer activations ``recovery``, what was tried and what it gained.

    Raises:
        UsageError: An argument is not known, does not fit the mode, or matches nothing.
        InvalidModel: The file is not a float TFLite model with fixed shapes.
        InvalidData: The samples do not fit the model, or lead to NaN or infinity.
        UnsupportedModel: Operators with no int8 form; all are listed.
    """
    artifact = Artifact.from_dict(model)
    _check_arguments(mode, io_dtype, calibrator, split_outputs)
    disabled = _disabled(disable_recovery)
    tried: list[Step] = []
    joined: dict[int, Parts] = {}
    graph = Graph(tflite.load(artifact.path, in_place=True))
    graph.states = carried.stored(tuple(map(State.from_dict, states)), artifact.outputs)
    imported = qdq.take(graph, None if onnx is None else Path(onnx))
    check.float_model(graph, str(artifact.path))
    precisions = assign(graph, MODES[mode], [Rule(**rule) for rule in rules], origins or {})
    if BITS.keys() & {MODES[mode], *precisions}:
        check.fixed_shapes(graph, str(artifact.path))
        if onnx is not None:
            qdq.require_real(Path(onnx))
        arrays = read_samples(_required(samples, mode), artifact.inputs)
        feeds = feeds_of(arrays, artifact.inputs, graph)
        route = index_path.find(graph, precisions, MODES[mode], feeds, imported.affine)
        request = _Static(
            graph,
            route,
            feeds,
            CALIBRATORS[calibrator],
            _io(io_dtype),
            max_drop,
            mixed,
            imported,
            origins or {},
            disabled,
            held_of(artifact.inputs, arrays, input_scales, graph.states),
            split_outputs,
        )
        graph, notes, tried, joined = request.run(progress)
    else:
        notes = remarks.unused(imported, mode)
        weights.quantize(graph, chooser(graph, precisions))
        for position in range(1, len(graph.model.subgraphs)):
            inner = Graph(graph.model, position)
            weights.quantize(inner, chooser(inner, [MODES[mode]] * len(inner.operators)))
    tflite.save(graph.model, Path(path))
    check.runs(Path(path))
    described = describe(artifact, graph, Path(path), joined).to_dict()
    return {**described, "notes": notes, "recovery": [asdict(step) for step in tried]}


@dataclass(frozen=True, slots=True)
class _Static:
    """A graph that is to have integer activations, and how; the fields are `quantize`'s."""

    graph: Graph
    path: IndexPath
    feeds: Sequence[Sequence[Array]]
    calibrator: Calibrator
    io_dtype: IoDtype
    max_drop: str | None
    mixed: bool
    imported: Imported
    origins: Origins
    disabled: Collection[str]
    held: Held
    split_outputs: SplitOutputs

    def run(
        self, progress: Progress | None
    ) -> tuple[Graph, list[str], list[Step], dict[int, Parts]]:
        """Quantize.

        Returns:
            The quantized graph, the notes, what was tried to win accuracy back, and by place the
            outputs that have become several.
        """
        graph, imported = self.graph, self.imported
        if imported.affine and self.max_drop is not None:
            raise UsageError(
                f"{named('max_drop')} does not fit a model that brings its own scales",
                why=f"{len(imported.affine)} activations have a QuantizeLinear",
                hint="leave one of them out",
            )
        asked = chooser(graph, self.path.precisions)
        exact = remarks.exact(graph, self.path, self.origins, self.io_dtype)
        lowered = lower(graph, self.path.precisions)
        unused = [] if "int8" in lowered else remarks.unused(imported, "int16x8")
        if unused:
            imported = Imported()
        notes = [*exact, *remarks.left_float(graph, asked, lowered), *unused]
        if self.mixed:
            lowered, said = islands.formless(graph, lowered)
            notes += said
        check.supported(graph, lowered, mixed=self.mixed)
        lowered, said = islands.hidden(graph, lowered, self.feeds)
        notes += said
        lowered, said = magnitude.in_float(graph, lowered)
        notes += said
        outputs = [graph.name(index) for index in graph.outputs]
        parted = apart.separate(
            graph,
            lowered,
            self.feeds,
            integer=self.io_dtype != "float32",
            split_outputs=self.split_outputs,
            float_inside=self.mixed,
            given=imported.affine,
        )
        lowered, notes = parted.precisions, notes + parted.notes
        graph.states, said = carried.follow(graph, outputs, parted.outputs)
        notes += said
        if self.io_dtype == "float32":
            lowered, said = carried.apart_in_float(graph, lowered, self.feeds)
            notes += said
        lowered, said = cells.in_16_bits(graph, lowered, self.feeds, mixed=self.mixed)
        notes += said
        candidate, tried, said = self._recovered(
            Candidate(graph, self.feeds, self._calibrator(lowered), lowered, held=self.held),
            imported,
        )
        notes += said
        graph, lowered = candidate.graph, list(candidate.precisions)
        if self.max_drop is not None:  # it asks for the ranges of all activations
            candidate = replace(candidate, feeds=self.feeds, seen={})
        everything = self.max_drop is not None or not static.uniform(lowered)
        report = self._counted(len(candidate.feeds), progress)
        ranges = static.calibrated_ranges(
            graph,
            candidate.feeds,
            candidate.calibrator,
            seen=candidate.seen,
            imported=imported,
            held=self.held,
            everything=everything,
            progress=report,
        )
        ranges = dict(candidate.ranged(ranges).ranges)
        notes += remarks.used(graph, imported, ranges)
        notes += _untold(graph, self.feeds, ranges) + self._input_notes(imported)
        if self.max_drop is not None:
            limit = MaxDrop.parse(self.max_drop)
            found = Search(graph, ranges, lowered, self.feeds, limit, self.held).run(progress)
            notes.append(remarks.kept(graph, found, limit, self.origins, mixed=self.mixed))
            lowered = found.precisions if self.mixed else lowered
        notes += remarks.divided(graph, lowered)
        static.build(graph, ranges, lowered, self.io_dtype, imported, self.held)
        factors.write(graph, candidate.factors)
        return graph, notes, tried, parted.outputs

    def _input_notes(self, imported: Imported) -> list[str]:
        """Say which inputs have the scale of their source, and why."""
        return [
            scale.note(self.graph.name(index))
            for index, scale in zip(self.graph.inputs, self.held, strict=False)
            if scale is not None and self.graph.is_float(index) and index not in imported.affine
        ]

    def _counted(self, left: int, progress: Progress | None) -> Progress | None:
        """Tell that all samples but those left are done, and return what counts these."""
        if progress is None:
            return None
        done, total = len(self.feeds) - left, len(self.feeds)
        if done:
            progress(done, total)
        return lambda count, _: progress(done + count, total)

    def _calibrator(self, precisions: Sequence[Precision]) -> Calibrator:
        """Return what chooses ranges: with room where no activation has only 8 bits."""
        return self.calibrator if "int8" in precisions else Roomy(self.calibrator)

    def _recovered(
        self, candidate: Candidate, imported: Imported
    ) -> tuple[Candidate, list[Step], list[str]]:
        """Try what wins accuracy back, where int8 is and the scales are ours to choose."""
        idle = imported.affine or not BITS.keys() & {*candidate.precisions} or not self.feeds
        if idle or set(self.disabled) >= {method.name for method in RECOVERIES}:
            return candidate, [], []
        return recover(candidate, self.disabled)


def _untold(
    graph: Graph, feeds: Sequence[Sequence[Array]], ranges: Mapping[int, Range]
) -> list[str]:
    """Say of which ranges the calibration samples tell nothing."""
    notes = []
    for index, values in zip(graph.inputs, zip(*feeds, strict=True), strict=False):
        ends = {float(end) for array in values if array.size for end in (array.min(), array.max())}
        if graph.is_float(index) and len(ends) == 1:
            name = graph.name(index)
            notes.append(f"input {name} is {ends.pop():g} in all calibration samples, throughout")
    empty = [graph.name(index).partition(";")[0] for index, one in ranges.items() if one.width == 0]
    if empty:
        names = ", ".join(empty[:NAMED]) + (", ..." if len(empty) > NAMED else "")
        what = f"{len(empty)} activations are zero in all calibration samples"
        notes.append(f"{what}, so that their range is taken as 0 to 1: {names}")
    return notes


def _disabled(names: Sequence[str]) -> set[str]:
    known = [method.name for method in RECOVERIES]
    for name in names:
        if name not in (*known, *RETIRED, "all"):
            raise UsageError(
                f"{named('disable_recovery')} {name} is not known",
                hint="use " + ", ".join((*known, "all")),
            )
    return set(known) if "all" in names else set(names)


def _check_arguments(mode: str, io_dtype: str, calibrator: str, split_outputs: str) -> None:
    choices = {"mode": (mode, tuple(MODES)), "io_dtype": (io_dtype, get_args(IoDtype))}
    choices["split_outputs"] = (split_outputs, get_args(SplitOutputs))
    choices["calibrator"] = (calibrator, tuple(CALIBRATORS))
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise UsageError(
                f"{name} {value} is not known", hint="use one of " + ", ".join(allowed)
            )
    if io_dtype != "float32" and MODES[mode] not in BITS:
        raise UsageError(f"io_dtype {io_dtype} needs mode int8 or int16x8, not {mode}")
    if io_dtype == "int16" and mode != "int16x8":
        raise UsageError(f"io_dtype int16 needs mode int16x8, not {mode}")


def _required(samples: str | None, mode: str) -> Path:
    if samples is None:
        raise UsageError(f"{mode} needs calibration samples")
    return Path(samples)


def _io(name: str) -> IoDtype:
    return next(choice for choice in get_args(IoDtype) if choice == name)
