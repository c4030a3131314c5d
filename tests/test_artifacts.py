"""Outputs that are joined from parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.core.artifacts import Artifact, Format, JoinedPart, OutputJoin, TensorSpec


@given(owners=st.lists(st.integers(0, 2), min_size=1, max_size=24), data=st.data())
def test_parts_at_any_positions_of_any_axis_make_the_whole(
    owners: list[int], data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, 4))
    axis = data.draw(st.integers(0, rank - 1))
    shape = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    shape[axis] = len(owners)
    whole = np.arange(2 * int(np.prod(shape)), dtype=np.float32).reshape(2, *shape)
    positions = [[place for place, one in enumerate(owners) if one == k] for k in range(3)]
    used = [(f"y_{k}", where) for k, where in enumerate(positions) if where]
    join = OutputJoin(
        TensorSpec.plain("y", tuple(shape), "float32"),
        axis,
        tuple(JoinedPart.at(name, where) for name, where in used),
    )
    arrays = {name: np.take(whole, where, axis + 1) for name, where in used}
    read = OutputJoin.from_dict(json.loads(json.dumps(join.to_dict())))
    assert read == join
    assert [part.positions for part in read.parts] == [where for _, where in used]
    np.testing.assert_array_equal(read.join(arrays, 1), whole)


@pytest.mark.parametrize(
    ("positions", "slices"),
    [
        ([0, 1, 2], ((0, 3, 1),)),
        ([2, 5, 8], ((2, 9, 3),)),
        ([0, 1, 3, 4], ((0, 2, 1), (3, 5, 1))),
        ([7], ((7, 8, 1),)),
    ],
)
def test_positions_become_few_slices(
    positions: list[int], slices: tuple[tuple[int, int, int], ...]
) -> None:
    assert JoinedPart.at("y", positions).slices == slices


def test_results_have_the_whole_in_the_place_of_its_first_part() -> None:
    specs = [TensorSpec.plain(name, (1, 2), "int8") for name in ("a", "y_0", "y_1", "z")]
    whole = TensorSpec.plain("y", (1, 4), "float32")
    parts = JoinedPart("y_0", ((0, 2, 1),)), JoinedPart("y_1", ((2, 4, 1),))
    join = OutputJoin(whole, 1, parts)
    artifact = Artifact(Format.TFLITE, Path("m.tflite"), (), tuple(specs), joins=(join,))
    assert [spec.name for spec in artifact.results] == ["a", "y", "z"]
    assert Artifact.from_dict(json.loads(json.dumps(artifact.to_dict()))) == artifact
