"""The factors that equalization put on channels, kept in the quantized file's metadata.

Tensors with equalized channels hold other values than in the float file that the model was made
from; whoever compares the two needs the factors. Each is a power of ``2 ** (1 / 16)``, of which
only the exponent is stored.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from ai_edge_litert.schema_py_generated import MetadataT

from edgeconv.core.artifacts import Array
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

STEP = 2.0 ** (1 / 16)

_NAME = "edgeconv.channel_factors"

Factors = Mapping[str, npt.NDArray[np.float64]]
"""By tensor what its channels, its last axis, were multiplied with."""


def rounded(factors: Array) -> npt.NDArray[np.float64]:
    """Return the nearest factors that can be stored."""
    exponents: npt.NDArray[np.float64] = np.rint(np.log(factors) / np.log(STEP))
    return STEP**exponents


def write(graph: Graph, factors: Factors) -> None:
    """Put factors into a model's metadata; nothing where there are none."""
    if not factors:
        return
    names = list(factors)
    exponents = [np.rint(np.log(factors[name]) / np.log(STEP)).astype(np.int16) for name in names]
    content = io.BytesIO()
    np.savez_compressed(
        content,
        names=np.array(names),
        sizes=np.array([entry.size for entry in exponents], np.int32),
        exponents=np.concatenate(exponents),
    )
    entry = MetadataT()
    entry.name = _NAME
    entry.buffer = tflite.add_buffer(graph.model, np.frombuffer(content.getvalue(), np.uint8))
    graph.model.metadata = [*(graph.model.metadata or []), entry]


def read(graph: Graph) -> Factors:
    """Return the factors in a model's metadata."""
    for entry in graph.model.metadata or []:
        name = entry.name.decode() if isinstance(entry.name, bytes) else entry.name
        if name == _NAME:
            raw = bytes(np.asarray(graph.model.buffers[entry.buffer].data, np.uint8))
            with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
                names, sizes = stored["names"].tolist(), stored["sizes"]
                parts = np.split(stored["exponents"].astype(np.float64), np.cumsum(sizes)[:-1])
            return {name: STEP**part for name, part in zip(names, parts, strict=True)}
    return {}
