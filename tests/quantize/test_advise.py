"""What the worst layers of a quantized model would gain in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv import tflite
from edgeconv.quantize import advise, localise
from edgeconv.quantize.graph import Graph
from edgeconv.quantize.precision import keep
from edgeconv.quantize.runs import Runner


def spread_model(lab: Any) -> tuple[Any, Any, str]:
    """Return a model of which one layer's channels are a thousand times apart, and its name."""
    rng = np.random.default_rng(0)
    model = lab.model()
    spread = np.array([1000, 1, 1, 1, 1, 1, 1, 1], np.float32)
    wide = model.op("MUL", model.input(1, 4, 4, 8), model.constant(spread))
    back = model.op("MUL", wide, model.constant(1 / spread))
    weight = model.constant(rng.standard_normal((4, 8)))
    dense = model.op("FULLY_CONNECTED", back, weight, model.constant(np.ones(4)))
    artifact = lab.save(model, model.op("ADD", dense, model.constant(np.full(4, 0.5))))
    rows = [[rng.standard_normal((1, 4, 4, 8)).astype(np.float32)] for _ in range(4)]
    return artifact, rows, model.graph.name(wide)


def test_the_layer_to_blame_is_told_with_what_it_would_gain(lab: Any) -> None:
    artifact, rows, wide = spread_model(lab)
    quantized = lab.quantize(artifact, rows, disable_recovery=("all",))
    found = advise.of_files(str(artifact.path), str(quantized.path), rows)
    told = {layer.name: layer for layer in found if layer.gain_db is not None}
    best = max(told.values(), key=lambda layer: layer.gain_db or 0.0)
    assert best.gain_db is not None
    assert best.gain_db > 10
    assert f"--keep-float '{wide}'" in best.advice
    names = best.advice.split("'")[1::2]
    kept = [keep(name, "float", "--keep-float").to_dict() for name in names]
    expected = lab.run(artifact.path, rows)[0]
    before = lab.sqnr(expected, lab.run(quantized.path, rows)[0])
    again = lab.quantize(artifact, rows, disable_recovery=("all",), rules=kept)
    after = lab.sqnr(expected, lab.run(again.path, rows)[0])
    assert after - before == pytest.approx(best.gain_db, abs=4)


def test_layers_that_do_not_matter_gain_nothing(lab: Any) -> None:
    rng = np.random.default_rng(0)
    model = lab.model()
    source = model.input(1, 16)
    # A layer whose error is as large as its values, and of which next to nothing is left.
    small = model.op("MUL", source, model.constant(np.logspace(-3, 3, 16)))
    faint = model.op("MUL", small, model.constant(np.logspace(3, -3, 16) * 1e-6))
    artifact = lab.save(model, model.op("ADD", source, faint))
    rows = [[rng.standard_normal((1, 16)).astype(np.float32)] for _ in range(4)]
    quantized = lab.quantize(artifact, rows, disable_recovery=("all",))
    found = advise.of_files(str(artifact.path), str(quantized.path), rows)
    faintest = next(layer for layer in found if layer.name == model.graph.name(faint))
    assert faintest.gain_db == pytest.approx(0, abs=0.1)
    assert "gains nothing" in faintest.advice


@pytest.mark.parametrize("io_dtype", ["float32", "int8"])
def test_operators_in_float_compute_what_their_integers_stand_for(lab: Any, io_dtype: str) -> None:
    rng = np.random.default_rng(0)
    model = lab.model()
    step = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    weight, bias = rng.standard_normal((3, 3, 3, 2)), rng.standard_normal(3)
    source = model.input(1, 5, 5, 2)
    x = model.op("CONV_2D", source, model.constant(weight), model.constant(bias), **step)
    artifact = lab.save(model, model.op("LOGISTIC", x))
    rows = [[rng.standard_normal((1, 5, 5, 2)).astype(np.float32)] for _ in range(4)]
    quantized = lab.quantize(artifact, rows, io_dtype=io_dtype)
    graph = Graph(tflite.load(quantized.path))
    every = [place for place, one in enumerate(graph.operators) if graph.op(one) != "QUANTIZE"]
    turned = advise.in_float(Graph(tflite.load(artifact.path)), graph, every)
    assert {turned.dtype(operator.inputs[0]) for operator in turned.operators} <= {
        "float32", "int8",
    }  # fmt: skip
    assert turned.dtype(turned.outputs[0]) == "float32"
    runner, expected = Runner(turned, turned.outputs), lab.run(artifact.path, rows)[0]
    found = [runner.run(localise.stored_feed(turned, row))[turned.outputs[0]] for row in rows]
    assert lab.sqnr(expected, np.stack(found)) > 38


def test_names_that_were_fused_become_a_pattern(lab: Any) -> None:
    artifact, rows, wide = spread_model(lab)
    graph = Graph(tflite.load(artifact.path))
    place = next(p for p, one in enumerate(graph.operators) if graph.label(one) == wide)
    graph.tensors[graph.operators[place].outputs[0]].name = b"stem/MatMul;stem/BiasAdd"
    assert "--keep-float 'stem/MatMul*'" in advise.words(graph, [place], 3.0)
    assert rows
