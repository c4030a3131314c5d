"""Apply the rewrites to a float TFLite file: the entry for a worker process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeconv import tflite
from edgeconv.artifacts import Artifact
from edgeconv.errors import ConversionError
from edgeconv.quantize.graph import Graph
from edgeconv.targets.coral.legalise import REWRITES, reshapes

STAGE = "legalise for coral"


def legalise(model: dict[str, Any], path: str, allow_approximate: bool = False) -> dict[str, Any]:
    """Rewrite a float TFLite file for the Edge TPU.

    Args:
        model: The float model, as `Artifact.to_dict` gives it.
        path: The file to write.
        allow_approximate: Whether rewrites may be applied that do not compute exactly the same.

    Returns:
        ``artifact`` as `Artifact.to_dict` gives it; ``applied`` and ``refused``, see `rewrite`.

    Raises:
        ConversionError: The model has several subgraphs, or a batch, which no Edge TPU runs.
    """
    artifact = Artifact.from_dict(model)
    graph = Graph(tflite.load(artifact.path))
    require(graph, str(artifact.path))
    result = rewrite(graph, allow_approximate=allow_approximate)
    tflite.save(graph.model, Path(path))
    return {"artifact": replace(artifact, path=Path(path)).to_dict(), **result}


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
        if places:
            note = {"name": entry.name, "why": entry.why, "error": entry.error, "where": places}
            (refused if entry.error and not allow_approximate else applied).append(note)
    reshapes.merge(graph)
    reshapes.drop_unused(graph)
    graph.compact()
    return {"applied": applied, "refused": refused}


def require(graph: Graph, where: str) -> None:
    """Require what no rewrite can bring about: one subgraph, and a batch of one.

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
        if len(shape) == 4 and shape[0] != 1:
            raise ConversionError(
                f"input {graph.name(index)} has a batch of {shape[0]}",
                where=where,
                why="the Edge TPU runs one sample at a time",
                hint="export the model with a batch of 1, or give --input-shape with one",
            )
