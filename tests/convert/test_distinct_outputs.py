"""Outputs that the converter would let share a tensor keep their names."""

from __future__ import annotations

from typing import Any


def test_an_input_returned_unchanged(assert_parity: Any) -> None:
    parity = assert_parity("g (float[2,3] x) => (float[2,3] y) { y = Identity(x) }")
    assert parity.operators == ("RESHAPE",)


def test_a_scalar_returned_unchanged(assert_parity: Any) -> None:
    assert_parity("g (int64 x) => (int64 y) { y = Identity(x) }")


def test_one_value_under_two_names(assert_parity: Any) -> None:
    text = "g (float[2,3] x) => (float[2,3] y, float[2,3] z) { y = Relu(x) z = Identity(y) }"
    assert_parity(text)
