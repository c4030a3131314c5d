"""The layers of a SavedModel. Imports TensorFlow: call `measure` in a worker.

For the error that a layer makes by itself the graph is cut: whatever reads a tensor that is known
from the reference reads a placeholder instead, so that one run computes every layer from the
reference's values. A layer is then all that lies between two known tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from edgeconv.arrays import read_npz
from edgeconv.artifacts import Arrays, Artifact
from edgeconv.convert.saved_model import SIGNATURE
from edgeconv.convert.value_map import HeldValue
from edgeconv.layer_errors import Ratio
from edgeconv.layers.streams import SampleReader
from edgeconv.toolchain.runtimes.samples import thread_count

_CALL = re.compile(r"^(Stateful)?PartitionedCall/")
_FED = "edgeconv_fed/"


def measure(
    model: Mapping[str, Any],
    feeds: str,
    start: int,
    stop: int,
    held: Sequence[Mapping[str, Any]],
    numbers: Mapping[str, int],
    reference: str,
    keep: Mapping[str, str] | None = None,
) -> dict[str, list[Any]]:
    """Add up signal and noise of every layer over some samples.

    Args:
        model: The artifact, `Artifact.to_dict`.
        feeds: ``.npz`` of all samples by input name, in the stored form.
        start: The first sample to run.
        stop: The one after the last.
        held: What the model's tensors hold, `HeldValue.to_dict`.
        numbers: Number of each ONNX value in `reference`.
        reference: What `edgeconv.layers.onnx_values.record` wrote of the samples.
        keep: A ``value`` whose result of the last sample, from the layer alone, goes to ``path``.

    Returns:
        By value: operator, signal, noise of the layer alone, noise of the whole run.
    """
    artifact = Artifact.from_dict(model)
    values = [HeldValue.from_dict(item) for item in held]
    frozen = _Frozen(artifact, [value for value in values if value.value in numbers])
    arrays = read_npz(Path(feeds))
    here = {value.value: Ratio() for value in frozen.values}
    carried = {value.value: Ratio() for value in frozen.values}
    with closing(SampleReader(Path(reference))) as reader:
        for index in range(start, stop):
            expected = {
                value.value: value.store(reader.read(index, numbers[value.value]))
                for value in frozen.values
            }
            inputs = {spec.name: arrays[spec.name][index] for spec in artifact.inputs}
            for name, found in frozen.run(inputs).items():
                carried[name].add(expected[name], found)
            alone = frozen.run_apart(inputs, expected)
            for name, found in alone.items():
                here[name].add(expected[name], found)
            if keep is not None:
                np.save(keep["path"], alone[keep["value"]])
    return {
        value.value: [
            frozen.operator(value),
            here[value.value].signal,
            here[value.value].noise,
            carried[value.value].noise,
        ]
        for value in frozen.values
    }


class _Frozen:
    """A signature as one flat graph with constants, whole and cut into layers."""

    def __init__(self, artifact: Artifact, values: Sequence[HeldValue]) -> None:
        loaded = tf.saved_model.load(str(artifact.path))
        function = convert_variables_to_constants_v2(
            loaded.signatures[SIGNATURE], lower_control_flow=False
        )
        definition = function.graph.as_graph_def()
        placeholders = [tensor.name for tensor in function.inputs]
        names = [spec.name for spec in artifact.inputs]
        self._inputs = dict(zip(sorted(names), placeholders, strict=True))
        self._nodes = {_CALL.sub("", node.name): node for node in definition.node}
        own = {tensor.partition(":")[0] for tensor in placeholders}
        self.values = [
            value
            for value in values
            if value.node in self._nodes and self._nodes[value.node].name not in own
        ]
        self._whole = _session(definition)
        self._apart = _session(_cut(definition, {self._tensor(v): v for v in self.values}))

    def operator(self, value: HeldValue) -> str:
        """Return the TensorFlow operator that makes a value."""
        return str(self._nodes[value.node].op)

    def run(self, inputs: Arrays) -> Arrays:
        """Return every value of the whole model, stored form."""
        return self._fetch(self._whole, self._feeds(inputs))

    def run_apart(self, inputs: Arrays, reference: Arrays) -> Arrays:
        """Return every value, each from the reference's values of those before it."""
        feeds = self._feeds(inputs)
        for number, value in enumerate(self.values):
            feeds[f"{_FED}{number}:0"] = reference[value.value]
        return self._fetch(self._apart, feeds)

    def _feeds(self, inputs: Arrays) -> dict[str, Any]:
        return {self._inputs[name]: array for name, array in inputs.items()}

    def _fetch(self, session: Any, feeds: dict[str, Any]) -> Arrays:
        wanted = {
            value.value: f"{self._nodes[value.node].name}:{value.tensor.rpartition(':')[2]}"
            for value in self.values
        }
        found: Arrays = session.run(wanted, feeds)
        return found

    def _tensor(self, value: HeldValue) -> str:
        """Return the value's tensor as nodes name it among their inputs."""
        number = value.tensor.rpartition(":")[2]
        name = str(self._nodes[value.node].name)
        return name if number == "0" else f"{name}:{number}"


def _cut(definition: Any, values: Mapping[str, HeldValue]) -> Any:
    """Return the graph in which the readers of some tensors read placeholders."""
    cut = tf.compat.v1.GraphDef()
    cut.CopyFrom(definition)
    places = {tensor: f"{_FED}{number}" for number, tensor in enumerate(values)}
    for node in cut.node:
        renamed = [places.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(renamed)
    for place in places.values():
        node = cut.node.add(name=place, op="Placeholder")
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["shape"].shape.unknown_rank = True
    return cut


def _session(definition: Any) -> Any:
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(definition, name="")
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=thread_count(), inter_op_parallelism_threads=1
    )
    # The optimizer would fuse layers, and what is looked at inside them would cost twice.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return tf.compat.v1.Session(graph=graph, config=config)
