"""Models that are small and stand for something huge, or for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from edgeconv.convert.onnx import file as onnx_file
from edgeconv.convert.onnx.limits import require_bounded, require_convertible, require_room
from edgeconv.convert.torch.limits import is_bounded
from edgeconv.core.errors import InvalidModel, LimitExceeded
from edgeconv.toolchain.worker.process import Worker


def _calls(depth: int, *, first: str = "Relu", back: bool = False) -> onnx.ModelProto:
    """Return a model of functions each of which calls the one before it twice."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = []
    for number in range(depth):
        domain, name = ("own", f"F{number - 1}") if number else ("", first)
        if back and number == 0:
            domain, name = "own", f"F{depth - 1}"
        nodes = [
            helper.make_node(name, ["a"], ["c"], domain=domain),
            helper.make_node(name, ["c"], ["b"], domain=domain),
        ]
        functions.append(helper.make_function("own", f"F{number}", ["a"], ["b"], nodes, imports))
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    call = helper.make_node(f"F{depth - 1}", ["x"], ["y"], domain="own")
    graph = helper.make_graph([call], "g", value[:1], value[1:])
    model = helper.make_model(graph, functions=functions, opset_imports=imports)
    model.ir_version = 8
    return model


def test_functions_that_double_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(_calls(60), path)
    with pytest.raises(InvalidModel, match=r"expand beyond measure.*10\^18"):
        onnx_file.read(path)


def test_a_function_that_calls_itself_is_refused() -> None:
    with pytest.raises(InvalidModel, match="calls itself"):
        require_bounded(_calls(5, back=True), "m.onnx")


def test_functions_of_a_common_depth_pass(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(_calls(6), path)
    assert len(onnx_file.read(path).functions) == 6
    require_bounded(_calls(10), "m.onnx")


def test_calls_within_subgraphs_count() -> None:
    model = _calls(40)
    call = model.graph.node[0]
    branch = helper.make_graph([call], "b", [], [model.graph.output[0]])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model.graph.ClearField("node")
    model.graph.node.append(node)
    with pytest.raises(InvalidModel, match="beyond measure"):
        require_bounded(model, "m.onnx")


def _adopt(text: str, tmp_path: Path) -> Any:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    path = tmp_path / "source.onnx"
    onnx.save(model, path)
    return onnx_file.adopt(onnx_file.open_onnx(path), tmp_path / "adopted.onnx")


@pytest.mark.parametrize(
    "nodes",
    [
        "<int64[4] p = {0, 2147483648, 0, 2147483648}> { y = Pad(x, p) }",
        "<int64[2] p = {100000, 100000}> { y = Expand(x, p) }",
        "<int64[2] p = {1000000, 1000}> { y = Tile(x, p) }",
        "<int64[1] p = {9000}, int64[1] q = {90000}> { s = Mul(p, q) y = Expand(x, s) }",
    ],
    ids=["pad", "expand", "tile", "computed"],
)
def test_a_value_of_gigabytes_is_refused(nodes: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="GiB") as caught:
        _adopt(f"g (float[1,1] x) => (float[?,?] y) {nodes}", tmp_path)
    assert "source.onnx" in str(caught.value)


_ENDLESS = {
    "range": "{ n = Constant<value_int=9000000000000>() o = Constant<value_int=0>() "
    "i = Constant<value_int=1>() r = Range(o, n, i) f = Cast<to=1>(r) y = Add(x, f) }",
    "constant": "<int64[1] p = {900000000}> { c = ConstantOfShape(p) y = Add(x, c) }",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", _ENDLESS)
def test_shape_inference_that_does_not_end_is_stopped(name: str, tmp_path: Path) -> None:
    text = f"g (float[1,1] x) => (float[?,?] y) {_ENDLESS[name]}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    onnx.save(model, tmp_path / "m.onnx")
    path, adopted = str(tmp_path / "m.onnx"), str(tmp_path / "a.onnx")
    shapes: dict[str, Any] = {"positional": [], "named": {}}
    module = "edgeconv.convert.onnx.process"
    with Worker("onnx", timeout=300) as worker:
        source = worker.call(f"{module}:open_onnx", path=path, shapes=shapes, open_batch=True)
        with pytest.raises(LimitExceeded):
            worker.call(f"{module}:adopt", source=source, path=adopted)


def test_large_values_of_large_inputs_pass() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        "g (float[1,3,4320,7680] x) => (float[1,16,4320,7680] y) { y = Concat<axis=1>(x) }"
    )
    require_room(model, 0, "m.onnx")


def test_inputs_that_nothing_can_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="input 'x' would take"):
        _adopt("g (float[1000000,1000000] x) => (float[?,?] y) { y = Relu(x) }", tmp_path)


@pytest.mark.parametrize(
    "text", ["s0", "2*s0 + 1", "s0**2", "(s0 + 3)//4", "PowByNatural(s0, 2)", "Max(1, s0*s1)"]
)
def test_symbolic_sizes_of_exporters_pass(text: str) -> None:
    assert is_bounded(text)


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9**9",
        "9**999999999",
        "((s0**64)**64)**64",
        "2**s0",
        "1<<99999999999",
        "Pow(9, Pow(9, 999))",
        "PowByNatural(9, 10**9)",
        "LShift(1, 1000000)",
        "Integer(9)**Integer(99999)",
        "(" * 5000 + "1" + ")" * 5000,
    ],
)
def test_symbolic_sizes_beyond_measure_are_refused(text: str) -> None:
    assert not is_bounded(text)


class _Endless(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        while bool(y.sum() < float("inf")):
            y = y + 0
        return y


class _Counted(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = x + 1
        return x


def _open(path: Path) -> Any:
    with Worker("PyTorch", preload=["torch"], timeout=300) as worker:
        return worker.call(
            "edgeconv.sources.torch_process:open_model",
            key="model",
            shapes={"positional": [[1, 3]], "named": {}},
            source=str(path),
        )


@pytest.mark.slow
def test_a_program_that_never_ends_is_stopped(tmp_path: Path) -> None:
    torch.jit.script(_Endless()).save(str(tmp_path / "m.pt"))
    with pytest.raises(LimitExceeded, match="processor time"):
        _open(tmp_path / "m.pt")


def test_a_program_with_a_short_loop_loads(tmp_path: Path) -> None:
    torch.jit.script(_Counted()).save(str(tmp_path / "m.pt"))
    assert _open(tmp_path / "m.pt")["inputs"][0]["shape"] == [1, 3]


def test_more_nodes_than_are_converted_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", [f"v{n}"], [f"v{n + 1}"]) for n in range(50_001)]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("v0", "v50001")
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(InvalidModel, match="50,001 nodes"):
        require_convertible(model, "m.onnx")
    del model.graph.node[0]
    require_convertible(model, "m.onnx")
