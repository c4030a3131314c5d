"""The Coral Edge TPU as a target: integer models, legalised before they are quantized."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgeconv.core.artifacts import Artifact, Format
from edgeconv.core.errors import UsageError
from edgeconv.core.gates import CLASSES, FLOAT_GATE, Gates
from edgeconv.core.options import ConvertOptions
from edgeconv.core.wording import named
from edgeconv.quantize.rules.precision import Rule
from edgeconv.targets.base import Assessment, BaseTarget, Probe, require_int8
from edgeconv.targets.compiling import CompilerResult, CompilerRun
from edgeconv.targets.coral import compile_stage
from edgeconv.targets.coral.compiler.find import require
from edgeconv.targets.coral.options import CoralOptions
from edgeconv.targets.coral.placement.front_end import LEFT_FLOAT
from edgeconv.targets.coral.settings import SETTINGS
from edgeconv.targets.placement import Placement
from edgeconv.toolchain.device.part import DevicePart
from edgeconv.toolchain.worker.pool import WorkerKind
from edgeconv.toolchain.worker.stage import Stage, StageContext

if TYPE_CHECKING:
    from edgeconv.targets.coral.placement.predict import Prediction
    from edgeconv.targets.placement import Cut

_MOST_NOTES = 12
_LEGALISED, _APPROXIMATED = "tflite_legalised", "tflite_approximated"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Legalise:
    """Float TFLite to float TFLite of operators that the Edge TPU maps."""

    allow_approximate: bool
    cut: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``tflite_legalised``; ``tflite_approximated`` where it need not be exact."""
        return _APPROXIMATED if self.allow_approximate else _LEGALISED

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        """Rewrite in the quantizer's worker."""
        from edgeconv.convert.onnx.origin import origins_of

        answer = context.workers.call(
            WorkerKind.QUANTIZER,
            "edgeconv.targets.coral.legalise.engine:legalise",
            model=source.to_dict(),
            path=str(context.directory / f"{context.name}_legalised_fp32.tflite"),
            allow_approximate=self.allow_approximate,
            cut=list(self.cut),
            origins=origins_of(context.directory / f"{context.name}.onnx") if self.cut else {},
            states=[state.input for state in context.states],
        )
        context.details["rewrites"] = answer["applied"]
        context.details["notes"] = _notes(answer["applied"]) + answer["notes"]
        for entry in answer["refused"]:
            _LOG.warning(
                "%s are left as they are: %s; --allow-approximate replaces them (%s)",
                _count(entry),
                entry["why"],
                entry["error"],
            )
        return Artifact.from_dict(answer["artifact"])


def _notes(applied: Sequence[dict[str, Any]]) -> list[str]:
    exact = ", ".join(_count(entry) for entry in applied if not entry["error"])
    notes = [f"rewritten for the Edge TPU: {exact}"] if exact else []
    return notes + [
        f"approximated for the Edge TPU: {_count(entry)}; {entry['error']}"
        for entry in applied
        if entry["error"]
    ]


def _count(entry: dict[str, Any]) -> str:
    return f"{len(entry['where'])} x {entry['name']}"


