"""Layers of real files: which tensors hold which values, and who is blamed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeconv.artifacts import Artifact
from edgeconv.convert.onnx_file import describe_onnx
from edgeconv.layers.entries import entries
from edgeconv.layers.measure import measure_layers
from edgeconv.options import ConvertOptions
from edgeconv.stages import ConvertToTflite, TranslateToSavedModel
from edgeconv.toolchain.pool import WorkerPool
from edgeconv.toolchain.stage import StageContext

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
        others = [name for name, _, _ in found[stage].unmatched]
        assert sorted(names + others) == sorted(values)
        assert all((layer.here_db or 0) > 120 for layer in found[stage].layers)
        assert all((layer.carried_db or 0) > 120 for layer in found[stage].layers)
    reasons = {name: why for name, _, why in found["tflite_fp32"].unmatched}
    assert reasons["pad"] == "part of act"
    assert reasons["turned"] == "the same tensor as act"
    layer = {layer.name: layer for layer in found["tflite_fp32"].layers}["act"]
    assert layer.op == "CONV_2D"
    assert layer.onnx_node


@pytest.mark.slow
def test_a_wrong_weight_is_blamed_on_its_layer_alone(workers: WorkerPool, tmp_path: Path) -> None:
    right = model(tmp_path / "m.onnx")
    wrong = model(tmp_path / "wrong.onnx", factor=1.5)
    found = measure_layers(workers, stages(workers, tmp_path, right, wrong), vectors(), tmp_path)
    for stage in ("saved_model", "tflite_fp32"):
        said = entries(found[stage], {"stage": stage, "gate": {"sqnr_db": 80.0}})
        assert said["first_layer"]["name"] == said["worst_layers"][0]["name"] == "score"
        assert "--isolate" in said["first_layer"]["advice"]
        assert said["worst_layers"][1]["here_db"] > 120


@pytest.mark.slow
def test_portions_give_the_same_figures(
    workers: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model(tmp_path / "m.onnx")
    made = stages(workers, tmp_path, path, path)
    together = measure_layers(workers, made, vectors(5), tmp_path)
    monkeypatch.setattr("edgeconv.layers.hops._PORTION", 1)
    apart = measure_layers(workers, made, vectors(5), tmp_path)
    for stage in ("saved_model", "tflite_fp32"):
        for first, second in zip(together[stage].layers, apart[stage].layers, strict=True):
            assert first.here_db == pytest.approx(second.here_db, abs=1e-6)
            assert first.carried_db == pytest.approx(second.carried_db, abs=1e-6)


@pytest.mark.slow
def test_a_saved_model_without_a_map_is_not_guessed_at(workers: WorkerPool, tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    made = stages(workers, tmp_path, path, path)
    shutil.rmtree(made["saved_model"].path / "assets.extra")
    found = measure_layers(workers, made, vectors(), tmp_path)
    assert not found["saved_model"].layers
    assert "onnx_values.json" in found["saved_model"].note
    said = entries(found["saved_model"], {"stage": "saved_model", "gate": {}})
    assert json.dumps(said)
    assert list(said) == ["layers_note"]
