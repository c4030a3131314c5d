"""The prediction against what the compiler did, and each rule on models built here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeconv.targets.coral.placement.parameters import CACHE_BYTES, parameter_bytes
from edgeconv.targets.coral.placement.predict import first_partition, predict, predict_view
from tests.targets.coral import pairs
from tests.targets.coral.graphs import Graph

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


def _chain(*names: str) -> Graph:
    """Return operators that feed one another, images of int8."""
    g = Graph()
    last = g.tensor(1, 8, 8, 4)
    for name in names:
        result = g.tensor(1, 8, 8, 4)
        weights = (g.weight(4, 1, 1, 4), None) if name == "CONV_2D" else ()
        g.op(name, last, *weights, out=result)
        last = result
    return g


def test_a_cut_tells_what_it_strands() -> None:
    found = predict_view(_chain("CONV_2D", "HARD_SWISH", "CONV_2D", "RELU").view())
    assert [op.placement for op in found.ops] == ["edgetpu", "cpu", "cpu", "cpu"]
    assert [op.mappable for op in found.ops] == [True, False, True, True]
    (cut,) = found.cuts
    assert (cut.index, cut.op, cut.stranded) == (1, "HARD_SWISH", (2, 3))
    assert (cut.ops, cut.macs) == (0.75, 0.5)
    assert "depends on" in found.ops[2].reason
    assert found.macs_share == 0.5


def test_nothing_maps_where_the_compiler_refuses_the_model() -> None:
    g = _chain("CONV_2D", "RELU")
    g.ops[0] = replace(g.ops[0], version=6, inputs=(g.tensor(1, 8, 8, 8), g.weight(4, 1, 1, 4)))
    found = predict_view(g.view())
    assert (found.on_edgetpu, found.on_cpu) == (0, 2)
    (objection,) = found.objections
    assert (objection.index, objection.op) == (0, "CONV_2D")
    assert "grouped convolution" in objection.advice
    assert "refuses the model" in found.ops[1].reason


def test_a_version_that_is_too_new_without_need_is_told_from_groups() -> None:
    g = _chain("CONV_2D")
    g.ops[0] = replace(g.ops[0], version=6)
    (objection,) = predict_view(g.view()).objections
    assert "lowest version" in objection.advice


def test_newer_builtins_are_fatal() -> None:
    (objection,) = predict_view(_chain("GELU").view()).objections
    assert "no builtin 150" in objection.why


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"outside": 3}, "behind the flatbuffer"), ({"subgraphs": 2}, "2 subgraphs")],
)
def test_models_that_are_refused_as_a_whole(changes: dict[str, int], words: str) -> None:
    (objection,) = predict_view(_chain("RELU").view(**changes)).objections
    assert objection.index is None
    assert words in objection.why


def test_float_models_are_refused() -> None:
    g = Graph()
    g.op("RELU", g.tensor(1, 4, dtype="float32"), out=g.tensor(1, 4, dtype="float32"))
    assert "not quantized" in predict_view(g.view()).objections[0].why


def test_shapes_that_are_computed_are_refused() -> None:
    g = Graph()
    shape = g.tensor(2, dtype="int32")
    g.op("RESHAPE", g.tensor(1, 2, 2, 4), shape, out=g.tensor(1, 16))
    assert "its shape is computed" in predict_view(g.view()).objections[0].why


def test_int64_paddings_are_refused() -> None:
    g = Graph()
    pads = g.constant(np.zeros((4, 2)), "int64")
    g.op("PAD", g.tensor(1, 2, 2, 4), pads, out=g.tensor(1, 2, 2, 4))
    assert "int64" in predict_view(g.view()).objections[0].why


def test_what_does_not_fit_on_the_chip_is_streamed() -> None:
    g = Graph()
    for _ in range(3):
        weight = g.weight(2048, 1, 1, 2048)
        g.op("CONV_2D", g.tensor(1, 1, 1, 2048), weight, None, out=g.tensor(1, 1, 1, 2048))
    found = predict_view(g.view()).parameters
    assert found.cached == CACHE_BYTES
    assert found.cached + found.streamed == 3 * (2048 * 2048 + 4 * 2048)


@pytest.mark.parametrize("size", [256, 512, 1024])
def test_dense_layers_take_eight_bytes_beside_each_channel(size: int) -> None:
    g = Graph()
    weight = g.weight(size, size, per_channel=True)
    op = g.op("FULLY_CONNECTED", g.tensor(1, size), weight, None, out=g.tensor(1, size))
    assert parameter_bytes(op) == size * size + 8 * size


def test_long_models_take_no_time() -> None:
    count = 5000
    needs = [set[int]()] + [{index} for index in range(count - 1)]
    assert len(first_partition([True] * count, needs)) == count
