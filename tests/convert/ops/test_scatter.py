"""Writing by index equals ONNX's in every reduction, at constant and run-time places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

REDUCTIONS = ["none", "add", "mul", "max", "min"]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("fixed", [True, False])
def test_elements(assert_any_layout: Any, reduction: str, fixed: bool) -> None:
    rows = [[[0, -1, 2], [1, 1, 0]]] if reduction != "none" else [[[0, -1, 2], [1, 2, 0]]]
    values = ", ".join(str(item) for row in rows[0] for item in row)
    given, known = ("", f"<int64[1,2,3] i = {{{values}}}>") if fixed else (", int64[1,2,3] i", "")
    assert_any_layout(
        f"""g (float[2,4,3] x{given}, float[1,2,3] u) => (float[2,4,3] y) {known} {{
        y = ScatterElements <axis = 1, reduction = "{reduction}"> (x, i, u) }}""",
        {} if fixed else {"i": rows},
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("fixed", [True, False])
def test_slices(assert_any_layout: Any, reduction: str, fixed: bool) -> None:
    given, known = ("", "<int64[3,2] i = {0, -1, 1, 2, 1, 0}>") if fixed else (", int64[3,2] i", "")
    assert_any_layout(
        f"""g (float[2,4,3] x{given}, float[3,3] u) => (float[2,4,3] y) {known} {{
        y = ScatterND <reduction = "{reduction}"> (x, i, u) }}""",
        {} if fixed else {"i": [[0, -1], [1, 2], [1, 0]]},
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_in_tflite(assert_parity: Any, reduction: str) -> None:
    second = 1 if reduction != "none" else 2
    assert_parity(
        f"""g (float[4,3] x, int64[2,3] i, float[2,3] u, int64[2,1] j, float[2,3] v) =>
        (float[4,3] y, float[4,3] z) {{
        y = ScatterElements <reduction = "{reduction}"> (x, i, u)
        z = ScatterND <reduction = "{reduction}"> (x, j, v) }}""",
        {"i": [[0, -1, 2], [second, 1, 0]], "j": [[-1], [1]]},
    )


@pytest.mark.parametrize("dtype", ["int32", "int64", "int8", "uint8", "bool"])
def test_dtypes_in_tflite(assert_parity: Any, dtype: str) -> None:
    assert_parity(
        f"""g ({dtype}[4,3] x, int64[2,1] j, {dtype}[2,3] v) => ({dtype}[4,3] y, {dtype}[4,3] z)
        <int64[2,1] k = {{3, 1}}> {{ y = ScatterND(x, j, v)  z = ScatterND(x, k, v) }}""",
        {"j": [[-1], [1]]},
        reference="onnx",
    )


def test_a_run_of_rows_is_laid_between_slices(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[5,3] x, float[2,3] u) => (float[5,3] y)
        <int64[2,1] i = {1, 2}> { y = ScatterND(x, i, u) }""")
    assert sorted(parity.operators) == ["CONCATENATION", "STRIDED_SLICE", "STRIDED_SLICE"]


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter(assert_parity: Any, assert_any_layout: Any, mode: str) -> None:
    text = f"""g (float[2,3,5,2] x, float[2,3,2,2] u, int64[2] at) => (float[2,3,5,2] y) {{
        y = TensorScatter <mode = "{mode}"> (x, u, at) }}"""
    feeds = {"at": [1, 3 if mode == "linear" else 4]}
    assert_any_layout(text, feeds, opset=24, reference="onnx")
    assert_parity(text, feeds, opset=24, reference="onnx")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("places", ["{2}", "{1, 2}", "{-1, 0}", "{0, 2, 4}"])
def test_known_places_of_any_axis_are_slices(
    assert_parity: Any, assert_any_layout: Any, reduction: str, places: str
) -> None:
    count = places.count(",") + 1
    text = f"""g (float[1,2,5,3] x, float[1,2,{count},3] u) => (float[1,2,5,3] y,
        float[1,2,5,3] z) <int64[1,1,{count},1] p = {places}, int64[{count},1] q = {places},
        int64[4] full = {{1, 2, {count}, 3}}> {{
        i = Expand(p, full)
        y = ScatterElements <axis = 2, reduction = "{reduction}"> (x, i, u)
        xt = Transpose <perm = [2, 0, 1, 3]> (x)  ut = Transpose <perm = [2, 0, 1, 3]> (u)
        zt = ScatterND <reduction = "{reduction}"> (xt, q, ut)
        z = Transpose <perm = [1, 2, 0, 3]> (zt) }}"""
    assert_any_layout(text)
    if reduction in ("none", "add"):
        assert not set(assert_parity(text).operators) & {"SCATTER_ND", "SELECT_V2"}


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_known_places_that_are_met_again(assert_any_layout: Any, reduction: str) -> None:
    assert_any_layout(f"""g (float[2,4,3] x, float[4,4,3] u, float[2,3] v) =>
        (float[2,4,3] y, float[2,4,3] z) <int64[4,1] p = {{1, 0, 1, 1}}, int64[2,2] q =
        {{0, 3, 0, 3}}> {{ y = ScatterND <reduction = "{reduction}"> (x, p, u)
        z = ScatterND <reduction = "{reduction}"> (x, q, v) }}""")


def test_known_regions(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[6,5,2] x, float[2,3,2] u, float[2,5,2] v) =>
        (float[6,5,2] y, float[6,5,2] z)
        <int64[2,3,2] p = {1, 1, 1, 2, 1, 3, 2, 1, 2, 2, 2, 3}, int64[2,1] q = {5, 3}> {
        y = ScatterND(x, p, u)  z = ScatterND(x, q, v) }""")
    assert not set(parity.operators) & {"SCATTER_ND", "GATHER"}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_places_known_at_run_time(
    assert_parity: Any, assert_any_layout: Any, count: int, reduction: str
) -> None:
    text = f"""g (float[1,2,5,3] x, float[1,2,{count},3] u, int64[{count},1] q,
        int64[1,2,{count},3] i) => (float[1,2,5,3] y, float[1,2,5,3] z) {{
        y = ScatterElements <axis = 2, reduction = "{reduction}"> (x, i, u)
        xt = Transpose <perm = [2, 0, 1, 3]> (x)  ut = Transpose <perm = [2, 0, 1, 3]> (u)
        zt = ScatterND <reduction = "{reduction}"> (xt, q, ut)
        z = Transpose <perm = [1, 2, 0, 3]> (zt) }}"""
    places = np.array([[4], [-4], [2]])[:count]
    lines = np.broadcast_to(places.reshape(1, 1, count, 1), (1, 2, count, 3))
    feeds = {"q": places, "i": lines}
    assert_any_layout(text, feeds)
    if reduction == "none" or count == 1:
        found = assert_parity(text, feeds)
        assert found.count("TRANSPOSE") == 0
