"""Samples that nobody gave: generated as the model tells, states by the model itself."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgeconv
from edgeconv.convert.onnx.file import describe_onnx
from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.core.errors import InvalidData, WorkerCrashed
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.core.states import State
from edgeconv.reports.headline import headline
from edgeconv.sources.samples import Model, check_data, data_for
from tests.reports.samples import as_report


def model_of(tmp_path: Path, text: str) -> Artifact:
    parsed = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> {text}')
    onnx.save(onnx.shape_inference.infer_shapes(parsed), str(tmp_path / "m.onnx"))
    return describe_onnx(tmp_path / "m.onnx")


_CELL = """g (float[1,4] x, float[1,4] h) => (float[1,4] y, float[1,4] hn)
    { s = Add(x, h) hn = Tanh(s) y = Identity(hn) }"""


def test_states_are_zeros_and_what_the_model_makes(tmp_path: Path) -> None:
    def run(_: Artifact, inputs: Arrays) -> Arrays:
        state = np.tanh(inputs["x"] + inputs["h"])
        return {"y": state, "hn": state}

    artifact = model_of(tmp_path, _CELL)
    model = Model(artifact, (State("h", "hn", "named so"),), run)
    found = data_for(Job("m"), artifact.inputs, model)
    states = found.calibration.arrays["h"]
    begins = (states == 0).all(axis=(1, 2))
    assert begins.tolist() == (np.arange(len(states)) % 4 == 0).tolist()
    once = np.tanh(found.calibration.arrays["x"][1])
    np.testing.assert_allclose(states[1], once, rtol=1e-6)
    assert found.calibration.to_dict()["kinds"]["h"] == "zeros, and what the model gave as hn"
    again = data_for(Job("m"), artifact.inputs, model)
    assert again.to_dict() == found.to_dict()


def test_a_model_that_cannot_be_run_begins_with_zeros(tmp_path: Path) -> None:
    def run(_: Artifact, __: Arrays) -> Arrays:
        raise WorkerCrashed("it died")

    artifact = model_of(tmp_path, _CELL)
    model = Model(artifact, (State("h", "hn", "named so"),), run)
    assert (data_for(Job("m"), artifact.inputs, model).calibration.arrays["h"] == 0).all()


def test_options_say_how_pictures_are_scaled(tmp_path: Path) -> None:
    text = "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Relu(x) }"
    artifact = model_of(tmp_path, text)
    model = Model(artifact, (), lambda _, inputs: inputs)
    plain = data_for(Job("m"), artifact.inputs, model)
    assert plain.calibration.ranges["x"] == (0.0, 1.0)
    job = Job("m", image_mean=(0.5,), image_std=(0.25,))
    assert data_for(job, artifact.inputs, model).calibration.ranges["x"] == (-2.0, 2.0)
    options = ConvertOptions(quantize="int8", input_range=("-1,1",))
    stated = data_for(Job("m", options), artifact.inputs, model)
    assert stated.calibration.ranges["x"] == (-1.0, 1.0)
    assert stated.input_scales["x"]["low"] == -1.0
    uint8 = data_for(Job("m", ConvertOptions(quantize="int8")), artifact.inputs, model)
    assert (uint8.input_scales["x"]["low"], uint8.input_scales["x"]["high"]) == (0.0, 1.0)


@pytest.mark.slow
def test_a_text_model_is_fed_its_whole_vocabulary(tmp_path: Path) -> None:
    import torch

    class Text(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(500, 16)
            self.out = torch.nn.Linear(16, 4)

        def forward(self, ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            rows = self.table(ids) * attention_mask[..., None]
            return torch.as_tensor(
                self.out(rows.sum(1) / attention_mask.sum(1, keepdim=True).float())
            )

    example = (torch.zeros(1, 12, dtype=torch.long), torch.ones(1, 12))
    result = edgeconv.convert(Text().eval(), example, output=tmp_path / "b", quantize="int8")
    data = result.manifest["data"]["calibration"]
    assert data["kinds"]["ids"] == "indices below 500"
    assert data["ranges"]["ids"] == [0.0, 499.0]
    assert data["ranges"]["attention_mask"][1] == 1.0
    assert result.passed


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.npz", "no such file"),
        ("words.txt", "not calibration or verification data"),
        ("torn.npz", "truncated or corrupt"),
        ("empty", "no images"),
        ("other.npz", "expected x (or in0); found picture"),
    ],
)
@pytest.mark.parametrize("option", ["calibration_data", "verify_data"])
def test_wrong_data_is_found_before_the_model_is_loaded(
    tmp_path: Path, name: str, message: str, option: str
) -> None:
    content = {"graph_module": {"signature": {"input_specs": [
        {"parameter": {}}, {"user_input": {"arg": {"as_tensor": {"name": "x"}}}},
    ]}}}  # fmt: skip
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/models/model.json", json.dumps(content))
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "other.npz", picture=np.zeros((2, 1, 4)))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:60])

    def named(file: str) -> dict[str, Any]:
        return {option: str(tmp_path / file)}

    job = replace(Job(tmp_path / "m.pt2"), **named(name))
    with pytest.raises(InvalidData) as caught:
        check_data(job)
    assert message in str(caught.value)
    np.savez(tmp_path / "right.npz", x=np.zeros((2, 1, 4)), labels=np.zeros(2))
    check_data(replace(job, **named("right.npz")))


def test_the_first_line_says_that_data_differ() -> None:
    manifest: dict[str, Any] = {
        "model": "m", "status": "complete", "options": {"quantize": "int8"}, "calibrated": True,
        "data": {"differences": ["calibration and verification data differ: input x"]},
    }  # fmt: skip
    parity = as_report({"stages": [{"stage": "tflite_int8", "status": "pass"}]})
    assert "calibration and verification data differ" in headline(manifest, parity)
    manifest["data"] = {"differences": []}
    assert "differ" not in headline(manifest, parity)
