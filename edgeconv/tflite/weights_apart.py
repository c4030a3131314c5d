"""Write a model that is to run once, its large weights behind the flatbuffer.

The schema lets a buffer be a piece of the file (``Buffer.offset`` and ``size``). So weights go from
where they are straight to the disk, and the interpreter maps them from there; a flatbuffer that
holds them takes a copy in memory to build, and another one to hand over.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from edgeconv.core.artifacts import Array
from edgeconv.core.mapped import give_back
from edgeconv.tflite.file import BufferT
from edgeconv.tflite.graph import Graph

_LARGE = 1 << 20
"""Bytes of a buffer from which it goes to the end of the file."""

_WORTHWHILE = 1 << 26
"""Bytes of all such buffers together from which a file costs less than memory."""

_ALIGNMENT = 64
"""More than the schema asks for: what the widest vector instructions read at once."""


def worthwhile(graph: Graph) -> bool:
    """Tell whether the weights are so many that they do not belong into memory again."""
    return sum(data.size for data in _large(graph).values()) >= _WORTHWHILE


def write(graph: Graph, path: Path) -> None:
    """Write a file that runs as the graph's model does.

    Raises:
        OSError: The file cannot be written.
    """
    large = _large(graph)
    places, end = {}, 0
    for place, data in large.items():
        places[place] = end
        end += _padded(data.size)
    # An offset takes eight bytes, whatever it is: what comes before the weights is as long at last.
    start = _padded(len(graph.serialized(_moved(graph, large, places, _ALIGNMENT))))
    content = graph.serialized(_moved(graph, large, places, start))
    with path.open("wb") as file:
        file.write(content)
        for place, data in large.items():
            file.seek(start + places[place])
            file.write(data.data)
    give_back(large.values())


def _large(graph: Graph) -> dict[int, Array]:
    return {
        place: buffer.data
        for place, buffer in enumerate(graph.model.buffers)
        if buffer.data is not None and len(buffer.data) >= _LARGE
    }


def _moved(
    graph: Graph, large: Mapping[int, Array], places: Mapping[int, int], start: int
) -> list[BufferT]:
    """Return the graph's buffers, the large ones as places in the file."""
    buffers = list(graph.model.buffers)
    for place, data in large.items():
        buffer = copy.copy(buffers[place])
        buffer.data, buffer.offset, buffer.size = None, start + places[place], len(data)
        buffers[place] = buffer
    return buffers


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
