"""Write a TensorFlow function as a SavedModel whose names are exactly the ones given."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2
from tensorflow.python.ops.resource_variable_ops import ResourceVariable
from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

from edgeconv.core.artifacts import Array, TensorSpec

SIGNATURE = "serving_default"
_SMALL = 1 << 17  # bytes; below that a constant is the faster one


class Weights(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """The module that is saved: it holds large weights as variables.

    A constant is part of the graph, which TensorFlow copies a dozen times while it traces, saves
    and converts; a variable is saved once, beside the graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Any] = []

    def hold(self, array: Array) -> Any:
        """Return a variable with the array's value, or a small array itself."""
        if array.nbytes < _SMALL:
            return array
        with tf.init_scope():
            variable = ResourceVariable(np.ascontiguousarray(array), trainable=False)
        self.weights.append(variable)
        return variable


def write_saved_model(
    module: tf.Module,
    function: Callable[..., Sequence[Any]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[str],
    directory: Path,
) -> None:
    """Trace a function and save it with its module under one signature.

    Args:
        module: Holds the variables that the function reads.
        function: Takes one tensor for each input, returns one for each output.
        inputs: The inputs in order; shapes and dtypes are the stored ones.
        outputs: Names of the outputs in order.
        directory: Where the SavedModel goes; replaced if it exists.
    """
    input_keys = _keys("input", [spec.name for spec in inputs])
    output_keys = _keys("output", outputs)
    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name=key)
        for spec, key in zip(inputs, input_keys, strict=True)
    ]

    def traced(*tensors: Any) -> dict[str, Any]:
        return dict(zip(output_keys, function(*tensors), strict=True))

    concrete = tf.function(traced, autograph=False, input_signature=specs).get_concrete_function()
    shutil.rmtree(directory, ignore_errors=True)
    tf.saved_model.save(module, str(directory), signatures={SIGNATURE: concrete})
    renames = dict(zip(input_keys, (spec.name for spec in inputs), strict=True))
    renames |= dict(zip(output_keys, outputs, strict=True))
    _rename(directory / "saved_model.pb", renames)
    _renew_fingerprint(directory)


def _keys(prefix: str, names: Sequence[str]) -> list[str]:
    """Return placeholders that sort as the names do: TensorFlow packs tensors in sorted order."""
    ranks = {name: rank for rank, name in enumerate(sorted(names))}
    return [f"edgeconv_{prefix}_{ranks[name]:05d}" for name in names]


def _rename(path: Path, renames: dict[str, str]) -> None:
    """Replace the keys of the signature, which Python allows to be identifiers only."""
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    meta = saved.meta_graphs[0]
    signature = meta.signature_def[SIGNATURE]
    _rename_keys(signature.inputs, renames)
    _rename_keys(signature.outputs, renames)
    objects = meta.object_graph_def
    for node in objects.nodes:
        if node.WhichOneof("kind") == "bare_concrete_function":
            concrete = node.bare_concrete_function
            concrete.argument_keywords[:] = [renames[key] for key in concrete.argument_keywords]
            _rename_values(concrete.function_spec.fullargspec, renames)
            signature_of_function = objects.concrete_functions[concrete.concrete_function_name]
            _rename_values(signature_of_function.canonicalized_input_signature, renames)
            _rename_values(signature_of_function.output_signature, renames)
    # Maps are in no order otherwise, and the file differs from run to run.
    path.write_bytes(saved.SerializeToString(deterministic=True))


def _renew_fingerprint(directory: Path) -> None:
    """Write ``fingerprint.pb`` for the file as it is now; TensorFlow puts a random number in."""
    write_fingerprint(str(directory))
    path = directory / "fingerprint.pb"
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    digest = hashlib.sha256((directory / "saved_model.pb").read_bytes()).digest()
    fingerprint.uuid = str(int.from_bytes(digest[:16]))
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def _rename_keys(fields: Any, renames: dict[str, str]) -> None:
    """Rename the keys of a protobuf map."""
    kept = {key: type(fields[key]).FromString(fields[key].SerializeToString()) for key in fields}
    fields.clear()
    for key, value in kept.items():
        fields[renames.get(key, key)].CopyFrom(value)


def _rename_values(value: Any, renames: dict[str, str]) -> None:
    """Rename strings, dictionary keys and tensor names inside a ``StructuredValue``."""
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        value.string_value = renames.get(value.string_value, value.string_value)
    elif kind == "tensor_spec_value":
        name = value.tensor_spec_value.name
        value.tensor_spec_value.name = renames.get(name, name)
    elif kind in ("list_value", "tuple_value"):
        for item in getattr(value, kind).values:
            _rename_values(item, renames)
    elif kind == "named_tuple_value":
        for pair in value.named_tuple_value.values:
            _rename_values(pair.value, renames)
    elif kind == "dict_value":
        for item in value.dict_value.fields.values():
            _rename_values(item, renames)
        _rename_keys(value.dict_value.fields, renames)
