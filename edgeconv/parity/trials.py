"""The next steps against int8's loss, tried: what is kept in float, what else is chosen, measured.

A trial is what its options do in a conversion of its own, so that its figures are what a user gets
who takes the advice. What loses the most lies together more often than not: the largest module that
holds the worst layers is tried first, then smaller ones, the layers from the first to the last of
the worst, and each by itself.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeconv.core.artifacts import Artifact
from edgeconv.core.disk import sha256_of
from edgeconv.core.errors import EdgeconvError, first_line
from edgeconv.core.options import CALIBRATED_MODES, ConvertOptions
from edgeconv.metrics.layer_errors import LayerError, ranked
from edgeconv.metrics.layers_report import Trial
from edgeconv.metrics.parity import OutputFigures, worst_sqnr
from edgeconv.metrics.report import FAIL, StageParity
from edgeconv.parity.check import Verifier
from edgeconv.parity.layers.measure import StageLayers
from edgeconv.quantize.rules.precision import Rule, keep
from edgeconv.quantize.stage import Quantize
from edgeconv.toolchain.worker.stage import StageContext

MOST_LAYERS = 3
"""As many layers are tried one by one; their common modules are, too."""

_WIDER = 5
"""The modules of so many of the worst layers are looked at."""

_LONGEST_RANGE = 12
"""A range of more layers is no longer written as one option for each."""

_MOST_OF_ALL = 0.8
"""A module with a larger share of the layers is the network: in float nothing is left of int8."""

_SECONDS = 120.0
"""No trial begins that would end later than this after the first one began, going by the others."""

_WORTH_DB = 0.5


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What may be tried.

    Attributes:
        options: What a user would write.
        keep_float: Patterns of what stays in float.
        changed: Options with other values.
        layer: The layer that it is about, where it is one.
    """

    options: tuple[str, ...]
    keep_float: tuple[str, ...] = ()
    changed: tuple[tuple[str, Any], ...] = ()
    layer: str = ""

    def rules(self) -> tuple[Rule, ...]:
        """Return the precisions that it asks for."""
        return tuple(keep(pattern, "float", "--keep-float") for pattern in self.keep_float)


def try_next_steps(
    found: StageLayers, stage: Quantize, source: Artifact, context: StageContext, verifier: Verifier
) -> StageLayers:
    """Return the layers of a stage with what was tried against its loss.

    Of a stage that failed the trials end with the first that passes, unless all were asked for
    (`ConvertOptions.explain`).

    Args:
        found: The layers of the stage.
        stage: The stage, which has been checked.
        source: The float artifact that it quantized.
        context: What it was given.
        verifier: Has the samples, and the figures of the stage.
    """
    entry = next((item for item in verifier.stages if item.stage == stage.name), None)
    before = None if entry is None else worst_sqnr(entry.outputs)
    if entry is None or before is None or stage.mode not in CALIBRATED_MODES:
        return found
    bench = _Bench(stage, source, context, verifier, entry)
    trials: list[Trial] = []
    began = time.monotonic()
    for candidate in _candidates(found.layers, stage, context.options):
        longest = (time.monotonic() - began) / max(1, len(trials))
        if trials and time.monotonic() - began + longest > _SECONDS:
            break
        trials.append(bench.measured(candidate, before))
        if trials[-1].passes and entry.status == FAIL and not context.options.explain:
            break
    told = {trial.layer: trial for trial in trials if trial.layer}
    layers = tuple(
        _advised(layer, told[layer.name]) if layer.name in told else layer for layer in found.layers
    )
    digest = sha256_of(stage.path(context))
    return replace(found, layers=layers, digest=digest, trials=tuple(trials))


def _candidates(
    layers: Sequence[LayerError], stage: Quantize, options: ConvertOptions
) -> Iterator[_Candidate]:
    """Yield what may help, the largest first."""
    if stage.mixed and options.max_drop is None:
        worst = [layer for layer in ranked(layers) if layer.op not in ("QUANTIZE", "DEQUANTIZE")]
        seen: set[tuple[str, ...]] = set()
        for candidate in (*_modules(layers, worst), *_ranges(layers, worst), *_each(worst)):
            if candidate.keep_float not in seen:
                seen.add(candidate.keep_float)
                yield candidate
        if stage.mode == "int8" and options.io_dtype in (None, "float32"):
            yield _Candidate(("--quantize", "int16x8"), changed=(("quantize", "int16x8"),))
        return
    if options.max_drop is None:
        for name in ("minmax", "mse", "percentile"):
            if name != options.calibrator:
                yield _Candidate(("--calibrator", name), changed=(("calibrator", name),))
        if "all" not in options.disable_recovery:
            yield _Candidate(
                ("--disable-recovery", "all"), changed=(("disable_recovery", ("all",)),)
            )