class Coral(BaseTarget):
    """The Coral Edge TPU: int8 activations and weights, fixed shapes, images channels last."""

    name = compile_stage.TARGET
    label = "the Edge TPU"
    place = compile_stage.STAGE
    word = compile_stage.STAGE
    also_called = ("edgetpu", "edge-tpu", "edge_tpu", "tpu")
    compiles = True
    settings = SETTINGS
    gates: Gates = MappingProxyType(
        {
            _LEGALISED: FLOAT_GATE,
            _APPROXIMATED: {"sqnr_db": 25.0, "exact": 0.9, "rows": 0.9, **CLASSES},
            compile_stage.STAGE: {"sqnr_db": 12.0, "exact": 0.8, "rows": 0.8, **CLASSES},
        }
    )
    float_stage_names = (_LEGALISED, _APPROXIMATED)
    mixed_precision = False
    fixed_shapes = True
    precision_rules = tuple(
        Rule("float", op=name, required=False, source="--target coral") for name in LEFT_FLOAT
    )
    """Leaves in float what the compiler does not know as integers."""
    keeps_old_operators = True
    options = CoralOptions

    def adapt(self, options: ConvertOptions) -> ConvertOptions:
        """Make integers of what was left at its default.

        Raises:
            UsageError: The options ask for float weights or activations, or for images channels
                first.
        """
        if options.quantize not in ("none", "int8"):
            raise UsageError(
                f"{named('target', self.name)} needs an int8 model, not "
                f"{named('quantize', options.quantize)}",
                why="the Edge TPU computes with 8 bit integers only",
                hint=f"use {named('quantize', 'int8')}",
            )
        for name in ("keep_float", "keep_int16", "recipe"):
            if getattr(options, name):
                raise UsageError(
                    f"{named('target', self.name)} takes no {named(name)}",
                    why="everything behind an operator that is not int8 would leave the Edge TPU",
                    hint=f"leave it out; {named('max_drop')} says which layers would need more "
                    "than 8 bits",
                )
        if options.io_layout != "nhwc":
            raise UsageError(
                f"{named('target', self.name)} needs {named('io_layout', 'nhwc')}, not "
                f"{options.io_layout}",
                why="the transpose that it takes would be refused, and everything after it",
                hint=f"leave {named('io_layout')} at nhwc",
            )
        changed: dict[str, Any] = {}
        if options.quantize == "none":
            changed["quantize"] = "int8"
        if options.io_dtype is None:
            changed["io_dtype"] = "int8"
        if changed:
            used = ", ".join(
                f"--{name.replace('_', '-')} {value} is used" for name, value in changed.items()
            )
            _LOG.warning("--target coral needs integers throughout: %s", used)
        return replace(options, **changed)

    def float_stages(self, options: ConvertOptions) -> Sequence[Stage]:
        """Return the rewriting."""
        own = options.of(CoralOptions)
        return (Legalise(own.allow_approximate, own.cut),)

    def stages(self, options: ConvertOptions) -> Sequence[Stage]:
        """Return the compiler, where there is one."""
        return compile_stage.stages(options)

    def assess(self, model: Artifact) -> Assessment:
        """Say where the operators of an integer model will run, and why some will not map."""
        if model.format is not Format.TFLITE:
            return Assessment()
        from edgeconv.targets.coral.placement.followed import for_converted
        from edgeconv.targets.coral.placement.predict import predict

        prediction = for_converted(predict(model.path))
        data = prediction.to_dict()
        del data["ops"]
        # Only an int8 model that no compiler took is still a TFLite file here.
        notes = (*_placed(prediction), compile_stage.skipped())
        return Assessment(notes, {"name": self.name, "compiled": False, **data})

    def placement(self, model: Path, *, converted: bool) -> Placement:
        """Predict what the compiler maps."""
        from edgeconv.targets.coral.placement.followed import for_converted
        from edgeconv.targets.coral.placement.predict import predict

        found = predict(model)
        return (for_converted(found) if converted else found).placement

    def deployable(self, models: Mapping[str, Artifact], where: str) -> str:
        """Return the int8 model."""
        return require_int8(models, self, where)

    def require_compiler(self, run: CompilerRun) -> None:
        """Refuse where there is no ``edgetpu_compiler``."""
        from edgeconv.targets.coral.compiler.service import options_of

        require(options_of(run).image)

    def compile(
        self, models: Sequence[Path], directory: Path, run: CompilerRun
    ) -> Sequence[CompilerResult]:
        """Run ``edgetpu_compiler``, and look at what it made."""
        from edgeconv.targets.coral.compiler.service import compile_all

        return compile_all(models, directory, run)

    def probes(self) -> Sequence[Probe]:
        """Return the compiler, the runtime, and what is attached."""
        from edgeconv.targets.coral import probes

        return probes.probes()

    def device_part(self) -> DevicePart | None:
        """Return how ``libedgetpu`` or ``pycoral`` runs a compiled model."""
        return DevicePart(
            self.place,
            self.label,
            self.suffix,
            resources.files("edgeconv.targets.coral").joinpath("device_part.py").read_text(),
            "For the Edge TPU it needs libedgetpu beside the runtime, or Google's pycoral instead.",
            "and so does the Edge TPU",
        )

    def notes_on(self, found: Mapping[str, Any]) -> Sequence[str]:
        """Say that PyPI's pycoral is in the place of Google's."""
        from edgeconv.targets.coral import probes

        return probes.notes_on(found)

    def describe(self, path: Path) -> Mapping[str, Any] | None:
        """Return what is in the custom operators."""
        from edgeconv.targets.coral import inside

        return inside.describe(path)

    def description(self, found: Mapping[str, Any]) -> Iterable[str]:
        """Return what is in the custom operators."""
        from edgeconv.targets.coral import inside

        return inside.lines(found)


def _placed(prediction: Prediction) -> tuple[str, ...]:
    total, there = len(prediction.ops), prediction.on_edgetpu
    share = f"{100 * prediction.macs_share:.1f} % of the multiplications"
    notes = [f"predicted: {there} of {total} operators map to the Edge TPU, with {share}"]
    notes += [f"the compiler would refuse the model: {text}" for text in _objections(prediction)]
    for (name, why, advice), cuts in _grouped(prediction.cuts).items():
        stranded = set().union(*(cut.stranded for cut in cuts))
        behind = f", and strands {len(stranded)} others" if stranded else ""
        notes.append(f"not mapped: {len(cuts)} x {name}, {why}{behind}; {advice}")
    return tuple(notes[:_MOST_NOTES])


def _objections(prediction: Prediction) -> list[str]:
    counts = Counter((item.op, item.why, item.advice) for item in prediction.objections)
    return [
        f"{f'{count} x {name}: ' if name else ''}{why}; {advice}"
        for (name, why, advice), count in counts.items()
    ]


def _grouped(cuts: Sequence[Cut]) -> dict[tuple[str, str, str], list[Cut]]:
    """Group what does not map by operator and advice; the first stands for the group's reason."""
    groups: dict[tuple[str, str], list[Cut]] = {}
    for cut in cuts:
        groups.setdefault((cut.op, cut.advice), []).append(cut)
    return {(name, found[0].why, advice): found for (name, advice), found in groups.items()}
