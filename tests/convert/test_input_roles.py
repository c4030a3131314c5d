"""The graph tells what its inputs are."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgeconv.convert.onnx.file import describe_onnx
from edgeconv.convert.onnx.input_roles import input_roles
from edgeconv.core.roles import Kind, Role


def roles(
    tmp_path: Path, body: str, inputs: str, outputs: str = "float[1,5,8] y"
) -> dict[str, Role]:
    text = f'<ir_version: 9, opset_import: ["" : 18]> g ({inputs}) => ({outputs}) {body}'
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    path = tmp_path / "m.onnx"
    onnx.save(model, str(path))
    return input_roles(describe_onnx(path))


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ("{ y = Gather(table, x) }", 40),
        ("{ i = Cast<to=7>(x) y = Gather<axis=0>(table, i) }", 40),
        ("{ two = Constant<value = int64 {2}>() i = Add(x, two) y = Gather(table, i) }", 38),
        (
            """{ zero = Constant<value = int64 {0}>() n = Constant<value = int64 {40}>()
            b = Less(x, zero) j = Add(x, n) i = Where(b, j, x) y = Gather(table, i) }""",
            40,
        ),
        ("{ a = Gather(table, x) b = Gather(small, x) y = Add(a, b) }", 9),
    ],
)
def test_indices_have_the_size_of_their_table(tmp_path: Path, body: str, size: int) -> None:
    found = roles(tmp_path, body, "int64[1,5] x, float[40,8] table, float[9,8] small")["x"]
    assert found == Role(Kind.INDEX, size=size)


def test_positions_are_told_by_their_name(tmp_path: Path) -> None:
    inputs = "int64[1,5] position_ids, float[40,8] table"
    found = roles(tmp_path, "{ y = Gather(table, position_ids) }", inputs)
    assert found["position_ids"] == Role(Kind.POSITION, size=40)


def test_pictures_in_bytes_and_in_unit(tmp_path: Path) -> None:
    inputs, out = "float[1,3,8,8] x, float[4,3,3,3] w", "float[1,4,6,6] y"
    bodies = {
        "{ y = Conv(x, w) }": 1.0,
        "{ c = Constant<value = float {255.0}>() z = Div(x, c) y = Conv(z, w) }": 255.0,
        "{ c = Constant<value = float {0.003921569}>() z = Mul(x, c) y = Conv(z, w) }": 255.0,
        "{ c = Constant<value = float {123.7}>() z = Sub(x, c) y = Conv(z, w) }": 255.0,
        "{ c = Constant<value = float {0.5}>() z = Sub(x, c) y = Conv(z, w) }": 1.0,
    }
    for body, high in bodies.items():
        assert roles(tmp_path, body, inputs, out)["x"] == Role(Kind.IMAGE, high=(high,))


def test_sounds_are_convolved_and_features_multiplied(tmp_path: Path) -> None:
    body = (
        "{ a = Constant<value = int64[1] {1}>() z = Unsqueeze(x, a) y = Conv<strides=[4]>(z, w) }"
    )
    inputs, out = "float[1,1024] x, float[8,1,16] w", "float[1,8,n] y"
    assert roles(tmp_path, body, inputs, out)["x"].kind is Kind.SOUND
    inputs, out = "float[1,1024] x, float[1024,8] w", "float[1,8] y"
    assert roles(tmp_path, "{ y = MatMul(x, w) }", inputs, out)["x"].kind is Kind.NUMBERS


@pytest.mark.parametrize(
    ("where", "hides"),
    [
        ("Where(m, low, x)", True),
        ("Where(m, x, low)", False),
    ],
)
@pytest.mark.parametrize("negated", [False, True])
def test_masks_hide_nothing(tmp_path: Path, where: str, hides: bool, negated: bool) -> None:
    turned = "m = Not(keep)" if negated else "m = Identity(keep)"
    low = "low = Constant<value = float {-10000000.0}>()"
    found = roles(
        tmp_path,
        f"{{ {low} {turned} s = {where} y = Softmax(s) }}",
        "bool[1,5,8] keep, float[1,5,8] x",
    )["keep"]
    assert found == Role(Kind.MASK, hides=hides is not negated)
