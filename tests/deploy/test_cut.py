"""A model whose end was cut off for the CPU: both parts are run, and the whole is compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeconv
from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.bundle import open_bundle
from edgeconv.deployment.run import DeployOptions, deploy
from edgeconv.toolchain.device.job import RunOptions

pytestmark = pytest.mark.slow

QUICK = RunOptions(runs=3)


@pytest.fixture(scope="module")
def cut_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of exp(conv(x)) and a second output, with the exponential cut off."""
    import torch

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            raw = self.conv(image)
            return torch.exp(raw), raw.relu()

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("cut")
    data = folder / "data.npz"
    rng = np.random.default_rng(0)
    write_npz(data, {"image": rng.random((16, 1, 3, 8, 10), np.float32)})
    result = edgeconv.convert(
        Head().eval(),
        torch.rand(1, 3, 8, 10),
        target="coral",
        cut=("auto",),
        layers=False,
        calibration_data=str(data),
        output=folder / "head.edgeconv",
    )
    return result.path


def test_the_whole_is_compared(cut_bundle: Path) -> None:
    found = deploy(cut_bundle, DeployOptions(run=QUICK))
    assert found.passed
    names = [output["name"] for output in found.result["outputs"]]
    assert names == list(open_bundle(cut_bundle).vectors()[1])
    assert len(names) == 2


def test_the_folder_runs_both_parts(cut_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "board"
    deploy(cut_bundle, DeployOptions(run=QUICK, export=folder))
    done = subprocess.run(
        [sys.executable, "runner.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["max_difference"] == 0
    assert answer["tail"]["max_difference"] < 1e-6
    assert answer["tail"]["latency_ms"]["runs"] == 3
    found = read_npz(folder / "tail_results.npz")["0"]
    _, reference = open_bundle(cut_bundle).vectors()
    exponential = next(iter(reference.values()))
    assert abs(found.mean() - exponential.mean()) < 0.02 * exponential.mean()
    readme = (folder / "README.md").read_text()
    assert "head_tail.tflite takes what" in readme
    assert "not here" not in readme
