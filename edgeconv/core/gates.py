"""Which parity each stage must reach: the metrics, and the default limits as data.

A gate is a mapping of metric to limit. Every metric of the gate that applies to an output must
hold for it; see `edgeconv.metrics.parity` for what the metrics are and when they apply.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from types import MappingProxyType

from edgeconv.core.errors import UsageError, meant
from edgeconv.core.wording import named

Gate = dict[str, float]
"""Limits by metric."""

Gates = Mapping[str, Mapping[str, float]]
"""Gates by stage."""

AT_LEAST = ("sqnr_db", "cosine", "top1_agreement", "exact", "rows")
"""Metrics whose limit is the smallest value that passes."""

SHORT_NAMES: Mapping[str, str] = MappingProxyType({"sqnr": "sqnr_db", "top1": "top1_agreement"})
"""What may be written for a metric."""

AT_MOST = ("max_abs", "mean_abs", "max_rel", "peak_error")
"""Metrics whose limit is the largest value that passes."""

EVERY_STAGE = "all"
"""Stage name in overrides that stands for every stage."""

# Correct float conversions measure 100 to 125 dB; one wrong border pixel hardly moves that
# figure, so the largest single error is limited too. Rounding weights to fp16 costs down to
# about 50 dB in deep networks. `exact` applies to integer and boolean outputs only: an argmax
# may flip where two scores tie within the noise. `rows` applies to rows that an operator chose and
# ordered: which of those at the cut-off it chose is not counted. `top1_agreement` applies to float
# outputs of shape [N, C] that may be class scores, see `edgeconv.convert.onnx.scores`.
FLOAT_GATE: Gate = {"sqnr_db": 80.0, "peak_error": 1e-3, "exact": 0.99, "rows": 0.999}
"""What every stage must hold that computes the same in float."""

_STEPS: Gate = {"sqnr_db": 25.0, "peak_error": 0.1, "exact": 0.9, "rows": 0.9}
"""What takes the place of a float gate where the model simulates quantization: noise decides on
which side of a step a value falls, and a step is 1/255 of the range."""

CLASSES: Gate = {"top1_agreement": 0.9}
"""What a classifier must keep where a stage loses accuracy."""

DEFAULT_GATES: Gates = MappingProxyType(
    {
        "torch": FLOAT_GATE,
        "onnx": FLOAT_GATE,
        "saved_model": FLOAT_GATE,
        "onnx-tf": FLOAT_GATE,
        "tflite_fp32": FLOAT_GATE,
        "tflite_fp16": {"sqnr_db": 40.0, "exact": 0.95, "rows": 0.95, **CLASSES},
        "tflite_dynamic": {"sqnr_db": 15.0, "exact": 0.8, "rows": 0.8, **CLASSES},
        "tflite_weight-only": {"sqnr_db": 20.0, "exact": 0.9, "rows": 0.9, **CLASSES},
        "tflite_int16x8": {"sqnr_db": 20.0, "exact": 0.9, "rows": 0.9, **CLASSES},
        "tflite_int8": {"sqnr_db": 12.0, "exact": 0.8, "rows": 0.8, **CLASSES},
    }
)
"""The gate of each stage that no target adds; those of targets are in `edgeconv.targets.gates`. A
stage that is not listed has the gate of ``tflite_int8``."""

TOLERANCE_DB = 1.0
"""As many decibels of SQNR may be lost against an earlier report."""


def gate_for(
    stage: str,
    overrides: Gates,
    *,
    simulated: bool = False,
    reference: str = "",
    known: Gates = DEFAULT_GATES,
) -> Gate:
    """Return the gate of a stage: its defaults, then overrides for all stages, then its own.

    Args:
        stage: Name of the stage.
        overrides: Gates by stage.
        simulated: Whether the model simulates quantization.
        reference: The stage that it is compared with, where that is not exact either: the defaults
            are those of the stage that may lose more.
        known: The default gates by stage.
    """
    defaults = known.get(stage, known["tflite_int8"])
    other = known.get(reference, defaults)
    if other["sqnr_db"] < defaults["sqnr_db"]:
        defaults = other
    if simulated and defaults is FLOAT_GATE:
        defaults = _STEPS
    return {**defaults, **overrides.get(EVERY_STAGE, {}), **overrides.get(stage, {})}


def parse_gate(text: str, stages: Collection[str] | None = DEFAULT_GATES) -> tuple[str, str, float]:
    """Parse ``[STAGE:]METRIC=VALUE`` into stage (or `EVERY_STAGE`), metric and limit.

    Args:
        text: The text.
        stages: The stages that may be named; ``None`` where that is checked later.

    Raises:
        UsageError: The text is not of that form, or names an unknown metric or stage.
    """
    left, equals, value = text.partition("=")
    stage, colon, metric = left.rpartition(":")
    metric = SHORT_NAMES.get(metric, metric)
    try:
        limit = float(value)
    except ValueError:
        equals, limit = "", math.nan
    if not equals or (colon and not stage):
        raise UsageError(
            f"{named('gates')} {text} is not understood",
            hint="write it as [STAGE:]METRIC=VALUE, for example tflite_int8:sqnr_db=20",
        )
    check_gate(stage or EVERY_STAGE, metric, limit, stages)
    return stage or EVERY_STAGE, metric, limit


def check_gate(
    stage: str, metric: str, limit: float, stages: Collection[str] | None = DEFAULT_GATES
) -> None:
    """Refuse a limit that would never be looked at.

    Args:
        stage: The stage, or `EVERY_STAGE`.
        metric: The metric.
        limit: Its limit.
        stages: The stages that there are; ``None`` where that is checked later.

    Raises:
        UsageError: The stage or the metric is not known, or the limit is not a number.
    """
    if stages is not None:
        check_stage(stage, stages)
    if metric not in (*AT_LEAST, *AT_MOST):
        raise UsageError(
            f"{named('gates')} names the metric {metric}, which is not known",
            hint=meant(metric, (*SHORT_NAMES, *AT_LEAST, *AT_MOST)),
        )
    if math.isnan(limit):
        raise UsageError(f"{named('gates')} {stage}:{metric} must be a number, not {limit}")


def check_stage(stage: str, stages: Collection[str]) -> None:
    """Refuse a stage that gates are given for and that is none of those that there are.

    Raises:
        UsageError: It is none of them.
    """
    if stage != EVERY_STAGE and stage not in stages:
        raise UsageError(
            f"{named('gates')} names the stage {stage}, which is not known",
            hint=meant(stage, (*stages, EVERY_STAGE)),
        )
