"""Inputs and outputs that are single numbers, of rank 0, through every stage, mode and command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeconv.core.arrays import write_npz
from edgeconv.core.bundle import open_bundle

Run = Callable[..., subprocess.CompletedProcess[str]]


class Scalars(nn.Module):
    """Numbers in and out: a gain, a count and a flag, beside a vector and an image."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(6, 5)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(
        self, x: Tensor, gain: Tensor, count: Tensor, flag: Tensor, image: Tensor
    ) -> tuple[Tensor, ...]:
        y = torch.relu(self.dense(x)) * gain + gain.reshape(1)
        z = self.conv(image * gain)
        pair = torch.stack([gain, y.mean()])
        return y, gain * 2 + 0.5, z.mean(), torch.where(flag, y, -y), count + 1, pair


def _sample(seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(1, 6, generator=g),
        "gain": torch.rand((), generator=g) + 0.3,
        "count": torch.randint(0, 9, (), generator=g),
        "flag": torch.rand((), generator=g) > 0.5,
        "image": torch.rand(1, 3, 8, 8, generator=g),
    }


@pytest.fixture(scope="module")
def scalars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``scalars.pt2`` and ``scalars.npz``."""
    folder = tmp_path_factory.mktemp("scalars")
    torch.manual_seed(0)
    first = tuple(_sample(0).values())
    torch.export.save(torch.export.export(Scalars().eval(), first), folder / "scalars.pt2")
    rows = [_sample(seed) for seed in range(1, 25)]
    arrays = {name: np.stack([row[name].numpy() for row in rows]) for name in rows[0]}
    write_npz(folder / "scalars.npz", arrays)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "last", "least"),
    [
        ([], "tflite_fp32", 100),
        (["--quantize=int8"], "tflite_int8", 30),
        (["--quantize=int8", "--io-dtype=int8"], "tflite_int8", 30),
        (["--quantize=int16x8"], "tflite_int16x8", 40),
        (["--quantize=int8", "--target=coral", "--io-dtype=uint8"], "tflite_int8", 30),
    ],
)
def test_every_mode_takes_numbers(
    edgeconv: Run, scalars: Path, tmp_path: Path, options: list[str], last: str, least: float
) -> None:
    bundle = tmp_path / "scalars.edgeconv"
    data = f"--calibration-data={scalars / 'scalars.npz'}"
    done = edgeconv("torch2tflite", scalars / "scalars.pt2", data, *options, "-o", bundle)
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = open_bundle(bundle).manifest
    assert [entry["shape"] for entry in manifest["inputs"][1:4]] == [[], [], []]
    stages = {
        stage["stage"]: stage
        for stage in json.loads((bundle / "parity.json").read_text())["stages"]
    }
    assert {stage["status"] for stage in stages.values()} == {"pass"}
    for output in stages[last]["outputs"]:
        exact = output["exact"] == 1 or output["max_abs"] == 0
        assert exact or output["sqnr_db"] > least, output
    if options == ["--quantize=int8", "--io-dtype=int8"]:
        assert edgeconv("verify", bundle).returncode == 0
        deployed = edgeconv("deploy", bundle, "--target=cpu")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
