"""Layers of real files: which tensors hold which values, and who is blamed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeconv.convert.onnx.file import describe_onnx
from edgeconv.convert.onnx.value_map import HeldValue, read_map
from edgeconv.convert.stages import ConvertToTflite, TranslateToSavedModel
from edgeconv.core.arrays import write_npz
from edgeconv.core.artifacts import Artifact
from edgeconv.core.options import ConvertOptions
from edgeconv.metrics.layer_errors import LayerError
from edgeconv.metrics.parity import store
from edgeconv.metrics.report import FAIL, PASS, StageParity
from edgeconv.parity.layers.entries import layers_of
from edgeconv.parity.layers.measure import StageLayers, _some, measure_layers
from edgeconv.reports.charts import layer_chart
from edgeconv.toolchain.worker.pool import WorkerPool
from edgeconv.toolchain.worker.stage import StageContext

GRAPH = """<ir_version: 8, opset_import: ["": 17]>
g (float[1,3,8,8] image) => (float[1,5] score)
{
    pad = Conv <pads = [1,1,1,1]> (image, w)
    act = Relu(pad)
    turned = Transpose <perm = [0,2,3,1]> (act)
    back = Transpose <perm = [0,3,1,2]> (turned)
    sum = Add(back, act)
    pool = GlobalAveragePool(sum)
    flat = Flatten(pool)
    score = MatMul(flat, m)
}"""


def model(path: Path, seed: int = 0, factor: float = 1.0) -> Path:
    proto = onnx.parser.parse_model(GRAPH)
    rng = np.random.default_rng(seed)
    for name, shape in (("w", (4, 3, 3, 3)), ("m", (4, 5))):
        array = rng.normal(size=shape).astype(np.float32)
        if name == "m":
            array[:, 0] *= factor
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def workers() -> Any:
    with WorkerPool() as pool:
        yield pool


def stages(
    workers: WorkerPool, directory: Path, onnx_path: Path, other: Path
) -> dict[str, Artifact]:
    context = StageContext(ConvertOptions(), workers, directory, "m")
    first = describe_onnx(onnx_path)
    saved = TranslateToSavedModel().run(describe_onnx(other), context)
    return {
        "onnx": first,
        "saved_model": saved,
        "tflite_fp32": ConvertToTflite().run(saved, context),
    }


def vectors(count: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {"image": rng.normal(size=(count, 1, 3, 8, 8)).astype(np.float32)}


@pytest.mark.slow
def test_every_value_is_measured_or_accounted_for(workers: WorkerPool, tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    found = measure_layers(workers, stages(workers, tmp_path, path, path), vectors(), tmp_path)
    values = ["pad", "act", "turned", "back", "sum", "pool", "flat", "score"]
    for stage in ("saved_model", "tflite_fp32"):
        names = [layer.name for layer in found[stage].layers]
        others = [item.name for item in found[stage].unmatched]
        assert sorted(names + others) == sorted(values)
        assert all((layer.here_db or 0) > 120 for layer in found[stage].layers)
        assert all((layer.carried_db or 0) > 120 for layer in found[stage].layers)
    reasons = {item.name: item.why for item in found["tflite_fp32"].unmatched}
    assert reasons["pad"] == "part of act"
    assert reasons["turned"] == "the same tensor as act"
    layer = {layer.name: layer for layer in found["tflite_fp32"].layers}["act"]
    assert layer.op == "CONV_2D"
    assert layer.onnx_node


SEVERAL = """<ir_version: 8, opset_import: ["": 17]>
g (float[1,8,6,6] x) => (float[1,12,6,6] y)
{
    act = Relu(x)
    a, b, c = Split <axis = 1> (act, sizes)
    d = Sigmoid(b)
    e, f = Split <axis = 2> (d)
    g = Tanh(f)
    h = Concat <axis = 2> (g, e)
    i = Neg(c)
    y = Concat <axis = 1> (h, a, i, b, d)
}"""


@pytest.mark.slow
def test_each_output_of_an_operator_is_matched_to_its_own_tensor(
    workers: WorkerPool, tmp_path: Path
) -> None:
    proto = onnx.parser.parse_model(SEVERAL)
    sizes = numpy_helper.from_array(np.array([2, 2, 4], np.int64), "sizes")
    proto.graph.initializer.append(sizes)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    inputs = {"x": np.random.default_rng(1).normal(size=(2, 1, 8, 6, 6)).astype(np.float32)}
    found = measure_layers(workers, stages(workers, tmp_path, path, path), inputs, tmp_path)
    for stage in ("saved_model", "tflite_fp32"):
        layers = {layer.name: layer for layer in found[stage].layers}
        assert {"a", "b", "c", "e", "f", "g", "i"} <= layers.keys()
        assert min(layer.here_db or 0 for layer in layers.values()) > 100, stage


def test_a_stage_that_passes_blames_nobody() -> None:
    layers = StageLayers((LayerError("x", "CONV_2D", here_db=3.0, carried_db=2.0),), samples=1)
    stage = StageParity("tflite_int8", "m.tflite", PASS, {"sqnr_db": 12.0})
    assert layers_of(layers, stage).first is None
    blamed = layers_of(layers, replace(stage, status=FAIL)).first
    assert blamed is not None
    assert blamed.name == "x"
    assert "bad" not in layer_chart(layers.layers, 12.0, passed=True)
    assert "bad" in layer_chart(layers.layers, 12.0)


@pytest.mark.slow
def test_a_wrong_weight_is_blamed_on_its_layer_alone(workers: WorkerPool, tmp_path: Path) -> None:
    right = model(tmp_path / "m.onnx")
    wrong = model(tmp_path / "wrong.onnx", factor=1.5)
    found = measure_layers(workers, stages(workers, tmp_path, right, wrong), vectors(), tmp_path)
    for stage in ("saved_model", "tflite_fp32"):
        said = layers_of(found[stage], StageParity(stage, "m", FAIL, {"sqnr_db": 80.0}))
        assert said.first is not None
        assert said.first.name == said.worst[0].name == "score"
        assert "--isolate" in said.first.advice
        assert (said.worst[1].here_db or 0) > 120


@pytest.mark.slow
def test_pieces_give_the_same_figures(workers: WorkerPool, tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    made = stages(workers, tmp_path, path, path)
    together = measure_layers(workers, made, vectors(4), tmp_path)
    for stage, apart in _in_pieces(made, vectors(4), tmp_path).items():
        for layer in together[stage].layers:
            here, carried = apart[layer.name]
            assert layer.here_db == pytest.approx(here, abs=1e-6)
            assert layer.carried_db == pytest.approx(carried, abs=1e-6)


def _in_pieces(
    made: Mapping[str, Artifact], inputs: Any, directory: Path
) -> dict[str, dict[str, list[float]]]:
    """Measure with pieces of one value, in a process of its own."""
    request = directory / "request.json"
    known = read_map(made["saved_model"].path)
    assert known is not None
    for name, artifact in made.items():
        write_npz(directory / f"{name}.npz", store(inputs, artifact.inputs))
    content = {
        "artifacts": {name: artifact.to_dict() for name, artifact in made.items()},
        "held": [item.to_dict() for item in known[0]],
    }
    request.write_text(json.dumps(content))
    done = subprocess.run(
        [sys.executable, "-c", _PIECES, str(request)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"},
    )
    found: dict[str, dict[str, list[float]]] = json.loads(done.stdout.splitlines()[-1])
    return found


_PIECES = """
import json, sys
from pathlib import Path
from edgeconv.metrics.layer_errors import Ratio
from edgeconv.parity.layers import onnx_values, saved_model, tflite_file

