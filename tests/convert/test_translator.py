"""The walk over the graph: names, layouts of inputs and outputs, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeconv.convert.onnx.value_map import scope_name
from edgeconv.convert.ops import default_registry
from edgeconv.convert.saved_model.translate import build, load_graph
from edgeconv.convert.translate.registry import OpVersion, Registry, Unsupported, bind, op
from edgeconv.core.errors import InvalidModel, UnsupportedModel

HEADER = '<ir_version: 10, opset_import: ["": 21, "nowhere": 1]>'

WEIGHTS = ",".join(str(0.01 * number) for number in range(54))
CONV = f"""g (float[1,2,6,5] image) => (float[1,3,6,5] features) <float[3,2,3,3] w = {{{WEIGHTS}}}>
{{ features = Conv<pads=[1,1,1,1]>(image, w) }}
"""


def save(text: str, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(HEADER + text), path)
    return path


def convert_text(text: str, folder: Path, io_layout: str = "nhwc") -> Any:
    graph = load_graph(save(text, folder))
    return build(graph, folder / "saved_model", io_layout, default_registry())


def test_images_are_stored_channels_last(tmp_path: Path) -> None:
    saved = convert_text(CONV, tmp_path)
    assert saved.inputs[0].shape == (1, 6, 5, 2)
    assert saved.inputs[0].permutation == (0, 2, 3, 1)
    assert saved.outputs[0].shape == (1, 6, 5, 3)
    assert saved.outputs[0].layout == "nhwc"


def test_nchw_is_kept_on_request(tmp_path: Path) -> None:
    saved = convert_text(CONV, tmp_path, io_layout="nchw")
    assert saved.inputs[0].shape == (1, 2, 6, 5)
    assert saved.outputs[0].layout == "source"


def test_rank_4_values_that_are_no_images_keep_their_order(tmp_path: Path) -> None:
    text = """g (float[1,2,6,5] queries, float[1,2,5,6] keys) => (float[1,2,6,6] scores)
    { p = MatMul(queries, keys)
      scores = Softmax<axis=-1>(p) }"""
    saved = convert_text(text, tmp_path)
    assert [spec.layout for spec in (*saved.inputs, *saved.outputs)] == ["source"] * 3


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_parity_holds_in_both_layouts(assert_parity: Any, layout: str) -> None:
    assert_parity(CONV.replace("image", "i"), io_layout=layout, opset=21)


def test_names_and_order_survive_to_tflite(assert_parity: Any) -> None:
    """TensorFlow sorts dictionaries and wants identifiers; neither may show."""
    text = """g (float[1,3] z.in, float[1,3] a0, float[1,3] m0)
    => (float[1,3] z1, float[1,3] out_a, float[1,3] b2)
    { z1 = Sub(z.in, a0)
      out_a = Sub(a0, m0)
      b2 = Mul(m0, z.in) }"""
    model = onnx.parser.parse_model(HEADER + text.replace("z.in", "z_in"))
    for value in (*model.graph.input, *model.graph.output):
        value.name = _renamed(value.name)
    for node in model.graph.node:
        node.input[:] = [_renamed(name) for name in node.input]
        node.output[:] = [_renamed(name) for name in node.output]
    parity = assert_parity(model)
    assert list(parity.outputs) == ["9:z/1", "out.a", "b 2"]


def _renamed(name: str) -> str:
    return {"z_in": "z.in:0", "z1": "9:z/1", "out_a": "out.a", "b2": "b 2"}.get(name, name)


def test_an_input_that_is_an_output(assert_parity: Any) -> None:
    assert_parity("g (float[1,3] x) => (float[1,3] y, float[1,3] z) { y = Identity(x) z = Abs(x) }")


@pytest.mark.parametrize(
    "text",
    [
        "g () => (float[2] y) { y = Constant<value_floats=[1.0, 2.0]>() }",
        "g () => (bool y) { y = OptionalHasElement() }",
    ],
)
def test_a_model_without_inputs_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidModel, match="the model has no inputs"):
        convert_text(text, tmp_path)


def test_every_unsupported_node_is_reported_at_once(tmp_path: Path) -> None:
    text = """g (float[1,2,6,5] x) => (float[1,2,6,5] y)
    { a = nowhere.Strange(x)
      b = Upsample<mode="sideways">(a)
      c = Dropout(x, r, t)
      d = Add(a, b)
      y = Add(d, c) }"""
    text = text.replace("(float[1,2,6,5] y)", "(float[1,2,6,5] y) <float r = {0.5}, bool t = {1}>")
    model = onnx.parser.parse_model(HEADER + text)
    model.graph.node[0].metadata_props.add(
        key="pkg.torch.onnx.name_scopes", value="['', 'head', 'head.strange', 'op']"
    )
    model.graph.node[0].metadata_props.add(
        key="pkg.torch.onnx.stack_trace",
        value='File "/home/me/net.py", line 7, in forward\n    x\n'
        '  File "/usr/lib/torch/nn/functional.py", line 9, in f',
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    with pytest.raises(UnsupportedModel) as caught:
        build(load_graph(path), tmp_path / "saved_model", "nhwc", default_registry())
    nodes = caught.value.nodes
    assert [node.op.partition("-")[0] for node in nodes][:1] == ["nowhere::Strange"]
    assert nodes[0].module == "head.strange"
    assert nodes[0].source == "net.py:7"
    assert any("training_mode" in node.reason for node in nodes)
    assert not (tmp_path / "saved_model").exists()


def test_an_unknown_attribute_is_refused(tmp_path: Path) -> None:
    path = save("g (float[2] x) => (float[2] y) { y = Relu<slope=2.0>(x) }", tmp_path)
    with pytest.raises(UnsupportedModel, match="attribute slope"):
        build(load_graph(path), tmp_path / "saved_model", "nhwc", default_registry())


def test_quantization_in_operators_of_its_own_is_told_of_qdq(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>
    g (uint8[2] x) => (uint8[2] y) <float s = {0.5}, uint8 z = {3}>
    { y = com.microsoft.QLinearAdd(x, s, z, x, s, z, s, z) }"""
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    with pytest.raises(UnsupportedModel, match=r"QLinearAdd-1(.|\n)*QDQ format"):
        build(load_graph(path), tmp_path / "saved_model", "nhwc", default_registry())


