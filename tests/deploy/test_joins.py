"""An integer model that returns the parts of an output: wherever it runs, they are joined."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeconv
from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.bundle import open_bundle
from edgeconv.deployment.benchmark import benchmark
from edgeconv.deployment.run import DeployOptions, deploy
from edgeconv.parity.bundle import VerifyOptions, verify_bundle
from edgeconv.toolchain.device.job import RunOptions

pytestmark = pytest.mark.slow

QUICK = RunOptions(runs=3)


def converted(folder: Path, *, cut: bool) -> Path:
    """Return a bundle of boxes and scores in one output; with ``cut``, of their sine."""
    import torch

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.box = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.cls = torch.nn.Conv2d(3, 6, 3, padding=1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            boxes, scores = self.box(image).sigmoid() * 320, (4 * self.cls(image)).sigmoid()
            found = torch.cat([boxes, scores], 1)
            return torch.sin(found / 100) if cut else found.flatten(2)

    torch.manual_seed(0)
    data = folder / "data.npz"
    rng = np.random.default_rng(0)
    write_npz(data, {"image": rng.random((16, 1, 3, 8, 10), np.float32)})
    more: dict[str, Any] = {"target": "coral", "cut": ("auto",)} if cut else {}
    result = edgeconv.convert(
        Head().eval(),
        torch.rand(1, 3, 8, 10),
        quantize="int8",
        io_dtype="uint8",
        layers=False,
        calibration_data=str(data),
        output=folder / "head.edgeconv",
        **more,
    )
    assert result.passed
    return result.path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(tmp_path_factory.mktemp("whole"), cut=False)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(tmp_path_factory.mktemp("cut"), cut=True)


def parts_of(reference: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> list[float]:
    """Return the SQNR of boxes and scores, ``[sample, 1, row, ...]``."""
    figures = []
    for rows in (slice(0, 4), slice(4, None)):
        one, other = reference[:, :, rows].astype(float), found[:, :, rows]
        figures.append(10 * np.log10((one**2).sum() / ((one - other) ** 2).sum()))
    return figures


def test_the_manifest_says_how_parts_are_joined(whole: Path) -> None:
    manifest = json.loads((whole / "manifest.json").read_text())
    (join,) = manifest["joins"]
    (name,) = open_bundle(whole).vectors()[1]
    assert (join["output"], join["axis"]) == (name, 1)
    assert [part["name"] for part in join["parts"]] == [f"{name}_0", f"{name}_1"]
    assert [part["slices"] for part in join["parts"]] == [[[0, 4, 1]], [[4, 10, 1]]]
    assert [spec["name"] for spec in manifest["outputs"]] == [f"{name}_0", f"{name}_1"]
    assert manifest["stages"][-1]["joins"] == manifest["joins"]


@pytest.mark.parametrize("kind", ["whole", "cut"])
def test_a_deployed_model_is_compared_as_a_whole(kind: str, request: pytest.FixtureRequest) -> None:
    bundle: Path = request.getfixturevalue(kind)
    found = deploy(bundle, DeployOptions(run=QUICK))
    assert found.passed
    assert [one["name"] for one in found.result["outputs"]] == list(
        open_bundle(bundle).vectors()[1]
    )


def test_verification_is_of_the_whole(whole: Path) -> None:
    assert verify_bundle(whole, VerifyOptions()).passed


def test_the_benchmark_runs_the_parts(whole: Path) -> None:
    assert benchmark(whole, QUICK)[-1]["stage"] == "tflite_int8"


def run_folder(bundle: Path, folder: Path) -> dict[str, Any]:
    deploy(bundle, DeployOptions(run=QUICK, export=folder))
    done = subprocess.run(
        [sys.executable, "runner.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["max_difference"] == 0
    return answer


def test_the_folder_puts_parts_together(whole: Path, tmp_path: Path) -> None:
    run_folder(whole, tmp_path / "board")
    (joined,) = read_npz(tmp_path / "board" / "joined.npz").values()
    (reference,) = open_bundle(whole).vectors()[1].values()
    assert min(parts_of(reference, joined.reshape(reference.shape))) > 25
    assert "joined.npz" in (tmp_path / "board" / "README.md").read_text()


def test_the_tail_gets_what_is_joined(cut: Path, tmp_path: Path) -> None:
    answer = run_folder(cut, tmp_path / "board")
    assert answer["tail"]["max_difference"] < 1e-5
    found = read_npz(tmp_path / "board" / "tail_results.npz")["0"]
    (reference,) = open_bundle(cut).vectors()[1].values()
    stored = open_bundle(cut).artifacts["tflite_int8"].tail
    assert stored is not None
    restored = np.stack([stored.outputs[0].restore(sample) for sample in found])
    assert min(parts_of(reference, restored)) > 20
