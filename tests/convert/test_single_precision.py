"""Half, bfloat16 and double models become float32 models, and say so."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from edgeconv.convert.torch.model import from_module
from edgeconv.convert.torch.program import from_program
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.pipeline.run import convert


class Net(nn.Module):
    """A network with weights, a constant and casts in one floating type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)
        self.table = torch.linspace(0, 1, 5, dtype=dtype)
        self.to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Scores of an image."""
        y = F.relu(self.norm(self.conv(x))).mean((2, 3))
        scores: Tensor = self.head(y.float().to(y.dtype))
        return scores + torch.arange(5, dtype=x.dtype) + scores.new_full((5,), 0.5)


class Casting(nn.Module):
    """Takes float32 and casts to the type of its weights, which it names."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(6, 8, 3), nn.GELU(), nn.LayerNorm(9)).to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Features of a sequence."""
        y: Tensor = self.layers(x.to(self.dtype))
        return y.float()


DTYPES = (torch.float16, torch.bfloat16, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["module", "program", "open batch"])
def test_they_compute_in_float32(
    dtype: torch.dtype, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    net = Net(dtype).eval()
    x = torch.randn(2, 3, 8, 8).to(dtype)
    with caplog.at_level(logging.WARNING, "edgeconv"):
        if form == "module":
            model = from_module(net, (x,), "net")
        else:
            shapes = ({0: torch.export.Dim("batch")},) if form == "open batch" else None
            model = from_program(torch.export.export(net, (x,), dynamic_shapes=shapes), "net")
    assert [spec.dtype for spec in model.inputs] == ["float32"]
    assert (model.inputs[0].shape[0] is None) == (form == "open batch")
    assert str(dtype).removeprefix("torch.") in caplog.text
    found = model.run({"x": x.float().numpy()})[0]
    assert found.dtype == np.float32
    net.table = net.table.double()
    expected = net.double()(x.double())
    np.testing.assert_allclose(found, expected.detach(), atol=2e-5)


def test_models_in_float32_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    net = Net(torch.float32).eval()
    with caplog.at_level(logging.WARNING, "edgeconv"):
        model = from_module(net, (torch.ones(1, 3, 8, 8),))
    assert model.program is net
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"quantize": "int8"}, {"target": "coral"}])
def test_they_convert_with_data_in_their_own_type(options: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net(torch.float16).eval()
    x = torch.randn(24, 1, 3, 8, 8).half()
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (x[0],)), path)
    np.savez(tmp_path / "data.npz", x=x.numpy())
    options = {"quantize": "int8", **options} if "target" in options else options
    job = Job(
        path,
        ConvertOptions(**options),
        calibration_data=tmp_path / "data.npz",
        output=tmp_path / "out",
    )
    result = convert(job)
    assert result.passed
    assert any("float16" in warning for warning in result.manifest["warnings"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_modules_that_cast_to_their_own_type_compute_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net, x = Casting(dtype).eval(), torch.randn(1, 6, 11)
    model = from_module(net, (x,), "net")
    (found,) = model.run({model.input_names[0]: x.numpy()})
    expected = Casting(torch.float32)
    expected.layers.load_state_dict(net.float().layers.state_dict())
    with torch.no_grad():
        np.testing.assert_allclose(found, expected(x).numpy(), rtol=1e-5, atol=1e-5)
