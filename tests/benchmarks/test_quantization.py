"""The table of the quantization benchmark, and one small model through it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import quantization


def test_the_table_has_all_figures_and_says_which_targets_are_missed() -> None:
    rows: dict[str, quantization.Figures] = {
        "float": {"sqnr_db": [120.0, 110.0], "top1": 90.0, "bytes": 4000},
        "edgeconv": {
            "sqnr_db": [30.0, 18.0], "top1": 89.0, "seconds": 1.5, "bytes": 1000,
            "recovery": [{"name": "equalize", "kept": True}, {"name": "outliers", "kept": False}],
        },
        "ai-edge-quantizer": {"sqnr_db": [20.0, 10.0], "bytes": 1000},
        "ai-edge-quantizer, true ranges": {"sqnr_db": [26.0, 19.0], "bytes": 1000},
        "TensorFlow": {"error": "no"},
    }  # fmt: skip
    text = quantization.table({"net": rows})
    assert "| net | edgeconv | 30.0, 18.0 | 89.0 | 1.50 | 1 | equalize |" in text
    assert "on average 9.0 dB better than ai-edge-quantizer (2 outputs)" in text
    assert "on average 1.5 dB better than ai-edge-quantizer, true ranges (2 outputs)" in text
    assert "outputs below 20 dB: net output 1 (18.0)" in text
    assert "another is better: net output 1 (18.0, ai-edge-quantizer, true ranges 19.0)" in text
    assert "below float: net (89.0, float 90.0)" in text


@pytest.mark.slow
def test_a_model_with_channels_of_different_range_is_measured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 4, 1)).eval()
    first, last = network[0], network[2]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        spread = torch.logspace(-1.5, 1.5, 16)
        first.weight *= spread[:, None, None, None]
        last.weight /= spread[:, None, None]
    torch.export.save(torch.export.export(network, (torch.rand(1, 3, 8, 8),)), tmp_path / "net.pt2")
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(32, 1, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "net_calib.npz", in0=inputs[:16])
    with torch.no_grad():
        outputs = np.stack([network(torch.from_numpy(row)).numpy() for row in inputs[16:]])
    np.savez(tmp_path / "net_eval.npz", in0=inputs[16:], out0=outputs)
    rows = quantization.compare(tmp_path / "net.pt2", tmp_path / "work", tmp_path / "none")
    assert "missing" in rows["ai-edge-quantizer"]["error"]
    (floats,), (own,), (other,) = (
        rows[name]["sqnr_db"] for name in ("float", "edgeconv", "TensorFlow")
    )
    assert floats > 100
    assert own > 30
    assert own > other + 3