request = Path(sys.argv[1])
given = json.loads(request.read_text())
artifacts, held = given["artifacts"], given["held"]
feeds = {name: str(request.with_name(name + ".npz")) for name in artifacts}
for module in (onnx_values, saved_model, tflite_file):
    module._PIECE = 1
values = str(request.with_name("values"))
names = [item["value"] for item in held]
recorded = onnx_values.record(artifacts["onnx"], feeds["onnx"], names, values)
numbers = {name: number for number, name in enumerate(recorded)}

def decibels(sums):
    signal, *noises = sums[1:]
    ratios = [Ratio(), Ratio()]
    for ratio, noise in zip(ratios, noises):
        ratio.merge((signal, noise))
    return [ratio.decibels for ratio in ratios]

found = {}
for stage, module in (("saved_model", saved_model), ("tflite_fp32", tflite_file)):
    sums = module.measure(artifacts[stage], feeds[stage], held, numbers, values)
    found[stage] = {name: decibels(item) for name, item in sums.items()}
sums = onnx_values.measure(artifacts["onnx"], feeds["onnx"], held, numbers, values)
assert all(max(item[2:]) == 0 for item in sums.values()), sums
assert sums.keys() == found["saved_model"].keys()
print(json.dumps(found))
"""


def test_large_values_are_measured_on_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"x": np.zeros((16, 1, 3), np.float32)}
    held = [HeldValue("v", "v:0", (0, 1), (1, 1000))]
    for room, count in ((4000, 1), (8000, 2), (12_000, 3), (1 << 30, 4), (1, 1)):
        monkeypatch.setattr("edgeconv.parity.layers.measure._MOST_BYTES", room)
        assert 1 <= len(_some(inputs, held)["x"]) <= count


@pytest.mark.slow
def test_a_saved_model_without_a_map_is_not_guessed_at(workers: WorkerPool, tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    made = stages(workers, tmp_path, path, path)
    shutil.rmtree(made["saved_model"].path / "assets.extra")
    found = measure_layers(workers, made, vectors(), tmp_path)
    assert not found["saved_model"].layers
    assert "onnx_values.json" in found["saved_model"].note
    stage = StageParity("saved_model", "m", FAIL, {})
    said = layers_of(found["saved_model"], stage).to_dict()
    assert json.dumps(said)
    assert list(said) == ["worst_layers", "layers_note"]
    assert not said["worst_layers"]
