"""Operators that broadcast do not need their operands repeated beforehand."""

from __future__ import annotations

from typing import Any

import pytest

GATE = """g (float[1,3,4,5] x, float[1,1,3] s) => (float[1,3,4,5] y)
    <int64[4] split = {{1, -1, 1, 1}}, int64[4] whole = {{1, 3, 4, 5}}> {{
    a = Reshape(s, split)  b = Expand(a, whole)  {body} }}"""


@pytest.mark.parametrize("body", ["y = Mul(x, b)", "y = Add(b, x)", "p = Sub(b, x) y = Neg(p)"])
def test_a_gate_for_each_channel(assert_parity: Any, body: str) -> None:
    """Efficient channel attention: a weight for each channel, expanded to the image."""
    parity = assert_parity(GATE.format(body=body))
    assert parity.count("TRANSPOSE") == parity.count("BROADCAST_TO") == 0


def test_a_condition(assert_parity: Any) -> None:
    parity = assert_parity("""g (bool[1,4] c, float[3,4] x, float[3,4] z) => (float[3,4] y)
        <int64[2] whole = {3, 4}> { e = Expand(c, whole)  y = Where(e, x, z) }""")
    assert parity.count("BROADCAST_TO") == 0


@pytest.mark.parametrize(
    "graph",
    [
        """g (float[1,4] x, float[1,4] z) => (float[3,4] y)
        <int64[2] whole = {3, 4}> { e = Expand(x, whole)  y = Mul(e, z) }""",
        """g (float[1,4] x) => (float[3,4] y)
        <int64[2] whole = {3, 4}> { e = Expand(x, whole)  y = Mul(e, e) }""",
        """g (float[1,4] x) => (float[3,8] y)
        <int64[2] whole = {3, 4}> { e = Expand(x, whole)  y = Concat<axis = 1>(e, e) }""",
    ],
)
def test_where_the_result_would_be_smaller_it_stays(assert_parity: Any, graph: str) -> None:
    assert_parity(graph)
