"""Small vision networks, each for a pattern that edge models have."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    """Return convolution, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def silu(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Module:
    """Return convolution, batch norm and SiLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


class UNet(nn.Module):
    """U-Net with transposed convolutions and skip connections."""

    def __init__(self, *, bilinear: bool = False, channels: int = 16) -> None:
        super().__init__()
        sizes = [channels, channels * 2, channels * 4]
        self.down = nn.ModuleList(
            nn.Sequential(conv(i, o), conv(o, o)) for i, o in zip([3, *sizes], sizes, strict=False)
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), conv(o, i))
            if bilinear
            else nn.ConvTranspose2d(o, i, 2, 2)
            for i, o in pairwise(sizes)
        )
        self.join = nn.ModuleList(conv(i * 2, i) for i in sizes[:-1])
        self.head = nn.Conv2d(channels, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return a mask of the image's size."""
        skips: list[Tensor] = []
        for number, block in enumerate(self.down):
            image = block(functional.max_pool2d(image, 2) if number else image)
            skips.append(image)
        for number in reversed(range(len(self.up))):
            image = self.join[number](torch.cat([skips[number], self.up[number](image)], 1))
        mask: Tensor = self.head(image)
        return mask


def unet() -> nn.Module:
    """Return U-Net with transposed convolutions."""
    return UNet()


def unet_bilinear() -> nn.Module:
    """Return U-Net with bilinear upsampling."""
    return UNet(bilinear=True)


def espcn() -> nn.Module:
    """Return ESPCN: super-resolution by PixelShuffle."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.Tanh(), nn.Conv2d(32, 16, 3, padding=1), nn.Tanh(),
        nn.Conv2d(16, 9, 3, padding=1), nn.PixelShuffle(3),
    )  # fmt: skip


def fsrcnn() -> nn.Module:
    """Return FSRCNN: PReLU and a strided transposed convolution."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.PReLU(32), nn.Conv2d(32, 8, 1), nn.PReLU(8),
        nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(8), nn.Conv2d(8, 32, 1), nn.PReLU(32),
        nn.ConvTranspose2d(32, 1, 9, stride=3, padding=4, output_padding=2),
    )  # fmt: skip


def autoencoder() -> nn.Module:
    """Return a convolutional autoencoder through a vector."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 49, 16), nn.ReLU(), nn.Linear(16, 32 * 49),
        nn.Unflatten(1, (32, 7, 7)),
        nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.LeakyReLU(0.1),
        nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip


def generator() -> nn.Module:
    """Return a DCGAN generator."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(64, 64, 4, 1, 0), nn.BatchNorm2d(64), nn.ReLU()]
    for inputs, outputs in ((64, 32), (32, 16)):
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh())


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
            nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels, affine=True),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        added: Tensor = image + self.body(image)
        return added


def style_transfer() -> nn.Module:
    """Return fast style transfer: reflection padding, instance norm, nearest upsampling."""
    return nn.Sequential(
        nn.ReflectionPad2d(4), nn.Conv2d(3, 16, 9), nn.InstanceNorm2d(16, affine=True), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.InstanceNorm2d(32, affine=True), nn.ReLU(),
        _Residual(32), nn.Upsample(scale_factor=2), nn.ReplicationPad2d(1), nn.Conv2d(32, 3, 3),
        nn.Tanh(),
    )  # fmt: skip


class C2f(nn.Module):
    """Split, a bottleneck on one part, concatenate."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = silu(inputs, outputs)
        self.inner = nn.Sequential(
            silu(outputs // 2, outputs // 2, 3), silu(outputs // 2, outputs // 2, 3)
        )
        self.last = silu(outputs * 3 // 2, outputs)

    def forward(self, image: Tensor) -> Tensor:
        """Return features."""
        one, two = self.first(image).chunk(2, 1)
        joined: Tensor = self.last(torch.cat([one, two, two + self.inner(two)], 1))
        return joined


class SPPF(nn.Module):
    """Three max-pools in a row, concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.last = silu(channels * 4, channels)

    def forward(self, image: Tensor) -> Tensor:
        """Return features."""
        pooled = [image]
        for _ in range(3):
            pooled.append(functional.max_pool2d(pooled[-1], 5, 1, 2))
        joined: Tensor = self.last(torch.cat(pooled, 1))
        return joined


