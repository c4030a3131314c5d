"""The prediction against what the compiler did, and each rule on models built here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeconv.targets.coral.predict import first_partition, predict
from tests.targets.coral import pairs

PAIRS = pytest.mark.parametrize("folder", pairs.folders(), ids=lambda folder: folder.name)


def test_there_is_more_than_one_pair_beside_the_checkout() -> None:
    if len(pairs.folders()) == 1:
        pytest.skip("the pairs of source and compiled models are not beside the checkout")
    assert len(pairs.folders()) >= 10


@PAIRS
def test_every_operator_is_placed_where_the_compiler_put_it(folder: Path) -> None:
    expected = [(op["index"], op["op"], op["placement"]) for op in pairs.truth(folder)["ops"]]
    found = [(op.index, op.op, op.placement) for op in predict(folder / "source.tflite").ops]
    assert found == expected


@PAIRS
def test_parameters_are_estimated_within_a_tenth(folder: Path) -> None:
    truth, found = pairs.truth(folder), predict(folder / "source.tflite").parameters
    for mine, theirs in (
        (found.cached, truth["cached_parameter_bytes"]),
        (found.streamed, truth["streamed_parameter_bytes"]),
    ):
        assert mine == pytest.approx(theirs, rel=0.1, abs=2048)


def test_the_partition_is_the_first_round_of_what_maps() -> None:
    # 0 -> 1 (does not map) -> 2, and 0 -> 3
    assert first_partition([True, False, True, True], [set(), {0}, {1}, {0}]) == {0, 3}


def test_what_does_not_map_may_feed_the_partition() -> None:
    assert first_partition([False, True, False, True], [set(), {0}, {1}, {2}]) == {1}


def test_nothing_maps_where_nothing_can() -> None:
    assert first_partition([False, False], [set(), {0}]) == set()
