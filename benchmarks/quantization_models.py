"""Small classifiers of scikit-learn's digits for the quantization benchmark, trained on the spot.

python -m benchmarks.quantization_models DIRECTORY [--speed]

Writes ``NAME.pt2``, ``NAME_calib.npz`` and ``NAME_eval.npz`` for each: inputs ``in0`` with a
leading sample axis, and for evaluation the module's outputs ``out0`` and the labels ``y``.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

SPEED = "mobilenet_v2"
_EPOCHS = 30
_CALIBRATION = 64


class _Excite(nn.Module):
    """Squeeze and excite: channels weighted by what their means say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True))))
        return x * nn.functional.hardsigmoid(weights)


class _Inverted(nn.Module):
    """MobileNetV3's block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 3 * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide),
            nn.Hardswish(), _Excite(wide),
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.body(x)
        return found


def _mobilenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.Hardswish(), _Inverted(16),
        nn.Conv2d(16, 24, 3, 2, 1), nn.Hardswish(), _Inverted(24), _Inverted(24),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


def _depthwise() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, 24, 3, padding=1), nn.ReLU()]
    for stride in (1, 2, 1):
        layers += [
            nn.Conv2d(24, 24, 3, stride, 1, groups=24),
            nn.ReLU(),
            nn.Conv2d(24, 24, 1),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))


@torch.no_grad()
def _spread(network: nn.Module) -> None:
    """Give channels ranges between 1/30 and 30 times theirs; the network computes the same."""
    generator = torch.Generator().manual_seed(1)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for first, second in pairwise(layers):
        factors = 30 ** (2 * torch.rand(first.out_channels, generator=generator) - 1)
        first.weight *= factors[:, None, None, None]
        assert first.bias is not None
        first.bias *= factors
        inverse = 1 / factors
        second.weight *= (
            inverse[:, None, None, None] if second.groups > 1 else inverse[:, None, None]
        )


class _Transformer(nn.Module):
    """The rows of the image as tokens, two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.place = nn.Parameter(torch.zeros(1, 8, 32))
        self.layers = nn.ModuleList(_Layer() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.squeeze(1)) + self.place
        for layer in self.layers:
            x = layer(x)
        found: Tensor = self.head(self.norm(x).mean(1))
        return found


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(2))
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norms[0](x)).reshape(-1, 8, 3, 4, 8).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        weights = torch.softmax(query @ key.transpose(-1, -2) / 8**0.5, -1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(-1, 8, 32))
        found: Tensor = x + self.mlp(self.norms[1](x))
        return found


class _Recurrent(nn.Module):
    """A GRU over the rows of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRU(8, 48, batch_first=True), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cell(x.squeeze(1))
        found: Tensor = self.head(states[:, -1])
        return found


MODELS = {
    "digits_mobilenet": _mobilenet,
    "digits_depthwise": _depthwise,
    "digits_transformer": _Transformer,
    "digits_gru": _Recurrent,
}


def train(name: str, directory: Path) -> None:
    """Train one model and write its files."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(images))
    known, unseen = order[:1200], order[1200:]
    network = MODELS[name]()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(_EPOCHS):
        for batch in known[torch.randperm(len(known))].split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
    network.eval()
    if name == "digits_depthwise":
        _spread(network)
    with torch.no_grad():
        outputs = network(images[unseen])
    torch.export.save(torch.export.export(network, (images[:1],)), directory / f"{name}.pt2")
    calibration = images[known[:_CALIBRATION]].numpy()[:, None]
    np.savez(directory / f"{name}_calib.npz", in0=calibration)
    np.savez(
        directory / f"{name}_eval.npz", in0=images[unseen].numpy()[:, None],
        out0=outputs.numpy()[:, None], y=labels[unseen].numpy(),
    )  # fmt: skip


def write_mobilenet(directory: Path) -> None:
    """Write a MobileNetV2 of random weights with 100 samples, to measure time and not accuracy."""
    from benchmarks.architectures import find

    torch.manual_seed(0)
    network = find(SPEED).build().eval()
    images = torch.randn(104, 1, 3, 224, 224)
    with torch.no_grad():
        outputs = torch.stack([network(image) for image in images[100:]])
    torch.export.save(torch.export.export(network, (images[0],)), directory / f"{SPEED}.pt2")
    np.savez(directory / f"{SPEED}_calib.npz", in0=images[:100].numpy())
    np.savez(directory / f"{SPEED}_eval.npz", in0=images[100:].numpy(), out0=outputs.numpy())


if __name__ == "__main__":
    if sys.argv[2:] == ["--speed"]:
        write_mobilenet(Path(sys.argv[1]))
    else:
        for model in MODELS:
            train(model, Path(sys.argv[1]))
