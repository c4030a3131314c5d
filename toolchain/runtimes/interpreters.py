"""What the TFLite interpreters share: they describe tensors alike, and are driven alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeconv.core.artifacts import Array, Arrays, Artifact, TensorSpec
from edgeconv.core.errors import InvalidModel
from edgeconv.toolchain.runtimes.samples import check_names, check_tensor, run_samples, thread_count
from edgeconv.toolchain.worker.process import ProgressCallback


def run_interpreter(
    make: Callable[..., Any],
    title: str,
    artifact: dict[str, Any],
    feeds: str,
    results: str,
    progress: ProgressCallback | None,
    stream: Mapping[str, Any] | None = None,
) -> float:
    """Run the samples through the first subgraph.

    Args:
        make: The interpreter's class, with the interface of ``tf.lite.Interpreter``.
        title: Its name in messages.
        artifact: What to run, `Artifact.to_dict`.
        feeds: ``.npz`` of arrays by input name, ``[sample, ...]``, as stored.
        results: Where the outputs are written likewise.
        progress: Told after every sample.
        stream: How to run them as a stream; see `run_samples`.

    Returns:
        The median milliseconds of a sample.

    Raises:
        InvalidData: The samples do not fit.
        InvalidModel: The file is refused, or its inputs and outputs are not the artifact's.
    """
    model = Artifact.from_dict(artifact)
    try:
        interpreter = make(model_path=str(model.path), num_threads=thread_count())
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise InvalidModel(
            f"{title} refuses the model", where=str(model.path), why=str(error)
        ) from error
    inputs = interpreter.get_input_details()
    outputs = interpreter.get_output_details()
    check_details(model, "input", model.inputs, inputs)
    check_details(model, "output", model.outputs, outputs)
    indices = {details["name"]: int(details["index"]) for details in inputs}

    def infer(sample: Arrays) -> Sequence[Array]:
        _resize(interpreter, indices, sample)
        for name, array in sample.items():
            interpreter.set_tensor(indices[name], array)
        interpreter.invoke()
        return [interpreter.get_tensor(int(details["index"])) for details in outputs]

    return run_samples(model, feeds, results, infer, progress, stream)


def check_details(
    model: Artifact, kind: str, specs: Sequence[TensorSpec], details: Sequence[dict[str, Any]]
) -> None:
    """Require the tensors that an interpreter describes to be those of the artifact.

    Raises:
        InvalidModel: They are not.
    """
    check_names(model, kind, specs, [item["name"] for item in details])
    for spec, item in zip(specs, details, strict=True):
        shape = [None if size < 0 else int(size) for size in item["shape_signature"]]
        check_tensor(model, kind, spec, shape, np.dtype(item["dtype"]).name)
        _check_quantization(model, kind, spec, item["quantization"])


def _check_quantization(
    model: Artifact, kind: str, spec: TensorSpec, stored: tuple[float, int]
) -> None:
    scale, zero_point = stored
    expected = spec.quantization
    if expected is None:
        equal = scale == 0
    else:
        equal = np.float32(expected.scale) == np.float32(scale)
        equal = bool(equal) and expected.zero_point == zero_point
    if not equal:
        raise InvalidModel(
            f"{kind} {spec.name} is quantized with scale {scale:g} and zero point {zero_point}",
            where=str(model.path),
            why=f"expected {expected or 'none'}",
        )


def _resize(interpreter: Any, indices: dict[str, int], sample: Arrays) -> None:
    """Give inputs with run-time dimensions the sample's shape."""
    changed = False
    for details in interpreter.get_input_details():
        shape = sample[details["name"]].shape
        if tuple(details["shape"]) != shape:
            interpreter.resize_tensor_input(indices[details["name"]], shape)
            changed = True
    if changed:
        interpreter.allocate_tensors()
