"""What must hold of a graph after every rewrite, and of a value after every translation.

`watched` checks it while a test runs. The product itself checks nothing and pays nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import onnx
import onnx_ir as ir
import pytest

import edgeconv.convert.passes as passes
from edgeconv.convert.saved_model.translator import Translator
from edgeconv.convert.translate.value import Value, shape_of
from edgeconv.convert.translate.view import DYNAMIC


def check_value(value: Value, declared: ir.Value) -> None:
    """Assert that a value's tensor, view and ONNX shape say the same.

    Args:
        value: What a translation returned.
        declared: The output of the node, with the shape that ONNX infers, where it is known.
    """
    name, view = declared.name, value.view
    factors = sorted(factor for axis in view.axes for factor in axis)
    assert factors == list(range(len(view.sizes))), f"{name}: its axes hold not each factor once"
    found = shape_of(value.tensor)
    assert len(found) == len(view.stored), f"{name}: stored with rank {len(found)}, not as {view}"
    stored = zip(found, view.stored_shape, strict=True)
    assert all(a == b or DYNAMIC in (a, b) for a, b in stored), f"{name}: stored as {found}: {view}"
    if declared.shape is None:
        return
    expected = [size if isinstance(size, int) else DYNAMIC for size in declared.shape]
    assert value.rank == len(expected), f"{name}: has rank {value.rank}, ONNX says {expected}"
    logical = zip(value.shape, expected, strict=True)
    same = all(a == b or DYNAMIC in (a, b) for a, b in logical)
    assert same, f"{name}: has shape {value.shape}, ONNX says {expected}"


def check_graph(graph: ir.Graph, rewrite: str) -> None:
    """Assert that a rewritten graph is in order and declares the shapes that ONNX infers."""
    known = {str(value.name) for value in graph.inputs} | set(graph.initializers)
    for node in graph:
        for value in node.inputs:
            name = None if value is None else str(value.name)
            assert name in (None, "") or name in known, f"{rewrite}: {name} is read but not made"
        made = [str(value.name) for value in node.outputs if value.name]
        assert known.isdisjoint(made), f"{rewrite}: {made} is made twice"
        known.update(made)
    opsets = dict(graph.opset_imports)
    for node in graph:
        opsets.setdefault(node.domain, 1)
    bare = ir.Model(graph.clone(), ir_version=10)
    declared = {str(value.name): value.shape for node in graph for value in node.outputs}
    outputs = {str(value.name) for value in graph.outputs}
    for copied in bare.graph:
        for value in copied.outputs:
            if value.name not in outputs and not copied.domain:
                value.shape = None
    bare.graph.opset_imports.update(opsets)
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(bare))
    for info in proto.graph.value_info:
        if not info.type.tensor_type.HasField("shape"):
            continue
        shape = declared.get(info.name)
        sizes = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        if shape is None or not shape.is_static() or 0 in sizes:
            continue
        assert shape.numpy() == tuple(sizes), f"{rewrite}: {info.name} {shape} is {sizes}"


def _name(rewrite: passes.Pass) -> str:
    return getattr(rewrite, "__name__", str(rewrite))


@contextmanager
def watched() -> Iterator[None]:
    """Check every rewrite and every translation for as long as the context lasts."""
    call = Translator._call

    def checked_call(self: Translator, node: ir.Node, inputs: Sequence[Any]) -> Sequence[Any]:
        results = call(self, node, inputs)
        for value, declared in zip(results, node.outputs, strict=False):
            if value is not None:
                check_value(value, declared)
        return results

    def checked(rewrite: passes.Pass) -> passes.Pass:
        @wraps(rewrite)
        def run(graph: ir.Graph) -> int:
            changes = rewrite(graph)
            if changes:
                check_graph(graph, _name(rewrite))
            return changes

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Translator, "_call", checked_call)
        patch.setattr(passes, "PASSES", tuple(checked(rewrite) for rewrite in passes.PASSES))
        yield
