"""Convolutions equal onnxruntime's in every geometry and stored order."""

from __future__ import annotations

from typing import Any

import pytest

GEOMETRIES = {
    "1d": ("[2,4,9]", "[6,4,3]", "pads = [1, 2], strides = [2]"),
    "1d_depthwise": ("[1,4,9]", "[8,1,3]", "group = 4, strides = [2], dilations = [1]"),
    "1d_dilated": ("[1,4,9]", "[4,1,3]", "group = 4, dilations = [2]"),
    "2d_dilated_strided": ("[1,3,9,8]", "[4,3,2,3]", "dilations = [2, 2], strides = [2, 1]"),
    "2d_same_lower": ("[1,3,7,6]", "[4,3,4,3]", 'auto_pad = "SAME_LOWER", strides = [2, 2]'),
    "2d_grouped": ("[1,6,5,5]", "[4,3,3,3]", "group = 2, pads = [1, 1, 1, 1]"),
    "2d_depthwise_uneven": ("[1,4,7,7]", "[4,1,3,3]", "group = 4, strides = [1, 2]"),
    "3d": ("[1,2,5,6,4]", "[3,2,2,3,1]", "pads = [1, 0, 0, 0, 1, 0], strides = [1, 2, 1]"),
    "3d_grouped_dilated": ("[1,4,6,6,6]", "[2,2,2,2,2]", "group = 2, dilations = [2, 1, 3]"),
}
TRANSPOSED = {
    "1d": ("[2,4,5]", "[4,3,3]", "strides = [2], pads = [1, 0]"),
    "same": ("[1,3,5,4]", "[3,2,4,4]", "strides = [2, 2], pads = [1, 1, 1, 1]"),
    "output_padding": (
        "[1,3,5,4]", "[3,2,3,3]", "strides = [2, 3], pads = [1, 1, 1, 1], output_padding = [1, 2]"
    ),
    "output_shape": ("[1,3,5,4]", "[3,2,3,3]", "strides = [3, 2], output_shape = [14, 9]"),
    "same_upper": ("[1,3,5,4]", "[3,2,3,3]", 'strides = [2, 2], auto_pad = "SAME_UPPER"'),
    "dilated": ("[1,3,5,4]", "[3,2,2,3]", "dilations = [2, 3]"),
    "two_groups": ("[1,4,5,4]", "[4,3,3,3]", "group = 2, strides = [2, 2]"),
    "depthwise": (
        "[1,8,5,4]", "[8,1,4,4]", "group = 8, strides = [2, 2], pads = [1, 1, 1, 1]"
    ),
    "many_groups": ("[1,12,5,4]", "[12,2,3,3]", "group = 6, strides = [2, 1], dilations = [1, 2]"),
    "3d": ("[1,2,3,4,3]", "[2,3,2,3,2]", "strides = [1, 2, 2], pads = [0, 1, 0, 1, 0, 1]"),
}  # fmt: skip


def model(kind: str, x: str, w: str, attributes: str, *, fixed: bool) -> str:
    channels = w.strip("[]").split(",")
    groups = int(attributes.split("group = ")[1].split(",")[0]) if "group" in attributes else 1
    outputs = int(channels[0]) if kind == "Conv" else int(channels[1]) * groups
    size = 1
    for part in channels:
        size *= int(part)
    bias = ", ".join(str(n / 7) for n in range(outputs))
    values = ", ".join(str((n * 7919 % 17 - 8) / 9) for n in range(size))
    weight = f"float{w} w = {{{values}}}, " if fixed else ""
    extra = "" if fixed else f", float{w} w"
    rank = len(x.split(","))
    shape = ",".join("abcde"[:rank])
    return f"""g (float{x} x{extra}) => (float[{shape}] y, float[{shape}] r)
        <{weight}float[{outputs}] b = {{{bias}}}> {{
        y = {kind} <{attributes}> (x, w, b)  r = Relu(y) }}"""


@pytest.mark.parametrize("name", GEOMETRIES)
def test_convolutions(assert_parity: Any, name: str) -> None:
    assert_parity(model("Conv", *GEOMETRIES[name], fixed=True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("fixed", [True, False])
def test_convolutions_in_any_layout(assert_any_layout: Any, name: str, fixed: bool) -> None:
    assert_any_layout(model("Conv", *GEOMETRIES[name], fixed=fixed), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolutions(assert_parity: Any, name: str) -> None:
    parity = assert_parity(
        model("ConvTranspose", *TRANSPOSED[name], fixed=True), rtol=1e-4, atol=1e-4
    )
    if name == "same":
        assert parity.count("STRIDED_SLICE") == 0


@pytest.mark.parametrize("name", TRANSPOSED)
@pytest.mark.parametrize("fixed", [True, False])
def test_transposed_in_any_layout(assert_any_layout: Any, name: str, fixed: bool) -> None:
    assert_any_layout(model("ConvTranspose", *TRANSPOSED[name], fixed=fixed), rtol=1e-4, atol=1e-4)


def test_weights_at_run_time(assert_parity: Any) -> None:
    assert_parity(model("Conv", *GEOMETRIES["2d_grouped"], fixed=False), rtol=1e-4, atol=1e-4)
