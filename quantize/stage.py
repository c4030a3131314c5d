"""The stage of quantization: float TFLite to one of fewer bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.core.artifacts import Artifact
from edgeconv.core.errors import WorkerCrashed
from edgeconv.quantize.rules.precision import Rule
from edgeconv.quantize.rules.recipe import rules_of
from edgeconv.toolchain.runtimes import suspects
from edgeconv.toolchain.worker.pool import WorkerKind
from edgeconv.toolchain.worker.stage import StageContext


@dataclass(frozen=True, slots=True)
class Quantize:
    """Float TFLite to a quantized one.

    Attributes:
        mode: What becomes of the operators that no rule names.
        mixed: Whether the model may have operators of other precision.
        rules: Operators of other precision, before those that the options name.
    """

    mode: str
    mixed: bool = True
    rules: Sequence[Rule] = ()

    @property
    def name(self) -> str:
        """``tflite_int8``, ``tflite_fp16``, ``tflite_dynamic``, ..."""
        return f"tflite_{self.mode}"

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        """Quantize in the quantizer's worker."""
        answer = self.quantized(source, context, self.path(context))
        context.details["notes"] = answer["notes"]
        if answer["recovery"]:
            context.details["recovery"] = answer["recovery"]
        return Artifact.from_dict(answer)

    def path(self, context: StageContext) -> Path:
        """Return the file that the stage writes."""
        return context.directory / f"{context.name}_{self.mode}.tflite"

    def quantized(
        self, source: Artifact, context: StageContext, path: Path, more: Sequence[Rule] = ()
    ) -> dict[str, Any]:
        """Write a quantized file, and return what `edgeconv.quantize.engine.quantize` does.

        Args:
            source: The float file.
            context: What the stage is given.
            path: The file to write.
            more: Rules that win over those of the stage and of the options.
        """
        from edgeconv.convert.onnx.origin import origins_of

        onnx = context.directory / f"{context.name}.onnx"
        arguments = {
            "model": source.to_dict(),
            "path": str(path),
            "mode": self.mode,
            "io_dtype": context.options.io_dtype,
            "samples": str(context.calibration),
            "calibrator": context.options.calibrator,
            "disable_recovery": list(context.options.disable_recovery),
            "input_scales": context.input_scales,
            "rules": [rule.to_dict() for rule in (*self.rules, *rules_of(context.options), *more)],
            "max_drop": context.options.max_drop,
            "mixed": self.mixed,
            "split_outputs": context.options.split_outputs,
            "onnx": str(onnx),
            "origins": origins_of(onnx),
            "states": [state.to_dict() for state in context.states],
        }
        try:
            return _quantize(context, arguments)
        except WorkerCrashed:
            return _cautiously(context, arguments, path)


def _quantize(context: StageContext, arguments: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = context.workers.call(
        WorkerKind.QUANTIZER, "edgeconv.quantize.engine:quantize", context.progress, **arguments
    )
    return answer


def _cautiously(context: StageContext, arguments: dict[str, Any], path: Path) -> dict[str, Any]:
    """Quantize without trials, whose scales may be what LiteRT aborts on.

    Raises:
        WorkerCrashed: It aborts on the model itself; the operator is named.
    """
    try:
        answer = _quantize(context, {**arguments, "disable_recovery": ["all"]})
    except WorkerCrashed as crash:
        raise suspects.named(context.workers, path, crash) from crash
    said = "LiteRT aborted while recovery methods were tried, and all of them are left out"
    return {**answer, "notes": [*answer["notes"], said]}