def _modules(layers: Sequence[LayerError], worst: Sequence[LayerError]) -> Iterator[_Candidate]:
    """Yield the modules that hold several of the worst layers, then those of the worst one."""
    names = [layer.module for layer in worst[:_WIDER] if layer.module]
    common = [_common(names[:count]) for count in range(len(names), 1, -1)]
    for module in (*common, *names[:1]):
        inside = sum(_holds(module, layer.module) for layer in layers)
        if module and 1 < inside <= _MOST_OF_ALL * len(layers):
            pattern = f"{glob.escape(module)}*"
            yield _Candidate(("--keep-float", pattern), (pattern,))


def _common(modules: Sequence[str]) -> str:
    """Return the innermost module that holds all of some modules, ``""`` for none."""
    shared: list[str] = []
    for parts in zip(*(module.split(".") for module in modules), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}.")


def _ranges(layers: Sequence[LayerError], worst: Sequence[LayerError]) -> Iterator[_Candidate]:
    """Yield all layers from the first to the last of the worst ones."""
    places = [index for index, layer in enumerate(layers) if layer in worst[:MOST_LAYERS]]
    if len(places) > 1 and places[-1] - places[0] < min(_LONGEST_RANGE, len(layers) - 1):
        between = layers[places[0] : places[-1] + 1]
        patterns = tuple(dict.fromkeys(map(_pattern, between)))
        options = tuple(part for pattern in patterns for part in ("--keep-float", pattern))
        yield _Candidate(options, patterns)


def _each(worst: Sequence[LayerError]) -> Iterator[_Candidate]:
    for layer in worst[:MOST_LAYERS]:
        pattern = _pattern(layer)
        yield _Candidate(("--keep-float", pattern), (pattern,), layer=layer.name)


def _pattern(layer: LayerError) -> str:
    return f"*{glob.escape(layer.onnx_node or layer.name.split(';')[-1])}"


class _Bench:
    """Where candidates are tried: as the stage was made, but for what they change."""

    def __init__(
        self,
        stage: Quantize,
        source: Artifact,
        context: StageContext,
        verifier: Verifier,
        entry: StageParity,
    ) -> None:
        self._stage, self._source, self._context = stage, source, context
        self._verifier, self._entry = verifier, entry
        self._path = context.directory / ".work" / "trial.tflite"

    def measured(self, candidate: _Candidate, before: float) -> Trial:
        """Quantize as a candidate says, and compare with what the stage reached."""
        try:
            figures, reasons = self._judged(candidate, self._path)
        except EdgeconvError as error:
            failed = first_line(error)
            return Trial(candidate.options, layer=candidate.layer, failed=failed)
        finally:
            self._path.unlink(missing_ok=True)
        reached = worst_sqnr(figures)
        return Trial(
            candidate.options,
            reached_db=reached,
            gain_db=None if reached is None else round(reached - before, 2),
            passes=not reasons,
            layer=candidate.layer,
        )

    def _judged(
        self, candidate: _Candidate, path: Path
    ) -> tuple[tuple[OutputFigures, ...], tuple[str, ...]]:
        changed = dict(candidate.changed)
        options = replace(self._context.options, **changed)
        stage = replace(self._stage, mode=options.quantize)
        context = replace(self._context, options=options)
        answer = stage.quantized(self._source, context, path, candidate.rules())
        return self._verifier.judged(Artifact.from_dict(answer), self._entry.gate)


def _advised(layer: LayerError, trial: Trial) -> LayerError:
    option = f"--keep-float '{trial.options[1]}'"
    if trial.failed:
        return replace(layer, advice=f"{option} was tried, and failed: {trial.failed}")
    if trial.gain_db is None:
        return layer
    worth = trial.gain_db >= _WORTH_DB
    advice = f"keep it in float: {option}" if worth else f"{option} was tried, and is not worth it"
    return replace(layer, advice=advice, gain_db=trial.gain_db)
