"""One layer of a quantized model in files of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgeconv.metrics.layer_errors import Ratio
from edgeconv.parity.layers import excerpt
from edgeconv.quantize.params import factors
from edgeconv.quantize.recovery import localise
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph


def results(directory: Path) -> list[Any]:
    """Return what the float layer and the quantized one make of the same inputs."""
    found = []
    with np.load(directory / excerpt.INPUTS) as inputs:
        for name in (excerpt.FLOAT, excerpt.QUANTIZED):
            run = Interpreter(str(directory / name)).get_signature_runner()
            feed = {key: inputs[key] for key in run.get_input_details()}
            found.append(run(**feed)["output"])
    return found


def assert_each_layer_reproduces(artifact: Any, quantized: Any, row: Any, directory: Path) -> None:
    """Require the two files of each layer to show the error that was measured for it."""
    files = artifact.path, quantized.path
    layers = localise.of_files(str(files[0]), str(files[1]), [row])
    assert layers
    for number, layer in enumerate(layers):
        folder = directory / str(number)
        folder.mkdir()
        excerpt.write(*files, row, layer.name, folder)
        ratio = Ratio()
        ratio.add(*results(folder))
        assert ratio.decibels == pytest.approx(layer.here_db, abs=0.5), layer


def network(lab: Any) -> tuple[Any, list[Any]]:
    """Return a network whose channels differ widely, so that equalization pays, and samples."""
    rng = np.random.default_rng(0)
    model = lab.model()
    source = model.input(1, 8, 8, 3)
    spread = np.array([30, 1, 1, 1, 0.1, 1, 1, 1]).reshape(8, 1, 1, 1)
    conv = model.op(
        "CONV_2D", source, model.constant(rng.normal(size=(8, 3, 3, 3)) * spread),
        model.constant(rng.normal(size=8)), padding=0, strideW=1, strideH=1,
        dilationWFactor=1, dilationHFactor=1, fusedActivationFunction=1,
    )  # fmt: skip
    back = model.op(
        "CONV_2D", conv, model.constant(rng.normal(size=(4, 1, 1, 8)) / spread.reshape(8)),
        model.constant(rng.normal(size=4)), padding=0, strideW=1, strideH=1,
        dilationWFactor=1, dilationHFactor=1,
    )  # fmt: skip
    swish = model.op("MUL", back, model.op("LOGISTIC", back))
    flat = model.op("MEAN", swish, model.constant([1, 2], "int32"), keepDims=False)
    power = model.op("POW", model.op("ABS", flat), model.constant(1.5))
    rows = [[rng.normal(size=(1, 8, 8, 3)).astype(np.float32)] for _ in range(32)]
    return lab.save(model, power), rows


@pytest.mark.parametrize(
    ("mode", "io_dtype"),
    [("int8", "float32"), ("int8", "int8"), ("int8", "uint8"), ("int16x8", "int16"),
     ("dynamic", "float32")],
)  # fmt: skip
def test_each_layer_alone_has_the_error_that_was_measured(
    lab: Any, tmp_path: Path, mode: str, io_dtype: str
) -> None:
    artifact, rows = network(lab)
    quantized = lab.quantize(artifact, rows, mode=mode, io_dtype=io_dtype)
    assert_each_layer_reproduces(artifact, quantized, rows[0], tmp_path)


def test_factors_on_channels_are_taken_out_again(lab: Any, tmp_path: Path) -> None:
    artifact, rows = network(lab)
    quantized = lab.quantize(artifact, rows)
    graph = Graph(tflite.load(quantized.path))
    found = [name for name, entry in factors.read(graph).items() if not np.allclose(entry, 1)]
    assert found
    excerpt.write(artifact.path, quantized.path, rows[0], found[0], tmp_path)
    expected, other = results(tmp_path)
    assert np.abs(expected - other).max() < 0.05 * np.abs(expected).max()


def test_what_is_not_part_of_the_layer_is_left_out(lab: Any, tmp_path: Path) -> None:
    artifact, rows = network(lab)
    quantized = lab.quantize(artifact, rows, disable_recovery=("all",))
    operators = excerpt.write(artifact.path, quantized.path, rows[0], "y0", tmp_path)
    assert "CONV_2D" not in operators
    alone = Graph(tflite.load(tmp_path / excerpt.QUANTIZED))
    assert alone.op(alone.operators[0]) == "QUANTIZE"
    assert len(alone.model.buffers) < len(tflite.load(quantized.path).buffers)
    assert (tmp_path / excerpt.QUANTIZED).stat().st_size < quantized.path.stat().st_size
