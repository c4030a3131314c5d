"""The error of each layer, here and carried."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeconv.metrics.layer_errors import LayerError, ranked
from edgeconv.quantize.recovery import localise
from edgeconv.quantize.rewrite import static
from edgeconv.quantize.statistics.calibrators import CALIBRATORS
from edgeconv.tflite.graph import Graph


def errors(lab: Any, artifact: Any, rows: Any, **more: Any) -> dict[str, LayerError]:
    quantized = lab.quantize(artifact, rows, **more)
    found = localise.of_files(str(artifact.path), str(quantized.path), rows)
    return {layer.name: layer for layer in found}


def test_error_is_found_where_it_is_made_and_where_it_is_carried(lab: Any) -> None:
    rng = np.random.default_rng(0)
    model = lab.model()
    source = model.input(1, 4, 4, 8)
    # One channel is a thousand times as wide as the others, which a scale for all cannot hold.
    spread = np.array([1000, 1, 1, 1, 1, 1, 1, 1], np.float32)
    wide = model.op("MUL", source, model.constant(spread))
    back = model.op("MUL", wide, model.constant(1 / spread))
    last = model.op("ADD", back, source)
    artifact = lab.save(model, last)
    rows = [[rng.standard_normal((1, 4, 4, 8)).astype(np.float32)] for _ in range(4)]
    found = errors(lab, artifact, rows, disable_recovery=("all",))
    assert [layer.op for layer in found.values()] == ["QUANTIZE", "MUL", "MUL", "ADD"]
    back_error = found[model.graph.name(back)]
    assert back_error.here_db is not None
    assert back_error.here_db < 10
    assert found["x0"].op == "QUANTIZE"
    assert found["y0"].here_db is not None
    assert found["y0"].carried_db is not None
    assert found["y0"].here_db > 30
    assert found["y0"].carried_db < 15
    assert ranked(found.values())[0] is back_error


def test_operators_put_in_between_belong_to_the_layer(lab: Any) -> None:
    rng = np.random.default_rng(0)
    model = lab.model()
    source = model.input(1, 64)
    power = model.op("POW", model.op("ABS", source), model.constant(1.5))
    artifact = lab.save(model, power)
    rows = [[rng.standard_normal((1, 64)).astype(np.float32)] for _ in range(4)]
    found = errors(lab, artifact, rows)
    assert [layer.op for layer in found.values()] == ["QUANTIZE", "ABS", "POW"]
    assert all((layer.here_db or 0) > 35 for layer in found.values())


def test_integer_edges_and_wide_layers(lab: Any) -> None:
    rng = np.random.default_rng(0)
    model = lab.model()
    source = model.input(1, 64)
    weight = model.constant(rng.standard_normal((16, 64)) / 16)
    dense = model.op("FULLY_CONNECTED", source, weight, -1)
    artifact = lab.save(model, model.op("TANH", dense))
    rows = [[rng.standard_normal((1, 64)).astype(np.float32)] for _ in range(4)]
    narrow = errors(lab, artifact, rows, io_dtype="int8")
    wide = errors(lab, artifact, rows, mode="int16x8")
    assert [layer.op for layer in narrow.values()] == ["FULLY_CONNECTED", "TANH"]
    for name, layer in narrow.items():
        assert (layer.here_db or 0) > 25
        assert (wide[name].here_db or 0) > (layer.here_db or 0)


def test_saturation_that_no_reader_sees_is_no_error(lab: Any) -> None:
    rng = np.random.default_rng(0)
    model = lab.model()
    source = model.input(1, 64)
    weight = model.constant(rng.standard_normal((16, 64)) * 4)
    dense = model.op("FULLY_CONNECTED", source, weight, -1)
    lab.save(model, model.op("TANH", dense))
    reference: Graph = model.graph
    rows = [[rng.standard_normal((1, 64)).astype(np.float32)] for _ in range(4)]
    quantized = reference.copy()
    ranges = static.calibrated_ranges(quantized, rows, CALIBRATORS["minmax"], everything=False)
    needed = static.build(quantized, ranges, ["int8"] * 2, "float32")
    name = reference.name(dense)
    told = localise.layer_errors(reference, quantized, rows, needed)
    untold = localise.layer_errors(reference, quantized, rows)
    figures = [{layer.name: layer for layer in found}[name].here_db for found in (told, untold)]
    assert figures[0] is not None
    assert figures[1] is not None
    assert figures[0] > 20
    assert figures[1] < 5
