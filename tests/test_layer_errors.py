"""Values that say how much error each layer makes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeconv.metrics.layer_errors import LayerError, Ratio, ranked
from edgeconv.metrics.parity import MAX_DB


def test_worst_first_by_what_a_layer_makes_itself() -> None:
    layers = [
        LayerError("a", "CONV_2D", here_db=40.0, carried_db=10.0),
        LayerError("b", "ADD", here_db=20.0, carried_db=30.0),
        LayerError("c", "MUL", carried_db=25.0),
        LayerError("d", "RESHAPE"),
    ]
    assert [layer.name for layer in ranked(layers)] == ["b", "c", "a"]
    assert [layer.name for layer in ranked(layers, 1)] == ["b"]


def test_json_and_back() -> None:
    layer = LayerError("a", "CONV_2D", 40.0, 10.0, "/conv/Conv", "conv", "net.py:3", "widen", 2.5)
    data = json.loads(json.dumps(layer.to_dict()))
    assert data["sqnr_db"] == 40.0
    assert LayerError.from_dict(data) == layer


def test_signal_and_noise_of_any_number_of_values() -> None:
    generator = np.random.default_rng(0)
    expected = generator.standard_normal((3, 50_000)).astype(np.float32)
    found = expected + np.float32(1e-3) * generator.standard_normal(expected.shape, np.float32)
    ratio = Ratio()
    for first, second in zip(expected, found, strict=True):
        ratio.add(first, second)
    double = expected.astype(np.float64)
    assert ratio.signal == pytest.approx(np.square(double).sum(), rel=1e-12)
    assert ratio.noise == pytest.approx(np.square(found - double).sum(), rel=1e-12)


def test_what_is_not_finite_in_the_reference_is_left_out() -> None:
    expected = np.ones(20_000, np.float32)
    expected[[3, 9_000]] = np.nan, np.inf
    ratio = Ratio()
    ratio.add(expected, np.ones(20_000, np.float32))
    assert (ratio.signal, ratio.noise) == (19_998.0, 0.0)


def test_what_is_not_finite_where_the_reference_is_drowns_everything() -> None:
    found = np.ones((2, 10_000), np.float32)
    found[1, -1] = np.nan
    ratio = Ratio()
    ratio.add(np.ones((2, 10_000), np.float32), found)
    assert ratio.decibels == -MAX_DB


def test_a_layer_without_elements_has_no_noise() -> None:
    ratio = Ratio()
    ratio.add(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))
    assert (ratio.signal, ratio.noise) == (0.0, 0.0)
