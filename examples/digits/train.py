"""Train a small depthwise-separable network on scikit-learn's handwritten digits.

Writes next to this file what the demonstration needs:

- ``digits.pt2``: the trained network as a `torch.export` program, one image at a time;
- ``calibration.npz``: training images under the name of the network's input;
- ``test.npz``: held-out images under the same name, and their labels.

It takes well under a minute on two cores: ``python examples/digits/train.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
SEED = 0
EPOCHS = 30
BATCH = 32
SIDE = 32
CALIBRATION_SAMPLES = 128


def conv_norm_relu6(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> nn.Module:
    """Return convolution, batch normalization, ReLU6; ``groups == inputs`` is depthwise."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class Separable(nn.Module):
    """A depthwise 3x3 convolution, then a pointwise one.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Stride of the depthwise convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = conv_norm_relu6(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = conv_norm_relu6(inputs, outputs, 1, 1, groups=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H / stride, W / stride)``."""
        result: Tensor = self.pointwise(self.depthwise(features))
        return result


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project back without activation, and add the input.

    The block of MobileNetV2 (Sandler et al., 2018, https://arxiv.org/abs/1801.04381).

    Args:
        channels: Channels in and out.
        expansion: How many times more channels there are inside.
    """

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        inside = channels * expansion
        self.expand = conv_norm_relu6(channels, inside, 1, 1, groups=1)
        self.depthwise = conv_norm_relu6(inside, inside, 3, 1, groups=inside)
        self.project = nn.Sequential(
            nn.Conv2d(inside, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        change: Tensor = self.project(self.depthwise(self.expand(features)))
        return features + change


class DigitsNet(nn.Module):
    """Classify grey digits: ``(N, 1, 32, 32)`` in [0, 1] to ``(N, 10)`` logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm_relu6(1, 16, 3, 2, groups=1)
        self.blocks = nn.Sequential(
            Separable(16, 32, stride=2),
            InvertedResidual(32, expansion=2),
            Separable(32, 48, stride=2),
            InvertedResidual(48, expansion=2),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(48, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; the argument's name becomes the name of the model's input."""
        features = self.pool(self.blocks(self.stem(image)))
        logits: Tensor = self.classify(torch.flatten(features, 1))
        return logits


def load_split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images, test images, training labels and test labels.

    The 8x8 images with 17 grey levels become ``(N, 1, 32, 32)`` float32 in [0, 1], each pixel
    repeated four times both ways. A quarter is held out, with all digits equally well represented.
    """
    digits = load_digits()
    small = digits.images.astype(np.float32) / 16.0
    images = np.kron(small, np.ones((1, SIDE // 8, SIDE // 8), np.float32))[:, np.newaxis]
    split = train_test_split(
        images, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )
    train_images, test_images, train_labels, test_labels = map(torch.from_numpy, split)
    return train_images, test_images, train_labels, test_labels


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, stretch and shift each image a little, so that the network sees no digit twice."""
    count = images.shape[0]
    change = torch.randn(count, 2, 3, generator=generator)
    spread = torch.tensor([[0.08, 0.08, 0.06], [0.08, 0.08, 0.06]])
    motion = torch.eye(2, 3) + spread * change
    grid = functional.affine_grid(motion, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(images: Tensor, labels: Tensor) -> DigitsNet:
    """Return a network trained on ``(N, 1, 32, 32)`` images and ``(N,)`` labels."""
    torch.set_num_threads(1)  # batches are small: a second thread would mostly wait
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    network = DigitsNet()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    batches = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=EPOCHS * batches)
    for epoch in range(EPOCHS):
        total = 0.0
        order = torch.randperm(len(images), generator=generator)
        for batch in order[: batches * BATCH].split(BATCH):
            logits = network(jitter(images[batch], generator))
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3d} of {EPOCHS}: loss {total / batches:.3f}")
    return network.eval()


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images whose highest logit is the label."""
    with torch.no_grad():
        hits: Tensor = network(images).argmax(1) == labels
    return hits.float().mean().item()


def save(network: DigitsNet, calibration: Tensor, images: Tensor, labels: Tensor) -> None:
    """Write the network, the calibration images and the held-out split next to this file."""
    program = torch.export.export(network, (images[:1].clone(),))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names paths of this machine
    torch.export.save(program, HERE / "digits.pt2")
    np.savez_compressed(HERE / "calibration.npz", image=calibration.numpy())
    np.savez_compressed(HERE / "test.npz", image=images.numpy(), label=labels.numpy())


def main() -> None:
    """Train, report the accuracy and save."""
    train_images, test_images, train_labels, test_labels = load_split()
    network = train(train_images, train_labels)
    share = accuracy(network, test_images, test_labels)
    print(f"top-1 on {len(test_images)} held-out images: {share:.2%}")
    save(network, train_images[:CALIBRATION_SAMPLES], test_images, test_labels)


if __name__ == "__main__":
    main()
