"""The table of the Coral benchmark, and one small model through it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import coral

_BEFORE = {
    "ops": 10, "on_edgetpu": 2, "macs_share": 0.125, "int8_sqnr_db": 30.0, "stranded": 7,
    "left": [["GELU", "Operation not supported", 1]], "refused": [],
}  # fmt: skip
_AFTER = {**_BEFORE, "ops": 14, "on_edgetpu": 13, "macs_share": 1.0, "stranded": 0}


def test_the_table_has_both_shares_and_the_reasons() -> None:
    outcome = {
        "before": _BEFORE,
        "after": _AFTER,
        "float_sqnr_db": 82.3,
        "rewrites": {"gelu": 3},
        "approximate": ["gelu"],
    }
    text = coral.table({"net": outcome, "other": {"error": "no memory"}})
    assert (
        "| net | 2 of 10 | 12.5 % | 30.0 | 13 of 14 | 100.0 % | 30.0 | 82 | 3 gelu (approximate) |"
    ) in text
    assert "- net: 1 GELU (Operation not supported); 0 others depend on them" in text
    assert "- other: no memory" in text


def test_a_model_that_is_missing_is_an_outcome(tmp_path: Path) -> None:
    assert "nothing.pt2" in coral.run("nothing", tmp_path, 60)["error"]


@pytest.mark.slow
def test_a_model_is_measured_before_and_after(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Hardswish()).eval()
    torch.export.save(torch.export.export(network, (torch.rand(1, 3, 8, 8),)), tmp_path / "net.pt2")
    for kind in ("calib", "eval"):
        samples = np.random.default_rng(1).normal(size=(4, 1, 3, 8, 8)).astype(np.float32)
        np.savez(tmp_path / f"net_{kind}.npz", in0=samples)
    outcome = coral.run("net", tmp_path, 300)
    assert outcome["rewrites"] == {"hard-swish": 1}
    assert outcome["before"]["on_edgetpu"] < outcome["before"]["ops"]
    assert outcome["after"]["on_edgetpu"] == outcome["after"]["ops"]
    assert outcome["after"]["int8_sqnr_db"] > 35
