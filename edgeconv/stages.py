"""The stages every conversion goes through, from the source model to the quantized .tflite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeconv import targets
from edgeconv.artifacts import Artifact
from edgeconv.errors import ConversionError, ToolMissing, UnsupportedModel, WorkerCrashed
from edgeconv.options import ConvertOptions
from edgeconv.quantize.precision import Rule
from edgeconv.quantize.recipe import rules_of
from edgeconv.toolchain import suspects
from edgeconv.toolchain.pool import WorkerKind
from edgeconv.toolchain.stage import Stage, StageContext

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edgeconv.convert.torch_model import TorchModel


@dataclass(frozen=True, slots=True)
class ExportOnnx:
    """PyTorch to ONNX, in this process.

    Attributes:
        model: The model.
        keep: Called with the program that the file was made from, where it is known.
    """

    model: TorchModel
    keep: Callable[[ExportedProgram], None] | None = None
    name: str = "onnx"

    def run(self, source: Artifact, context: StageContext) -> Artifact:  # noqa: ARG002
        """Export the model; `source` only names the inputs."""
        from edgeconv.convert import torch_to_onnx

        path = context.directory / f"{context.name}.onnx"
        return torch_to_onnx.export(self.model, path, keep=self.keep)


@dataclass(frozen=True, slots=True)
class AdoptOnnx:
    """An ONNX file as it is, in the bundle: inputs pinned, shapes inferred, weights inside."""

    name: str = "onnx"

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        """Copy the file."""
        answer = context.workers.call(
            WorkerKind.ONNXRUNTIME,
            "edgeconv.convert.onnx_process:adopt",
            source=source.to_dict(),
            path=str(context.directory / f"{context.name}.onnx"),
        )
        return Artifact.from_dict(answer)


@dataclass(frozen=True, slots=True)
class TranslateToSavedModel:
    """ONNX to SavedModel, by our translator or by onnx-tf."""

    name: str = "saved_model"

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        """Translate in the TensorFlow worker."""
        converter = context.options.converter
        if converter == "onnx-tf":
            return _by_onnx_tf(source, context, "as --converter says")
        try:
            answer = context.workers.call(
                WorkerKind.TENSORFLOW,
                "edgeconv.convert.onnx_to_saved_model:translate",
                onnx=source.to_dict(),
                directory=str(context.directory / f"{context.name}_saved_model"),
                io_layout=context.options.io_layout,
                states=[[state.input, state.output] for state in context.states],
            )
        except UnsupportedModel as error:
            if converter != "auto":
                raise
            return _instead(source, context, error)
        why = "it has every operator" if converter == "auto" else "as --converter says"
        context.details["converter"] = {"name": "native", "why": why}
        if converter == "auto":
            context.details["notes"] = ["converted by edgeconv's own translator"]
        return Artifact.from_dict(answer)


def _instead(source: Artifact, context: StageContext, error: UnsupportedModel) -> Artifact:
    """Let onnx-tf convert what our translator refuses."""
    lacking = ", ".join(sorted({node.op for node in error.nodes}))
    try:
        return _by_onnx_tf(source, context, f"edgeconv's own translator refuses {lacking}")
    except ToolMissing as missing:
        raise UnsupportedModel(
            error.stage, error.nodes, f"{missing.what}; {missing.hint}"
        ) from error
    except ConversionError as second:
        hint = f"onnx-tf does not convert it either: {second.what}"
        raise UnsupportedModel(
            error.stage, error.nodes, f"{hint}: {second.why}" if second.why else hint
        ) from error


def _by_onnx_tf(source: Artifact, context: StageContext, why: str) -> Artifact:
    answer = context.workers.call(
        WorkerKind.TENSORFLOW,
        "edgeconv.convert.onnx_tf:convert",
        source=source.to_dict(),
        directory=str(context.directory / f"{context.name}_saved_model"),
    )
    tools = answer["tools"]
    context.details["converter"] = {"name": "onnx-tf", "versions": tools, "why": why}
    by = f"onnx-tf {tools['onnx-tf']} with TensorFlow {tools['tensorflow']}"
    context.details["notes"] = [
        f"converted by {by}, {why}; inputs and outputs keep the source model's layout"
    ]
    return Artifact.from_dict(answer["artifact"])


@dataclass(frozen=True, slots=True)
class ConvertToTflite:
    """SavedModel to float TFLite, by TensorFlow's converter."""

    name: str = "tflite_fp32"

    def run(self, source: Artifact, context: StageContext) -> Artifact:
        """Convert in the TensorFlow worker."""
        answer = context.workers.call(
            WorkerKind.TENSORFLOW,
            "edgeconv.convert.saved_model_to_tflite:convert",
            saved_model=source.to_dict(),
            path=str(context.directory / f"{context.name}_fp32.tflite"),
        )
        return Artifact.from_dict(answer)


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
        from edgeconv.convert.origin import origins_of

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


def plan(first: Stage, options: ConvertOptions) -> list[Stage]:
    """Return the stages of a conversion, in order.

    Args:
        first: The stage that makes the ONNX file.
        options: What else is wanted.
    """
    target = targets.find(options.target)
    stages: list[Stage] = [first, TranslateToSavedModel(), ConvertToTflite()]
    stages += target.float_stages(options)
    if options.quantize != "none":
        rules = target.precision_rules if options.quantize == "int8" else ()
        stages.append(Quantize(options.quantize, target.mixed_precision, rules))
    return [*stages, *target.stages(options)]


def require_outputs(artifact: Artifact, before: Artifact, stage: str) -> None:
    """Require a stage to have kept the names and the order of inputs and outputs.

    Args:
        artifact: What the stage made.
        before: What it was made from; without outputs where they were not known yet.
        stage: Its name.

    Raises:
        ConversionError: An input or output is lost, renamed, or in another place.
    """
    pairs = [("inputs", artifact.inputs, before.inputs)]
    if before.outputs:
        pairs.append(("outputs", artifact.results, before.results))
    for kind, found, expected in pairs:
        names = [[spec.name for spec in specs] for specs in (found, expected)]
        if names[0] != names[1]:
            raise ConversionError(
                f"the stage changed the {kind}",
                where=stage,
                why=f"they are {', '.join(names[0])}, expected {', '.join(names[1])}",
            )
