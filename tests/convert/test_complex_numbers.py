"""Complex numbers and Fourier transforms in real arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeconv.convert.torch.complex_numbers import has_complex, in_real_numbers
from edgeconv.convert.torch.export import export
from edgeconv.convert.torch.model import from_module
from edgeconv.core.errors import ConversionError
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.pipeline.run import convert

HANN, HAMMING = torch.hann_window(16), torch.hamming_window(12)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


class Rotary(nn.Module):
    """Rotary position embedding, as Llama's first code has it."""

    turns: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("turns", torch.polar(torch.ones(5, 4), normal(5, 4)))

    def forward(self, q: Tensor) -> Tensor:
        """Turn pairs of features by their position's angle."""
        z = torch.view_as_complex(q.reshape(1, 5, 2, 4, 2)) * self.turns[None, :, None]
        return torch.view_as_real(z).flatten(3)


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        """Apply it."""
        return self.function(x)


def pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x)


def round_trip(x: Tensor) -> Tensor:
    spectrum = torch.stft(x, 16, 4, window=HANN, return_complex=True)
    return torch.istft(spectrum * 0.5, 16, 4, window=HANN)


CASES: dict[str, tuple[Callable[[Tensor], Any], Tensor]] = {
    "stft": (lambda x: torch.stft(x, 16, 4, window=HANN, return_complex=True).abs(), normal(2, 64)),
    "stft, short window": (
        lambda x: torch.view_as_real(
            torch.stft(x, 16, 5, 12, HAMMING, normalized=True, return_complex=True)
        ),
        normal(64),
    ),
    "istft": (round_trip, normal(2, 64)),
    "istft, length": (
        lambda x: torch.istft(
            torch.stft(x, 16, 5, 12, HAMMING, return_complex=True), 16, 5, 12, HAMMING, length=60
        ),
        normal(64),
    ),
    "rfft": (lambda x: torch.fft.rfft(x).abs(), normal(2, 15)),
    "irfft": (lambda x: torch.fft.irfft(torch.fft.rfft(x, norm="ortho"), 17), normal(2, 17)),
    "fft": (lambda x: torch.view_as_real(torch.fft.fft(x, dim=0, norm="forward")), normal(6, 5)),
    "ifft": (lambda x: torch.fft.ifft(torch.fft.fft(x, n=8)).real, normal(2, 6)),
    "fft2": (lambda x: torch.fft.ifft2(torch.fft.fft2(x) * 1j).imag, normal(2, 8, 6)),
    "rfft2": (
        lambda x: torch.fft.irfft2(torch.fft.rfft2(x, norm="ortho"), norm="ortho"),
        normal(2, 8, 6),
    ),
    "fftshift": (lambda x: torch.fft.fftshift(torch.fft.fft2(x)).abs(), normal(2, 8, 6)),
    "quotient": (lambda x: (torch.complex(x, x + 1) / torch.complex(x + 3, x)).abs(), normal(2, 6)),
    "exponential": (lambda x: (torch.exp(1j * x) + 1).real, normal(2, 6)),
    "logarithm": (lambda x: torch.view_as_real(torch.log(pairs(x))), normal(3, 6, 2)),
    "conjugate": (
        lambda x: torch.view_as_real(pairs(x) * pairs(x + 1).conj() - 2),
        normal(3, 6, 2),
    ),
    "product": (lambda x: torch.view_as_real(pairs(x) @ pairs(x).mT), normal(3, 4, 4, 2)),
    "angle": (lambda x: torch.angle(pairs(x)), normal(3, 6, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_real_arithmetic_computes_the_same(name: str) -> None:
    function, x = CASES[name]
    program = torch.export.export(Of(function), (x,), strict=False)
    assert has_complex(program)
    real = in_real_numbers(program, ((x,), {}))
    assert not has_complex(real)
    np.testing.assert_allclose(real.module()(x), function(x), atol=1e-5)


def test_what_has_no_real_form_is_named(tmp_path: Path) -> None:
    model = from_module(Of(lambda x: torch.special.expit(pairs(x)).abs()), (normal(3, 2),))
    with pytest.raises(ConversionError, match=r"complex numbers: aten\.\w+ at"):
        export(model, tmp_path / "m.onnx")


@pytest.mark.parametrize("options", [{}, {"quantize": "int8"}, {"target": "coral"}])
@pytest.mark.slow
def test_rotary_embeddings_convert(options: Any, tmp_path: Path) -> None:
    if "target" in options:
        options = {**options, "quantize": "int8"}
    data = {"q": normal(24, 1, 5, 2, 8).numpy()}
    job = Job(
        Rotary(),
        ConvertOptions(**options),
        example_inputs=(normal(1, 5, 2, 8),),
        calibration_data=data,
        output=tmp_path / "out",
    )
    assert convert(job).passed


@pytest.mark.slow
def test_inverse_short_time_transforms_convert(tmp_path: Path) -> None:
    job = Job(
        Of(round_trip),
        ConvertOptions(quantize="int8"),
        example_inputs=(normal(1, 64),),
        calibration_data={"x": normal(24, 1, 64).numpy()},
        output=tmp_path / "out",
    )
    assert convert(job).passed


def test_operators_keep_the_modules_that_they_are_from() -> None:
    spectrum = Of(lambda x: torch.stft(x, 16, window=HANN, return_complex=True).abs())
    net = nn.Sequential(nn.Tanh(), spectrum, nn.ReLU())
    program = torch.export.export(net, (normal(1, 64),))
    stacks = {
        str(node.target): [path for path, _ in node.meta["nn_module_stack"].values()][-1]
        for node in in_real_numbers(program, ((), {})).graph.nodes
        if node.op == "call_function"
    }
    assert stacks["aten.tanh.default"] == "0"
    assert stacks["aten.sqrt.default"] == "1"
    assert stacks["aten.relu.default"] == "2"
