"""The smallest ONNX model around one value: the nodes between it and values that are known."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from edgeconv.convert.onnx.light import load_light
from edgeconv.core.arrays import write_npz
from edgeconv.core.artifacts import Arrays


def between(path: Path, value: str, known: Collection[str]) -> tuple[list[int], list[str]]:
    """Return the nodes that compute a value from known ones, and which of those they read.

    Args:
        path: The ONNX file.
        value: The value.
        known: Values that may be given; inputs of the graph always may.

    Returns:
        Numbers of the nodes in the file's order, and names of the values that are read.
    """
    graph = load_light(path).graph
    producers = {name: number for number, node in enumerate(graph.node) for name in node.output}
    constants = {item.name for item in graph.initializer}
    nodes: set[int] = set()
    inputs: list[str] = []
    queue = [value]
    while queue:
        name = queue.pop()
        if not name or name in constants:
            continue
        given = name not in producers or (name in known and name != value)
        if given and name not in inputs:
            inputs.append(name)
        if not given and producers[name] not in nodes:
            nodes.add(producers[name])
            queue += graph.node[producers[name]].input
    return sorted(nodes), inputs


def extract(path: Path, value: str, nodes: list[int], inputs: Arrays, directory: Path) -> None:
    """Write ``node.onnx`` with some nodes of an ONNX file, and ``inputs.npz``.

    Args:
        path: The ONNX file.
        value: The one output.
        nodes: Numbers of the nodes.
        inputs: Values of the inputs by name.
        directory: Where the files go.
    """
    import onnx

    model = onnx.load(str(path))
    graph = model.graph
    kept = [graph.node[number] for number in nodes]
    read = {name for node in kept for name in node.input}
    inputs = {name: array for name, array in inputs.items() if name in read}
    small = onnx.helper.make_graph(
        kept,
        "node",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in inputs.items()
        ],
        [onnx.helper.make_empty_tensor_value_info(value)],
        [item for item in graph.initializer if item.name in read],
    )
    made = onnx.helper.make_model(
        small, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    del made.functions[:]
    made.functions.extend(model.functions)
    made = onnx.shape_inference.infer_shapes(made)
    onnx.save(made, str(directory / "node.onnx"))
    write_npz(directory / "inputs.npz", inputs)
