"""The digits example: what the network is made of, its data, and its accuracy after conversion."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "digits"
SAVED = ("digits.pt2", "calibration.npz", "test.npz")


def load_script(name: str) -> ModuleType:
    """Import one of the example's scripts."""
    spec = importlib.util.spec_from_file_location(f"digits_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_network_is_a_depthwise_separable_one() -> None:
    network: nn.Module = load_script("train").DigitsNet()
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    depthwise = [part for part in convolutions if part.groups == part.in_channels > 1]
    pointwise = [part for part in convolutions if part.kernel_size == (1, 1)]
    assert len(depthwise) == 4
    assert len(pointwise) == 6
    kinds = [type(part) for part in network.modules()]
    assert kinds.count(nn.BatchNorm2d) == len(convolutions)
    assert {nn.ReLU6, nn.AdaptiveAvgPool2d, nn.Linear} <= set(kinds)


def test_the_saved_program_is_that_network() -> None:
    network: nn.Module = load_script("train").DigitsNet()
    program = torch.export.load(EXAMPLE / "digits.pt2")
    assert program.graph_signature.user_inputs == ("image",)
    assert {name: tuple(value.shape) for name, value in program.state_dict.items()} == {
        name: tuple(value.shape) for name, value in network.state_dict().items()
    }
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    for operator in ("conv2d", "batch_norm", "hardtanh", "adaptive_avg_pool2d", "add", "linear"):
        assert any(operator in target for target in called), f"{operator} is not in {called}"


def test_the_saved_data_is_the_split_that_training_uses() -> None:
    train_images, test_images, _, test_labels = load_script("train").load_split()
    calibration = np.load(EXAMPLE / "calibration.npz")["image"]
    held_out = np.load(EXAMPLE / "test.npz")
    np.testing.assert_array_equal(calibration, train_images[: len(calibration)].numpy())
    np.testing.assert_array_equal(held_out["image"], test_images.numpy())
    np.testing.assert_array_equal(held_out["label"], test_labels.numpy())


def test_the_saved_files_are_small_and_name_no_paths() -> None:
    contents = {name: (EXAMPLE / name).read_bytes() for name in SAVED}
    assert sum(map(len, contents.values())) < 300_000
    assert b"site-packages" not in contents["digits.pt2"]


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of the first table of stages in what the command printed."""
    lines = text.partition("stage ")[2].splitlines()[2:]
    rows = [line.split() for line in lines]
    return rows[: rows.index([])]


def assert_shown(page: str, printed: str) -> None:
    """Hold the run that a page shows to one; above 100 dB processors differ in rounding."""
    shown = rows_of((ROOT / page).read_text())
    found = rows_of(printed)
    assert [(row[:3], row[-2:]) for row in shown] == [(row[:3], row[-2:]) for row in found], page
    for row, other in zip(shown, found, strict=True):
        decibels = float(row[3]), float(other[3])
        assert abs(decibels[0] - decibels[1]) < (1.0 if decibels[1] < 100 else 5.0), (page, other)


@pytest.mark.slow
def test_int8_is_within_one_point_of_torch(tmp_path: Path) -> None:
    bundle = tmp_path / "digits.edgeconv"
    command = [sys.executable, "-m", "edgeconv", "torch2tflite", str(EXAMPLE / "digits.pt2")]
    command += ["--quantize", "int8", "--calibration-data", str(EXAMPLE / "calibration.npz")]
    done = subprocess.run(
        [*command, "-o", str(bundle)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("README.md", "docs/guide/getting-started.md"):
        assert_shown(page, done.stdout)
    accuracy = load_script("evaluate").evaluate(bundle)
    assert accuracy["torch"] >= 0.98
    assert accuracy["float TFLite"] == accuracy["torch"]
    assert accuracy["int8 TFLite"] >= accuracy["torch"] - 0.01