def test_fully_connected_after_flatten_folds_the_layout_into_its_weights(
    assert_parity: Any,
) -> None:
    random = np.random.default_rng(0)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
            onnx.helper.make_node("Flatten", ["c"], ["f"]),
            onnx.helper.make_node("Gemm", ["f", "d"], ["y"], transB=1),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 2, 5, 4])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 7])],
        [
            onnx.numpy_helper.from_array(random.random((3, 2, 3, 3), np.float32), "w"),
            onnx.numpy_helper.from_array(random.random((7, 60), np.float32), "d"),
        ],
    )
    opsets = [onnx.helper.make_opsetid("", 21)]
    parity = assert_parity(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))
    assert parity.count("TRANSPOSE") == 0
    assert set(parity.operators) <= {"CONV_2D", "RESHAPE", "FULLY_CONNECTED"}


def test_constants_are_computed_at_conversion(assert_parity: Any) -> None:
    text = """g (float[1,4,3] x) => (float[2,6] y)
    <int64[1] two = {2}, int64[1] rest = {-1}, int64[1] zero = {0}, int64[1] one = {1}>
    { s = Shape(x)
      n = Gather(s, zero)
      m = Mul(n, two)
      shape = Concat<axis=0>(m, rest)
      y = Reshape(x, shape) }"""
    assert set(assert_parity(text).operators) <= {"RESHAPE"}


def test_gathering_from_a_long_constant_is_computed_at_conversion(assert_parity: Any) -> None:
    table = ", ".join(str(7 * number % 40) for number in range(40))
    text = f"""g (float[1,3] x) => (float[1,3] y)
    <int64[1,40] table = {{{table}}}, int64[1,3] at = {{39, -1, 33}}>
    {{ i = GatherElements<axis=-1>(table, at)
      f = Cast<to=1>(i)
      y = Mul(x, f) }}"""
    assert set(assert_parity(text).operators) == {"MUL"}


def test_scope_names_are_legal() -> None:
    assert scope_name("/layer1/conv:0") == "./layer1/conv_0"
    assert scope_name("val_3") == "val_3"


@op("Thing", since=3)
def _thing(g: Any, x: Any, y: Any = None, *, size: int = 1) -> Any:
    return x


@op("Thing", since=9)
def _newer_thing(g: Any, *xs: Any) -> Any:
    return xs[0]


def test_the_registry_takes_the_newest_version_allowed() -> None:
    registry = Registry([_thing, _newer_thing])
    assert registry.find("", "Thing", 2) is None
    assert registry.find("", "Thing", 8) is _thing
    assert registry.find("", "Thing", 21) is _newer_thing
    assert registry.names() == ("Thing",)


def test_the_registry_refuses_duplicates() -> None:
    with pytest.raises(ValueError, match="twice"):
        Registry([_thing, op("Thing", since=3)(lambda g, x: x)])
    assert str(OpVersion("", "Thing", 3)) in str(OpVersion("", "Thing", 3))


def test_binding_follows_the_signature() -> None:
    assert bind(_thing, ["x", None], {"size": 2}) == (["x"], {"size": 2})
    for inputs, attributes, reason in (
        ([None, "y"], {}, "input x is missing"),
        (["x", "y", "z"], {}, "at most 2"),
        (["x"], {"colour": 1}, "attribute colour"),
    ):
        with pytest.raises(Unsupported, match=reason):
            bind(_thing, inputs, attributes)


def test_inlined_functions_are_translated(tmp_path: Path) -> None:
    function = onnx.helper.make_function(
        "local", "Twice", ["a"], ["b"],
        [onnx.helper.make_node("Add", ["a", "a"], ["b"])],
        [onnx.helper.make_opsetid("", 21)],
    )  # fmt: skip
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Twice", ["x"], ["y"], domain="local")],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [2])],
        [onnx.helper.make_tensor_value_info("y", 1, [2])],
    )
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("local", 1)]
    model = onnx.helper.make_model(graph, functions=[function], opset_imports=opsets)
    onnx.save(model, tmp_path / "model.onnx")
    loaded = load_graph(tmp_path / "model.onnx")
    assert [node.op_type for node in loaded.graph] == ["Add"]
    assert isinstance(loaded, ir.Model)


def test_a_translation_that_fails_is_a_refusal_of_its_node(tmp_path: Path) -> None:
    @op("Relu")
    def broken(g: Any, x: Any) -> Any:
        raise NotImplementedError("cannot convert a symbolic tensor")

    graph = load_graph(save("g (float[2] x) => (float[2] y) { y = Relu(x) }", tmp_path))
    with pytest.raises(UnsupportedModel, match=r"Relu-21 \(.*NotImplementedError: cannot"):
        build(graph, tmp_path / "saved_model", "nhwc", Registry([broken]))
