"""Values that say how much error each layer makes."""

from __future__ import annotations

import json

from edgeconv.layer_errors import LayerError, ranked


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
