"""The values inside an ONNX graph. Imports onnxruntime: call its functions in a worker.

A graph is run in pieces, each with all samples before the next one begins, so that memory holds
the values and the weights of one piece only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgeconv.convert.onnx.value_map import HeldValue
from edgeconv.core.arrays import read_npz
from edgeconv.core.artifacts import Array, Arrays, Artifact
from edgeconv.core.streams import SampleReader, SampleWriter
from edgeconv.metrics.layer_errors import Ratio
from edgeconv.toolchain.runtimes.samples import thread_count

_FED = "edgeconv_fed/"

_PIECE = 48 * 2**20
"""Bytes of watched values, and of weights, with which a piece is full."""


def record(
    onnx_model: Mapping[str, Any],
    feeds: str,
    names: Sequence[str],
    results: str,
) -> list[str]:
    """Write the named values of samples, as ONNX has them.

    Args:
        onnx_model: The artifact, `Artifact.to_dict`.
        feeds: ``.npz`` of the samples by input name, in the stored form.
        names: The values; those that are no float tensors are left out.
        results: The file to write, see `edgeconv.core.streams`.

    Returns:
        The names of what was written, by number.
    """
    artifact = Artifact.from_dict(onnx_model)
    model = _Model(artifact.path, names)
    samples = _samples(artifact, feeds)
    written: dict[str, int] = {}
    with closing(SampleWriter(Path(results))) as writer:
        for piece in model.pieces():
            for index, found in enumerate(model.run(piece, samples)):
                for name in _floats(piece.watched, found):
                    writer.write(index, written.setdefault(name, len(written)), found[name])
    return list(written)


def measure(
    model: Mapping[str, Any],
    feeds: str,
    held: Sequence[Mapping[str, Any]],
    numbers: Mapping[str, int],
    reference: str,
) -> dict[str, list[Any]]:
    """Add up signal and noise of every layer; see `edgeconv.parity.layers.saved_model.measure`."""
    artifact = Artifact.from_dict(model)
    names = [item.value for item in map(HeldValue.from_dict, held) if item.value in numbers]
    runs = _Model(artifact.path, names)
    whole, apart = _samples(artifact, feeds), _samples(artifact, feeds)
    carried: dict[str, Ratio] = {}
    here: dict[str, Ratio] = {}
    with closing(SampleReader(Path(reference))) as reader:

        def expected(index: int, name: str) -> Array:
            return reader.read(index, numbers[name])

        for piece in runs.pieces():
            for index, found in enumerate(runs.run(piece, whole)):
                for name in _floats(piece.watched, found):
                    carried.setdefault(name, Ratio()).add(expected(index, name), found[name])
            for index, found in enumerate(runs.run(piece, apart, carried, expected)):
                for name in _floats(piece.watched, found):
                    here.setdefault(name, Ratio()).add(expected(index, name), found[name])
    return {
        name: [runs.operators[name], here[name].signal, here[name].noise, carried[name].noise]
        for name in names
        if name in here
    }


def _samples(artifact: Artifact, feeds: str) -> list[Arrays]:
    """Return what is known of each sample so far: the inputs."""
    arrays = read_npz(Path(feeds))
    count = len(next(iter(arrays.values())))
    names = [spec.name for spec in artifact.inputs]
    return [{name: arrays[name][index, ...] for name in names} for index in range(count)]


def _floats(names: Sequence[str], found: Mapping[str, Any]) -> list[str]:
    """Return the values that are float32 tensors."""
    return [name for name in names if getattr(found[name], "dtype", None) == np.float32]


@dataclass(slots=True)
class _Piece:
    """Nodes that run together.

    Attributes:
        nodes: The nodes.
        watched: What is wanted of their values.
        reads: Values that they read, and that others make.
        later: Values that nodes after them read.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    later: set[str] = field(default_factory=set)


