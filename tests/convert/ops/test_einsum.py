"""Einsum and Det equal numpy's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "i": 3, "j": 4, "k": 2}
EQUATIONS = [
    "ij,jk->ik", "ij->ji", "ii->i", "ii", "ij->", "ij,ij->", "i,j->ij", "bij,bjk->bik",
    "bij,bjk", "abij,abkj->abik", "abc,abc->ac", "ab,bc,cd->ad", "aij,j->ia", "a...,a->...",
    "...ij,...jk->...ik", "iij->j",
]  # fmt: skip


def text(equation: str) -> str:
    terms = equation.split("->", 1)[0].split(",")
    shapes = [[SIZES[c] for c in term.replace("...", "cd")] for term in terms]
    inputs = ", ".join(f"float[{','.join(map(str, shape))}] x{n}" for n, shape in enumerate(shapes))
    names = ", ".join(f"x{n}" for n in range(len(terms)))
    return f'g ({inputs}) => (float[] y) {{ y = Einsum <equation = "{equation}"> ({names}) }}'


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(assert_parity: Any, equation: str) -> None:
    assert_parity(
        text(equation), reference="onnx", tflite=equation in EQUATIONS[::3], rtol=1e-4, atol=1e-5
    )


@given(st.data())
@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_two_terms(assert_parity: Any, data: st.DataObject) -> None:
    letters = st.lists(st.sampled_from("abcij"), min_size=1, max_size=4, unique=True)
    left, right = data.draw(letters), data.draw(letters)
    both = sorted({*left, *right})
    result = data.draw(st.lists(st.sampled_from(both), max_size=4, unique=True))
    equation = f"{''.join(left)},{''.join(right)}->{''.join(result)}"
    assert_parity(text(equation), reference="onnx", tflite=False, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_det(assert_parity: Any, size: int) -> None:
    graph = f"g (float[5,{size},{size}] x) => (float[5] y) {{ y = Det(x) }}"
    assert_parity(graph, reference="onnx", rtol=1e-4, atol=1e-5)
