"""The table of the quantization benchmark, and one small model through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def test_the_table_ends_with_the_means_of_each_quantizer() -> None:
    first: dict[str, quantization.Figures] = {
        "mse": {"sqnr_db": [30.0, 20.0], "top1": 90.0, "seconds": 1.5},
        "minmax": {"error": "no"},
    }
    second: dict[str, quantization.Figures] = {"mse": {"sqnr_db": [10.0], "seconds": 2.5}}
    text = quantization.table({"net": first, "other": second})
    assert text.endswith(
        "- mse: mean SQNR 20.0 dB over 3 outputs, least 10.0 dB, mean top-1 90.00 %, 4 s in all"
    )


@pytest.mark.parametrize(("own", "verdict"), [(4.0, "reached"), (6.0, "missed")])
def test_speed_is_compared_with_the_faster_of_the_other(own: float, verdict: str) -> None:
    others = {quantization.DEFAULT: {"seconds": 5.0}, quantization.TRUE: {"seconds": 9.0}}
    rows: dict[str, quantization.Figures] = {quantization.OWN: {"seconds": own}, **others}
    text = quantization.table({"mobilenet_v2": rows})
    assert text.endswith(f"at most the time of ai-edge-quantizer: {verdict} ({own:.1f} s, 5.0 s)")


def test_what_the_output_has_is_not_measured_again(tmp_path: Path, capsys: Any) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.pt2").touch()
    models, seen = [tmp_path / "first.pt2", tmp_path / "second.pt2"], []

    def measure(model: Path, _work: Path, _cache: Path) -> dict[str, quantization.Figures]:
        seen.append(model.stem)
        return {quantization.FLOAT: {"sqnr_db": [100.0]}}

    output = tmp_path / "results" / "table"
    quantization.run(models[:1], measure, tmp_path, output)
    quantization.run(models, measure, tmp_path, output, resume=True)
    assert seen == ["first", "second"]
    assert "| first | float | 100.0 |" in output.with_suffix(".md").read_text()
    assert "| second | float | 100.0 |" in capsys.readouterr().out


@pytest.mark.slow
def test_calibrators_are_compared_with_recovery_and_without(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    torch.export.save(torch.export.export(network, (torch.rand(1, 1, 8, 8),)), tmp_path / "net.pt2")
    inputs = torch.rand(24, 1, 1, 8, 8)
    np.savez(tmp_path / "net_calib.npz", in0=inputs[:16].numpy())
    with torch.no_grad():
        outputs = torch.stack([network(row) for row in inputs[16:]])
    np.savez(tmp_path / "net_eval.npz", in0=inputs[16:].numpy(), out0=outputs.numpy())
    rows = quantization.compare_calibrators(tmp_path / "net.pt2", tmp_path / "work", tmp_path)
    assert len(rows) == 10
    assert all(figures["sqnr_db"][0] > 15 for figures in rows.values())
    assert all(not figures["recovery"] for name, figures in rows.items() if "no recovery" in name)


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
