"""Apply the rewrites to a float TFLite file: the entry for a worker process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeconv.core.artifacts import Artifact, Format, TensorSpec
from edgeconv.core.errors import ConversionError
from edgeconv.quantize.rules.precision import Origins
from edgeconv.targets.coral.legalise import REWRITES, reshapes, tail, versions
from edgeconv.tflite import file as tflite
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

STAGE = "legalise for coral"


def legalise(
    model: dict[str, Any],
    path: str,
    allow_approximate: bool = False,
    cut: Sequence[str] = (),
    origins: Origins | None = None,
    states: Sequence[str] = (),
) -> dict[str, Any]:
    """Rewrite a float TFLite file for the Edge TPU.

    Args:
        model: The float model, as `Artifact.to_dict` gives it.
        path: The file to write.
        allow_approximate: Whether rewrites may be applied that do not compute exactly the same.
        cut: What to cut off for the CPU; see `tail.find`. It goes to a file beside ``path``.
        origins: Names of the ONNX nodes and PyTorch modules, for that.
        states: Names of inputs that are states.

    Returns:
        ``artifact`` as `Artifact.to_dict` gives it; ``applied`` and ``refused``, see `rewrite`;
        ``notes``, sentences on what was cut off.

    Raises:
        ConversionError: The model has several subgraphs, or a batch, which no Edge TPU runs.
    """
    artifact = Artifact.from_dict(model)
    graph = Graph(tflite.load(artifact.path))
    require(graph, str(artifact.path), states)
    off = tail.find(graph, cut, origins) if cut else []
    artifact = replace(artifact, path=Path(path))
    notes = _notes(graph, cut, off)
    if off:
        artifact = _cut(graph, off, artifact)
    result = rewrite(graph, allow_approximate=allow_approximate)
    tflite.save(graph.model, artifact.path)
    return {"artifact": artifact.to_dict(), "notes": notes, **result}


def _notes(graph: Graph, cut: Sequence[str], off: Sequence[OperatorT]) -> list[str]:
    if cut and not off:
        return ["nothing was cut off: no operator at the end is one that the Edge TPU never maps"]
    kinds = Counter(graph.op(operator) for operator in off)
    listing = ", ".join(f"{count} x {name}" for name, count in kinds.items())
    return [f"left to the CPU as a model of its own: {listing}"] if off else []


def _cut(graph: Graph, off: Sequence[OperatorT], artifact: Artifact) -> Artifact:
    """Write what is cut off beside the artifact, and return the artifact with it as its tail."""
    known = {spec.name: spec for spec in (*artifact.inputs, *artifact.outputs)}
    rest = tail.split(graph, off)

    def specs(part: Graph, indices: Iterable[int]) -> tuple[TensorSpec, ...]:
        return tuple(
            known.get(part.name(index))
            or TensorSpec.plain(part.name(index), part.shape(index), part.dtype(index))
            for index in indices
        )

    stem = artifact.path.name.removesuffix(".tflite").removesuffix("_legalised_fp32")
    path = artifact.path.with_name(f"{stem}_tail.tflite")
    tflite.save(rest.model, path)
    end = Artifact(Format.TFLITE, path, specs(rest, rest.inputs), specs(rest, rest.outputs))
    names = tuple(spec.name for spec in artifact.outputs)
    return replace(artifact, outputs=specs(graph, graph.outputs), tail=end, returns=names)


def rewrite(graph: Graph, *, allow_approximate: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Apply every rewrite, in place.

    Returns:
        ``applied``: name, reason, error and concerned tensors of each rewrite that changed
        something; ``refused``: the same of those that were not allowed because they approximate.
    """
    applied: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for entry in REWRITES:
        if entry.error and not allow_approximate:
            operators = list(graph.operators)
            places = entry.run(graph)
            graph.subgraph.operators = operators
        else:
            places = entry.run(graph)
            reshapes.drop_unused(graph)
        if places:
            note = {"name": entry.name, "why": entry.why, "error": entry.error, "where": places}
            (refused if entry.error and not allow_approximate else applied).append(note)
    reshapes.merge(graph)
    reshapes.drop_unused(graph)
    versions.lower(graph)
    graph.compact()
    return {"applied": applied, "refused": refused}


def require(graph: Graph, where: str, states: Collection[str] = ()) -> None:
    """Require what no rewrite can bring about: one subgraph, and a batch of one.

    Args:
        graph: The float graph.
        where: What to call it in messages.
        states: Names of inputs that are states, whose first dimension is no batch.

    Raises:
        ConversionError: Either is missing.
    """
    if len(graph.model.subgraphs) != 1:
        raise ConversionError(
            "the model has several subgraphs",
            where=where,
            why="the Edge TPU's compiler takes one: loops and conditions are not supported",
            hint="convert the model without control flow, or for --target cpu",
        )
    for index in graph.inputs:
        shape = graph.shape(index)
        if len(shape) == 4 and shape[0] != 1 and graph.name(index) not in states:
            raise ConversionError(
                f"input {graph.name(index)} has a batch of {shape[0]}",
                where=where,
                why="the Edge TPU runs one sample at a time",
                hint="export the model with a batch of 1, or give --input-shape with one; where it "
                f"is the state of a stream, say so: --state {graph.name(index)}=OUTPUT",
            )
