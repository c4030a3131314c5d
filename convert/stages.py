"""The stages of conversion: PyTorch to ONNX to SavedModel to float TFLite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeconv.core.artifacts import Artifact
from edgeconv.core.errors import ConversionError, ToolMissing, UnsupportedModel
from edgeconv.toolchain.worker.pool import WorkerKind
from edgeconv.toolchain.worker.stage import StageContext

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edgeconv.convert.torch.model import TorchModel


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
        from edgeconv.convert.torch import export as torch_to_onnx

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
            "edgeconv.convert.onnx.process:adopt",
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
                "edgeconv.convert.saved_model.translate:translate",
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
        "edgeconv.convert.saved_model.onnx_tf:convert",
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
            "edgeconv.convert.saved_model.to_tflite:convert",
            saved_model=source.to_dict(),
            path=str(context.directory / f"{context.name}_fp32.tflite"),
        )
        return Artifact.from_dict(answer)
