"""Run SavedModels with TensorFlow. Imported by worker processes only."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.lite.python.interpreter import Interpreter

from edgeconv.core.artifacts import Array, Arrays, Artifact, Format, TensorSpec
from edgeconv.core.errors import InvalidModel
from edgeconv.toolchain.runtimes import saved_model
from edgeconv.toolchain.runtimes.interpreters import run_interpreter
from edgeconv.toolchain.runtimes.samples import check_names, check_tensor, run_samples
from edgeconv.toolchain.worker.process import ProgressCallback

_SIGNATURE = "serving_default"


def run(
    artifact: dict[str, Any],
    feeds: str,
    results: str,
    progress: ProgressCallback | None = None,
    stream: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the samples through the signature ``serving_default``.

    Raises:
        InvalidData: The samples do not fit.
        InvalidModel: The signature's inputs or outputs are not those of the artifact.
    """
    model = Artifact.from_dict(artifact)
    loaded = saved_model.load(str(model.path))
    if _SIGNATURE not in loaded.signatures:
        raise InvalidModel(f"there is no signature {_SIGNATURE}", where=str(model.path))
    signature = loaded.signatures[_SIGNATURE]
    _check(model, signature)

    def infer(sample: Arrays) -> Sequence[Array]:
        outputs = signature(**{name: tf.constant(array) for name, array in sample.items()})
        return [outputs[spec.name].numpy() for spec in model.outputs]

    milliseconds = run_samples(model, feeds, results, infer, progress, stream)
    return {"runtime": f"tensorflow {tf.__version__}", "milliseconds": milliseconds}


def run_tflite(
    artifact: dict[str, Any],
    feeds: str,
    results: str,
    progress: ProgressCallback | None = None,
    stream: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the samples through a .tflite file, with the interpreter that TensorFlow brings.

    Raises:
        InvalidData: The samples do not fit.
        InvalidModel: It refuses the file, or its inputs and outputs are not the artifact's.
    """
    # TensorFlow announces that the class moves to LiteRT; the one here is what is asked for.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        milliseconds = run_interpreter(
            Interpreter, "TensorFlow Lite", artifact, feeds, results, progress, stream
        )
    return {"runtime": f"tensorflow-lite {tf.__version__}", "milliseconds": milliseconds}


def describe(path: str) -> dict[str, Any]:
    """Return a SavedModel as an artifact, `Artifact.to_dict`, its tensors in order of their names.

    Raises:
        InvalidModel: It cannot be loaded, or has no signature ``serving_default``.
    """
    try:
        loaded = saved_model.load(path)
    except (OSError, ValueError, tf.errors.OpError) as error:
        why = str(error).splitlines()[0]
        raise InvalidModel("TensorFlow cannot load the model", where=path, why=why) from error
    if _SIGNATURE not in loaded.signatures:
        raise InvalidModel(f"there is no signature {_SIGNATURE}", where=path)
    signature = loaded.signatures[_SIGNATURE]
    inputs, outputs = (
        tuple(
            TensorSpec.plain(name, tuple(tensor.shape.as_list()), tensor.dtype.name)
            for name, tensor in sorted(tensors.items())
        )
        for tensors in (signature.structured_input_signature[1], signature.structured_outputs)
    )
    return Artifact(Format.SAVED_MODEL, Path(path), inputs, outputs).to_dict()


def _check(model: Artifact, signature: Any) -> None:
    """A signature's tensors are known by name alone; they have no order."""
    inputs = signature.structured_input_signature[1]
    for kind, specs, tensors in (
        ("input", model.inputs, inputs),
        ("output", model.outputs, signature.structured_outputs),
    ):
        ordered = sorted(specs, key=lambda spec: spec.name)
        check_names(model, kind, ordered, sorted(tensors))
        for spec in specs:
            tensor = tensors[spec.name]
            check_tensor(model, kind, spec, tensor.shape.as_list(), tensor.dtype.name)
