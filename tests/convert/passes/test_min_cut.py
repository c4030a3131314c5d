"""Minimum cuts against trying every labelling."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.convert.passes.min_cut import Energy, minimise


@st.composite
def energies(draw: st.DrawFn, labels: int) -> Energy:
    items = draw(st.integers(1, 6))
    costs = st.lists(st.integers(0, 5), min_size=labels, max_size=labels)
    members = st.lists(st.integers(0, items - 1), min_size=1, max_size=4, unique=True)
    groups = draw(st.lists(st.tuples(members, st.integers(1, 4)), max_size=6))
    return Energy(draw(st.lists(costs, min_size=items, max_size=items)), groups)


@pytest.mark.parametrize(("labels", "bound"), [(2, 1), (3, 2)])
def test_the_least_cost_is_found(labels: int, bound: int) -> None:
    """Exactly for two labels; for more at most twice the least (Boykov et al., 6.1)."""

    @settings(deadline=None, max_examples=100)
    @given(energies(labels), st.data())
    def check(energy: Energy, data: st.DataObject) -> None:
        count = len(energy.unary)
        numbers = st.integers(0, labels - 1)
        start = data.draw(st.lists(numbers, min_size=count, max_size=count))
        found = energy.of(minimise(energy, start))
        least = min(energy.of(choice) for choice in product(range(labels), repeat=count))
        assert least <= found <= min(bound * least, energy.of(start))

    check()


def test_a_long_chain_is_cut_where_it_is_thinnest() -> None:
    count = 5000
    unary = [[0.0, 0.0] for _ in range(count)]
    unary[0], unary[-1] = [0.0, 1e9], [1e9, 0.0]
    groups = [([n, n + 1], 1.0 if n == 1234 else 2.0) for n in range(count - 1)]
    chosen = minimise(Energy(unary, groups), [0] * count)
    assert chosen == [0] * 1235 + [1] * (count - 1235)
