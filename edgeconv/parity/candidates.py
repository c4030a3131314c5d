"""Any model file as something that can be run: what it is, and what its inputs and outputs are.

A file within a bundle is known exactly, layouts included, from the bundle's manifest. Of another
file the tensors are known as they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgeconv.core.artifacts import Artifact, Format, Quantization, TensorSpec
from edgeconv.core.bundle import MANIFEST, Bundle, open_bundle
from edgeconv.core.errors import InvalidModel
from edgeconv.core.input_shapes import InputShapes
from edgeconv.core.sniff import Kind, kind_of
from edgeconv.sources.load import open_onnx
from edgeconv.sources.remote_torch import RemoteTorch
from edgeconv.tflite import file as tflite
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of two models that are compared.

    Attributes:
        artifact: The file, its inputs and outputs.
        torch: The loaded program, where it is one; it is in a worker.
        bundle: The bundle that it is a part of, from which its layouts are known.
    """

    artifact: Artifact
    torch: RemoteTorch | None = None
    bundle: Bundle | None = None


def open_candidate(path: Path, workers: WorkerPool, key: str) -> Candidate:
    """Open a torch program, an ONNX file, a SavedModel or a .tflite file, told by its content.

    Args:
        path: The file or directory.
        workers: What reads it.
        key: Tells torch programs apart.

    Raises:
        InvalidModel: It is missing, damaged, or none of these.
    """
    if not path.exists():
        raise InvalidModel("there is no such file or directory", where=str(path))
    bundle = _bundle_around(path)
    if bundle is not None:
        for artifact in bundle.artifacts.values():
            if artifact.path.resolve() == path.resolve():
                return Candidate(artifact, bundle=bundle)
    if path.is_dir():
        answer = workers.call(
            WorkerKind.TENSORFLOW, "edgeconv.toolchain.runtimes.tensorflow:describe", path=str(path)
        )
        return Candidate(Artifact.from_dict(answer))
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:8] == tflite.IDENTIFIER:
        return Candidate(describe_tflite(path))
    if kind_of(path) is Kind.ONNX:
        return Candidate(open_onnx(workers, path, InputShapes()))
    model = RemoteTorch.open(workers, InputShapes(), key, source=str(path), factory=None)
    return Candidate(replace(model.with_outputs(), path=path), model)


def describe_tflite(path: Path) -> Artifact:
    """Return a .tflite file as an artifact, its tensors as they are stored.

    Raises:
        InvalidModel: It is damaged.
    """
    graph = tflite.load(path).subgraphs[0]
    inputs, outputs = (
        tuple(_spec(graph.tensors[index]) for index in indices)
        for indices in (graph.inputs, graph.outputs)
    )
    return Artifact(Format.TFLITE, path, inputs, outputs)


def _spec(tensor: tflite.TensorT) -> TensorSpec:
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    sizes = () if signature is None else signature
    shape = tuple(None if size < 0 else int(size) for size in sizes)
    parameters = tensor.quantization
    quantization = None
    if parameters is not None and parameters.scale is not None and len(parameters.scale) == 1:
        quantization = Quantization(float(parameters.scale[0]), int(parameters.zeroPoint[0]))
    name, dtype = tflite.tensor_name(tensor), tflite.dtype_of(tensor)
    return TensorSpec(name, shape, dtype, tuple(range(len(shape))), quantization)


def _bundle_around(path: Path) -> Bundle | None:
    directory = path.resolve().parent
    if not (directory / MANIFEST).is_file():
        return None
    return open_bundle(directory, allow_failed=True)
