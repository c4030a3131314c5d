"""The values inside an ONNX graph. Imports onnxruntime: call its functions in a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from edgeconv.arrays import read_npz
from edgeconv.artifacts import Artifact
from edgeconv.convert.value_map import HeldValue
from edgeconv.layer_errors import Ratio
from edgeconv.layers.streams import SampleReader, SampleWriter
from edgeconv.toolchain.runtimes.samples import thread_count

_FED = "edgeconv_fed/"


def record(
    onnx_model: Mapping[str, Any],
    feeds: str,
    start: int,
    stop: int,
    names: Sequence[str],
    results: str,
) -> list[str]:
    """Write the named values of some samples, as ONNX has them.

    Args:
        onnx_model: The artifact, `Artifact.to_dict`.
        feeds: ``.npz`` of all samples by input name, in the stored form.
        start: The first sample to run.
        stop: The one after the last.
        names: The values; those that are no float tensors are left out.
        results: The file to write, see `edgeconv.layers.streams`.

    Returns:
        The names of what was written, by number.
    """
    model = Artifact.from_dict(onnx_model)
    session, wanted = _session(onnx.load(str(model.path)), names)
    arrays = read_npz(Path(feeds))
    with closing(SampleWriter(Path(results))) as writer:
        for index in range(start, stop):
            feed = {spec.name: arrays[spec.name][index] for spec in model.inputs}
            for number, value in enumerate(session.run(wanted, feed) if wanted else ()):
                writer.write(index, number, value)
    return wanted


def measure(
    model: Mapping[str, Any],
    feeds: str,
    start: int,
    stop: int,
    held: Sequence[Mapping[str, Any]],
    numbers: Mapping[str, int],
    reference: str,
) -> dict[str, list[Any]]:
    """Add up signal and noise of every layer; see `edgeconv.layers.saved_model.measure`."""
    artifact = Artifact.from_dict(model)
    proto = onnx.load(str(artifact.path))
    known = [HeldValue.from_dict(item).value for item in held]
    operators = {name: node.op_type for node in proto.graph.node for name in node.output}
    whole, names = _session(proto, [name for name in known if name in numbers])
    apart, fed = _apart(proto, names)
    here = {name: Ratio() for name in names}
    carried = {name: Ratio() for name in names}
    arrays = read_npz(Path(feeds))
    with closing(SampleReader(Path(reference))) as reader:
        for index in range(start, stop if names else start):
            expected = {name: reader.read(index, numbers[name]) for name in names}
            inputs = {spec.name: arrays[spec.name][index] for spec in artifact.inputs}
            for name, found in zip(names, whole.run(names, inputs), strict=True):
                carried[name].add(expected[name], found)
            inputs |= {place: expected[name] for name, place in fed.items()}
            for name, found in zip(names, apart.run(names, inputs), strict=True):
                here[name].add(expected[name], found)
    return {
        name: [operators[name], here[name].signal, here[name].noise, carried[name].noise]
        for name in names
    }


def _apart(proto: onnx.ModelProto, names: Sequence[str]) -> tuple[Any, dict[str, str]]:
    """Return a session in which whatever reads a value reads an input, and those by value."""
    cut = onnx.ModelProto()
    cut.CopyFrom(proto)
    wanted = set(names)
    fed: dict[str, str] = {}
    for node in cut.graph.node:
        for slot, name in enumerate(node.input):
            if name in wanted:
                node.input[slot] = fed.setdefault(name, f"{_FED}{len(fed)}")
    kind = onnx.TensorProto.FLOAT
    cut.graph.input.extend(
        onnx.helper.make_tensor_value_info(place, kind, None) for place in fed.values()
    )
    return _session(cut, names)[0], fed


def _session(proto: onnx.ModelProto, names: Sequence[str]) -> tuple[Any, list[str]]:
    """Return a session that computes values one by one, and those that are float32 tensors."""
    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    graph = watched.graph
    made = {name for node in graph.node for name in node.output if name}
    wanted = [name for name in names if name in made]
    known = {value.name for value in graph.output}
    graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in wanted if name not in known
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    options.log_severity_level = 3
    # The optimizer would fuse the very layers that are looked at.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kinds = {item.name: item.type for item in session.get_outputs()}
    return session, [name for name in wanted if kinds[name] == "tensor(float)"]
