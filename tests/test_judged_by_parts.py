"""A detector whose scores int8 destroys, through the whole pipeline: parity says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import edgeconv
from edgeconv.core.arrays import write_npz
from edgeconv.parity.bundle import VerifyOptions, verify_bundle
from edgeconv.parity.candidates import describe_tflite
from edgeconv.parity.pairs import PairOptions, verify_pair


class Detector(nn.Module):
    """Boxes in pixels and scores in 0..1, scaled by one vector after one activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.head = nn.Conv2d(16, 10, 3, 1, 1)
        nn.init.normal_(self.head.weight, 0, 0.5)
        self.register_buffer("size", torch.tensor([320.0] * 4 + [1.0] * 6)[:, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = self.head(self.stem(x).relu()).sigmoid().flatten(2) * self.size
        return scaled


@pytest.mark.slow
def test_scores_of_zero_fail_wherever_they_are_compared(tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = torch.rand(16, 1, 3, 16, 16).numpy() * 3
    found = edgeconv.convert(
        Detector().eval(),
        torch.from_numpy(samples[0]),
        output=tmp_path / "d.edgeconv",
        quantize="int8",
        io_dtype="uint8",
        split_outputs="never",
        calibration_data=samples,
        layers=False,
    )
    stages = {stage["stage"]: stage for stage in found.parity.to_dict()["stages"]}
    for name in ("onnx", "saved_model", "tflite_fp32"):
        (output,) = stages[name]["outputs"]
        assert [part["name"].partition(" (")[0] for part in output["parts"]] == [
            "rows 0 to 3",
            "rows 4 to 9",
        ]
        assert all(part["sqnr_db"] > 100 for part in output["parts"])
        assert stages[name]["status"] == "pass"
    (output,) = stages["tflite_int8"]["outputs"]
    assert output["sqnr_db"] > 20
    assert output["parts"][1]["slice"] == {"axis": 1, "start": 4, "stop": 10}
    assert stages["tflite_int8"]["status"] == "fail"
    (reason,) = stages["tflite_int8"]["reasons"]
    assert "rows 4 to 9 (sigmoid)" in reason
    again = verify_bundle(tmp_path / "d.edgeconv", VerifyOptions(layers=False))
    assert again.parity.to_dict()["stages"][-1]["reasons"] == [reason]
    json.dumps(again.parity.to_dict(), allow_nan=False)
    copies = []
    for name in ("fp32", "int8"):
        (source,) = (tmp_path / "d.edgeconv").glob(f"*_{name}.tflite")
        copies.append(tmp_path / f"{name}.tflite")
        copies[-1].write_bytes(source.read_bytes())
    data = tmp_path / "x.npz"
    name = describe_tflite(copies[0]).inputs[0].name
    write_npz(data, {name: samples.transpose(0, 1, 3, 4, 2)})
    pair = verify_pair(copies[0], copies[1], PairOptions(data=str(data), layers=False))
    assert not pair.passed
    assert ": sqnr_db" in pair.parity.to_dict()["stages"][0]["reasons"][0]
