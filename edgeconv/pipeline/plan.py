"""Which stages a conversion goes through, and what each must leave as it was."""

from __future__ import annotations

from edgeconv import targets
from edgeconv.convert.stages import ConvertToTflite, TranslateToSavedModel
from edgeconv.core.artifacts import Artifact
from edgeconv.core.errors import ConversionError
from edgeconv.core.options import ConvertOptions
from edgeconv.quantize.stage import Quantize
from edgeconv.toolchain.worker.stage import Stage


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