class _Model:
    """A model, cut into pieces.

    Args:
        path: The ONNX file.
        names: The values that are watched; those that no node makes are left out.

    Attributes:
        operators: The operator that makes each value.
    """

    def __init__(self, path: Path, names: Collection[str]) -> None:
        self._proto = onnx.load(str(path))
        graph = self._proto.graph
        self._watched = set(names)
        self._weights = {item.name: item for item in graph.initializer}
        self._inputs = {item.name for item in graph.input}
        self.operators = {name: node.op_type for node in graph.node for name in node.output}

    def pieces(self) -> list[_Piece]:
        """Return the pieces in order."""
        nodes = self._proto.graph.node
        if any(_is_special(node) for node in nodes):
            pieces = [_Piece(list(nodes))]
        else:
            pieces = self._cut(nodes)
        later: set[str] = set()
        for piece in reversed(pieces):
            made = {name for node in piece.nodes for name in node.output if name}
            piece.watched = [
                name for node in piece.nodes for name in node.output if name in self._watched
            ]
            read = dict.fromkeys(name for node in piece.nodes for name in node.input if name)
            piece.reads = [name for name in read if name not in made | self._weights.keys()]
            piece.later = set(later)
            later |= set(piece.reads)
        pieces[0].reads += [name for name in self._outer() if name not in pieces[0].reads]
        return pieces

    def _outer(self) -> list[str]:
        """Return the inputs, which bodies of loops may read without a node's saying so."""
        return [name for name in self._inputs if name not in self._weights]

    def _cut(self, nodes: Sequence[onnx.NodeProto]) -> list[_Piece]:
        sizes = {
            item.name: 4 * math.prod(dim.dim_value for dim in item.type.tensor_type.shape.dim)
            for item in (*self._proto.graph.value_info, *self._proto.graph.output)
        }
        sizes |= {name: item.ByteSize() for name, item in self._weights.items()}
        wanted = self._watched | self._weights.keys()
        pieces, room = [_Piece()], _PIECE
        for node in nodes:
            names = wanted.intersection((*node.input, *node.output))
            room -= sum(sizes.get(name, 0) for name in names)
            if room < 0 and pieces[-1].nodes:
                pieces.append(_Piece())
                room = _PIECE
            pieces[-1].nodes.append(node)
        return pieces

    def run(
        self,
        piece: _Piece,
        samples: Sequence[Arrays],
        fed: Collection[str] = (),
        value: Callable[[int, str], Array] | None = None,
    ) -> Iterator[Arrays]:
        """Yield what a piece makes of each sample.

        Args:
            piece: The piece.
            samples: What is known of each sample; what later pieces read is added, and what none
                reads is dropped.
            fed: Values that nodes read from `value` instead, which takes a sample and a name.
            value: See `fed`.
        """
        made = [name for node in piece.nodes for name in node.output if name]
        handed = [name for name in made if name in piece.later and name not in fed]
        outputs = list(dict.fromkeys((*piece.watched, *handed)))
        read = {name for node in piece.nodes for name in node.input}
        places = {name: _FED + name for name in (*piece.reads, *made) if name in read & set(fed)}
        session = self._session(piece, outputs, places, samples[0]) if outputs else None
        for index, sample in enumerate(samples):
            feeds = {name: sample[name] for name in piece.reads if name not in places}
            if value is not None:
                feeds |= {place: value(index, name) for name, place in places.items()}
            found: Arrays = {}
            if session is not None:
                found = dict(zip(outputs, session.run(outputs, feeds), strict=True))
            for name in [name for name in sample if name not in piece.later]:
                del sample[name]
            sample.update((name, found[name]) for name in handed)
            yield found

    def _session(
        self, piece: _Piece, outputs: Sequence[str], places: Mapping[str, str], sample: Arrays
    ) -> Any:
        """Return a session of a piece in which nodes read some values from other places."""
        helper = onnx.helper
        nodes = [onnx.NodeProto() for _ in piece.nodes]
        for copy, node in zip(nodes, piece.nodes, strict=True):
            copy.CopyFrom(node)
            copy.input[:] = [places.get(name, name) for name in node.input]
        inputs = [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(sample[name].dtype),
                sample[name].shape if name in self._inputs else None,
            )
            for name in piece.reads
            if name not in places
        ]
        inputs += [
            helper.make_tensor_value_info(place, onnx.TensorProto.FLOAT, None)
            for place in places.values()
        ]
        read = {name for node in piece.nodes for name in node.input}
        whole = len(piece.nodes) == len(self._proto.graph.node)
        weights = [item for name, item in self._weights.items() if whole or name in read]
        graph = helper.make_graph(
            nodes,
            "piece",
            inputs,
            [helper.make_empty_tensor_value_info(n) for n in outputs],
            weights,
        )
        proto = helper.make_model(
            graph,
            opset_imports=self._proto.opset_import,
            ir_version=max(4, self._proto.ir_version),
            functions=self._proto.functions,
        )
        return _session(proto)


def _is_special(node: onnx.NodeProto) -> bool:
    """Tell whether a node keeps the graph in one piece: bodies of its own, values no tensors."""
    bodies = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    return bodies or "Sequence" in node.op_type or "Optional" in node.op_type


def _session(proto: onnx.ModelProto) -> Any:
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # The optimizer would fuse the very layers that are looked at.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
