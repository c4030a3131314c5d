"""Weights and modules as training scripts and model hubs save them."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeconv.convert.torch.load import load_model
from edgeconv.convert.torch.model import TorchModel
from edgeconv.core.errors import InvalidModel, UsageError

SOURCE = """
    from torch import nn

    def net():
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
"""
FACTORY = "net_here:net"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "net_here.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("net_here", None)


def net(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).eval()


def assert_is(model: Any, expected: torch.nn.Module, tolerance: float = 1e-6) -> None:
    assert isinstance(model, TorchModel)
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = expected.float()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(model.run({"input": x})[0], wanted, atol=tolerance)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.", "_orig_mod.", "module.model."])
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", ""])
def test_weights_under_other_names(here: Path, prefix: str, key: str) -> None:
    weights = {prefix + name: value for name, value in net().state_dict().items()}
    torch.save({key: weights, "epoch": 3} if key else weights, here / "w.ckpt")
    assert_is(load_model("w.ckpt", factory=FACTORY, input_shapes=[(2, 3)]), net())


def test_prefixes_that_differ_are_not_dropped(here: Path) -> None:
    weights = {
        f"part{number}.{name}": v for number, (name, v) in enumerate(net().state_dict().items())
    }
    torch.save(weights, here / "w.pt")
    with pytest.raises(UsageError, match="does not fit"):
        load_model("w.pt", factory=FACTORY, input_shapes=[(2, 3)])


@pytest.mark.parametrize("half", [False, True])
def test_modules_in_checkpoints_need_trust(tmp_path: Path, half: bool) -> None:
    module = net().half() if half else net()
    for content in ({"ema": None, "model": module, "epoch": 1}, {"model": net(1), "ema": module}):
        torch.save(content, tmp_path / "yolo.pt")
        with pytest.raises(UsageError, match="trust_pickle=True"):
            load_model(tmp_path / "yolo.pt", input_shapes=[(2, 3)])
        model = load_model(tmp_path / "yolo.pt", input_shapes=[(2, 3)], trust_pickle=True)
        assert_is(model, net(), 2e-3 if half else 1e-6)


def test_a_checkpoint_of_something_else_says_what_it_has(tmp_path: Path) -> None:
    torch.save({"optimizer": {"lr": 1}, "epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(InvalidModel, match="it has 'optimizer', 'epoch'"):
        load_model(tmp_path / "x.pt", factory=FACTORY)


def safetensors(weights: dict[str, torch.Tensor]) -> bytes:
    """Return the file that the safetensors library writes."""
    names = {torch.float32: "F32", torch.int64: "I64", torch.float16: "F16"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, value in weights.items():
        raw = value.contiguous().numpy().tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {
            "dtype": names[value.dtype], "shape": list(value.shape), "data_offsets": offsets,
        }  # fmt: skip
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_safetensors(here: Path) -> None:
    weights = {f"model.{name}": value for name, value in net().state_dict().items()}
    (here / "w.safetensors").write_bytes(safetensors(weights))
    assert_is(load_model("w.safetensors", factory=FACTORY, input_shapes=[(2, 3)]), net())
    with pytest.raises(UsageError, match="weights without a model"):
        load_model("w.safetensors")


@pytest.mark.parametrize("cut", [12, 60, -3])
def test_damaged_safetensors(here: Path, cut: int) -> None:
    (here / "w").write_bytes(safetensors(dict(net().state_dict()))[:cut])
    with pytest.raises(InvalidModel):
        load_model("w", factory=FACTORY, input_shapes=[(2, 3)])


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]},
        {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 1 << 62]},
        {"dtype": "Q4", "shape": [1], "data_offsets": [0, 4]},
        {"shape": [1], "dtype": "F32"},
        7,
    ],
)
def test_hostile_safetensors(here: Path, entry: Any) -> None:
    text = json.dumps({"w": entry, "x": {"dtype": "F32"}}).encode()
    (here / "w").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(InvalidModel, match="safetensors"):
        load_model("w", factory=FACTORY)
