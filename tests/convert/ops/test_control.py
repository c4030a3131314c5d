"""An If whose condition is known at conversion is the branch that it takes."""

from __future__ import annotations

from typing import Any

import pytest

from edgeconv.core.errors import UnsupportedModel

BRANCHES = """then_branch = t () => (float[1,2,3,4] a) { a = Relu(x) },
    else_branch = e () => (float[1,2,3,4] b) <float two = {2}> { c = Mul(x, two) b = Neg(c) }"""
SHAPES = """g (float[1,2,3,4] x) => (float[1,2,3,4] y) <int64 place = {1}, int64 size = {SIZE}> {
    s = Shape(x) n = Gather <axis = 0> (s, place) is = Equal(n, size)
    k = If (is) <BRANCHES> y = Abs(k) }"""


@pytest.mark.parametrize(("size", "operators"), [(2, {"RELU", "ABS"}), (3, {"MUL", "NEG", "ABS"})])
def test_a_condition_on_shapes(assert_parity: Any, size: int, operators: set[str]) -> None:
    graph = SHAPES.replace("BRANCHES", BRANCHES).replace("SIZE", str(size))
    assert set(assert_parity(graph).operators) <= operators


def test_a_condition_at_run_time_is_refused(assert_parity: Any) -> None:
    graph = f"g (bool is, float[1,2,3,4] x) => (float[1,2,3,4] y) {{ y = If (is) <{BRANCHES}> }}"
    with pytest.raises(UnsupportedModel, match="the condition is computed at run time"):
        assert_parity(graph)
