"""ONNX to SavedModel. Imports TensorFlow: call `translate` in a worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
import tensorflow as tf

from edgeconv.convert.onnx.light import load_light_graph
from edgeconv.convert.onnx.value_map import HeldValue, unique, write_map
from edgeconv.convert.ops import default_registry
from edgeconv.convert.passes import run_passes
from edgeconv.convert.passes.layout import image_values
from edgeconv.convert.saved_model.translator import STAGE, Translator
from edgeconv.convert.saved_model.write import Weights, write_saved_model
from edgeconv.convert.translate.registry import Registry
from edgeconv.convert.translate.value import Value, arranged, channels_last
from edgeconv.convert.translate.view import DYNAMIC, Shape
from edgeconv.core.artifacts import Artifact, Format, TensorSpec
from edgeconv.core.errors import InvalidModel


def translate(
    onnx: Mapping[str, Any],
    directory: str,
    io_layout: str = "nhwc",
    states: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """Translate an ONNX file to a SavedModel with the signature ``serving_default``.

    Args:
        onnx: The ONNX artifact, `Artifact.to_dict`.
        directory: Where the SavedModel is written.
        io_layout: ``nhwc`` stores image inputs and outputs channels last, ``nchw`` keeps them.
        states: Pairs of an input and the output that is fed to it, which are stored alike.

    Returns:
        The SavedModel artifact, `Artifact.to_dict`.

    Raises:
        InvalidModel: It has no inputs.
        UnsupportedModel: Nodes that have no translation, all of them.
    """
    source = Artifact.from_dict(onnx)
    model = load_graph(source.path)
    return build(model, Path(directory), io_layout, default_registry(), states).to_dict()


def load_graph(path: Path) -> ir.Model:
    """Load an ONNX file, inline its functions, infer shapes, and run the rewrites."""
    model = load_light_graph(path)
    common_passes.InlinePass()(model)
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    run_passes(model.graph)
    common_passes.RemoveUnusedNodesPass()(model)
    return model


def build(
    model: ir.Model,
    directory: Path,
    io_layout: str,
    registry: Registry,
    states: Sequence[Sequence[str]] = (),
) -> Artifact:
    """Translate a loaded model and write the SavedModel."""
    translation = Translation(model, io_layout, registry, states)
    write_saved_model(
        translation.weights, translation, translation.inputs, translation.names, directory
    )
    write_map(directory, *unique(translation.found))
    return Artifact(Format.SAVED_MODEL, directory, translation.inputs, tuple(translation.outputs))


class Translation:
    """A loaded model as a function that TensorFlow traces.

    Args:
        model: The model, as `load_graph` returns it.
        io_layout: ``nhwc`` stores image inputs and outputs channels last.
        registry: Translations to use.
        states: Pairs of an input and the output that is fed to it; both are images, or neither.

    Raises:
        InvalidModel: The model has no inputs.

    Attributes:
        inputs: The inputs in order, as they are stored.
        names: Names of the outputs in order.
        outputs: The outputs in order, once the function was traced.
        weights: Holds the large constants.
        found: For every value, the tensor that holds it, or why none does, once traced.
    """

    def __init__(
        self,
        model: ir.Model,
        io_layout: str,
        registry: Registry,
        states: Sequence[Sequence[str]] = (),
    ) -> None:
        graph = model.graph
        self._model, self._registry = model, registry
        self._images = image_values(graph) if io_layout == "nhwc" else frozenset[str]()
        self._images -= {name for ends in states if set(ends) - self._images for name in ends}
        self.inputs = tuple(
            _spec(value, self._images)
            for value in graph.inputs
            if value.name not in graph.initializers
        )
        if not self.inputs:
            raise InvalidModel(
                "the model has no inputs",
                where=STAGE,
                why="its outputs are always the same, and a runtime is never asked for them",
                hint="keep the outputs as arrays; there is nothing to convert",
            )
        self.names = [str(value.name) for value in graph.outputs]
        self.outputs: list[TensorSpec] = []
        self.weights = Weights()
        self.found: list[tuple[str, HeldValue | None, str]] = []

    def __call__(self, *tensors: Any) -> list[Any]:
        """Translate the graph for input tensors under tracing; return the outputs' tensors.

        Raises:
            UnsupportedModel: Nodes that have no translation, all of them.
        """
        feeds = {
            spec.name: Value.of(tensor, spec.permutation)
            for spec, tensor in zip(self.inputs, tensors, strict=True)
        }
        translator = Translator(self._model, self._registry, self.weights.hold)
        values = translator.run(feeds)
        self.found.extend(_found(self._model.graph, translator.values))
        results = []
        for name in self.names:
            permutation = _order(name, values[name].rank, self._images)
            tensor = tf.convert_to_tensor(arranged(values[name], permutation))
            dtype = values[name].dtype.name
            self.outputs.append(TensorSpec(name, _known(tensor), dtype, permutation))
            results.append(tensor)
        return results


def _found(
    graph: ir.Graph, values: Mapping[str, Value]
) -> Iterator[tuple[str, HeldValue | None, str]]:
    """Yield, for every value that a node makes, the tensor that holds it, or why none does."""
    inputs = [str(value.name) for value in graph.inputs if value.name not in graph.initializers]
    for name in (*inputs, *(str(out.name) for node in graph for out in node.outputs)):
        if name in values:
            yield _held(name, values[name])


def _held(name: str, value: Value) -> tuple[str, HeldValue | None, str]:
    if value.constant is not None:
        return name, None, "constant: it was computed beforehand"
    permutation = value.view.natural_permutation([channels_last(value.rank)])
    if permutation is None:
        return name, None, "stored in an order that is no permutation of its axes"
    held = HeldValue(name, value.tensor.name, permutation, value.view.stored_shape)
    return name, held, ""


def _spec(value: ir.Value, images: frozenset[str]) -> TensorSpec:
    name = str(value.name)
    if value.shape is None or value.dtype is None:
        raise InvalidModel(
            "an input has no shape or no dtype", where=name, hint="export it with fixed shapes"
        )
    sizes = tuple(size if isinstance(size, int) else None for size in value.shape)
    permutation = _order(name, len(sizes), images)
    shape = tuple(sizes[axis] for axis in permutation)
    return TensorSpec(name, shape, np.dtype(value.dtype.numpy()).name, permutation)


def _order(name: str, rank: int, images: frozenset[str]) -> Shape:
    return channels_last(rank) if rank == 4 and name in images else tuple(range(rank))


def _known(tensor: Any) -> tuple[int | None, ...]:
    return tuple(None if size in (None, DYNAMIC) else int(size) for size in tensor.shape)