class Yolo(nn.Module):
    """A YOLO-like detector: SiLU, split and concat, upsampling neck, distribution-focal head."""

    def __init__(self, classes: int = 4, bins: int = 8) -> None:
        super().__init__()
        self.bins, self.classes = bins, classes
        self.stem = nn.Sequential(silu(3, 16, 3, 2), silu(16, 32, 3, 2), C2f(32, 32))
        self.mid = nn.Sequential(silu(32, 48, 3, 2), C2f(48, 48))
        self.deep = nn.Sequential(silu(48, 64, 3, 2), C2f(64, 64), SPPF(64))
        self.merge = C2f(64 + 48, 48)
        self.heads = nn.ModuleList(
            nn.Sequential(silu(c, c, 3), nn.Conv2d(c, 4 * bins + classes, 1)) for c in (48, 64)
        )
        self.steps: Tensor
        self.register_buffer("steps", torch.arange(bins, dtype=torch.float32))

    def forward(self, image: Tensor) -> Tensor:
        """Return box distances and class probabilities, ``[N, 4 + classes, anchors]``."""
        mid = self.mid(self.stem(image))
        deep = self.deep(mid)
        up = functional.interpolate(deep, scale_factor=2.0, mode="nearest")
        levels = [self.merge(torch.cat([up, mid], 1)), deep]
        raw = torch.cat(
            [head(level).flatten(2) for head, level in zip(self.heads, levels, strict=True)], 2
        )
        boxes, scores = raw.split([4 * self.bins, self.classes], 1)
        boxes = boxes.unflatten(1, (4, self.bins)).softmax(2)
        boxes = (boxes * self.steps[None, None, :, None]).sum(2)
        return torch.cat([boxes, scores.sigmoid()], 1)


def yolo() -> nn.Module:
    """Return the YOLO-like detector."""
    return Yolo()


def keyword_spotting() -> nn.Module:
    """Return DS-CNN for keyword spotting on MFCC features."""
    layers: list[nn.Module] = [nn.Conv2d(1, 32, (10, 4), 2, (5, 1)), nn.BatchNorm2d(32), nn.ReLU()]
    for _ in range(3):
        layers += [conv(32, 32, 3, groups=32), conv(32, 32, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 12))


class Capsule(nn.Module):
    """An embedding network: PReLU, global depthwise convolution, L2 normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.PReLU(16),
            nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.PReLU(32),
            nn.Conv2d(32, 32, 7, groups=32), nn.Flatten(), nn.Linear(32, 64),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        """Return a unit vector."""
        return functional.normalize(self.body(image))


def face_embedding() -> nn.Module:
    """Return a MobileFaceNet-like embedding network."""
    return Capsule()


class HourGlass(nn.Module):
    """Heat maps of key points and their soft maxima."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(conv(3, 16, 3, 2), conv(16, 32, 3, 2))
        self.up = nn.Sequential(nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.GroupNorm(4, 16), nn.GELU())
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``[N, points, 2]``."""
        maps = self.head(self.up(self.down(image)))
        weights = maps.flatten(2).softmax(2).view_as(maps)
        rows = torch.linspace(0, 1, maps.shape[2])
        columns = torch.linspace(0, 1, maps.shape[3])
        return torch.stack([(weights.sum(3) * rows).sum(2), (weights.sum(2) * columns).sum(2)], 2)


def key_points() -> nn.Module:
    """Return a key-point network with soft-argmax."""
    return HourGlass()


class PointNet(nn.Module):
    """PointNet: shared 1x1 convolutions over points, a learned transform, max over points."""

    def __init__(self) -> None:
        super().__init__()
        self.align = nn.Sequential(
            nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.AdaptiveMaxPool1d(1),
            nn.Flatten(), nn.Linear(32, 9),
        )  # fmt: skip
        self.body = nn.Sequential(
            nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1),
            nn.BatchNorm1d(64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, points: Tensor) -> Tensor:
        """Return class scores of ``[N, 3, points]``."""
        matrix = self.align(points).view(-1, 3, 3) + torch.eye(3)
        moved = torch.bmm(points.transpose(1, 2), matrix).transpose(1, 2)
        scores: Tensor = self.head(self.body(moved).max(2).values)
        return scores


def pointnet() -> nn.Module:
    """Return PointNet."""
    return PointNet()
