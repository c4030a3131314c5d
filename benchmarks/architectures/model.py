"""What an architecture of the zoo is."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.architectures.statistics import seeded, settle

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Input:
    """One input of an architecture.

    Attributes:
        shape: Shape, batch first.
        below: 0 for standard normal float32; otherwise int64, uniform in ``[0, below)``.
    """

    shape: tuple[int, ...]
    below: int = 0

    def sample(self, generator: np.random.Generator, batch: int = 0) -> npt.NDArray[Any]:
        """Return random values; ``batch`` replaces the first dimension."""
        shape = (batch, *self.shape[1:]) if batch else self.shape
        if self.below:
            return generator.integers(0, self.below, shape, np.int64)
        return generator.standard_normal(shape, np.float32)


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture: how to build it, and what it takes.

    Attributes:
        name: Unique name.
        source: ``own``, ``torchvision``, ``timm`` or ``transformers``.
        family: What it stands for; unique within its source.
        factory: ``module:function`` that builds the module.
        arguments: Keyword arguments of the function.
        inputs: Inputs in order.
        settle: Give the random weights sane statistics by running batches through the module.
    """

    name: str
    source: str
    family: str
    factory: str
    inputs: tuple[Input, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    settle: bool = True

    def create(self) -> torch.nn.Module:
        """Return the module as its library initialises it, in evaluation mode."""
        module_name, _, function = self.factory.partition(":")
        factory = getattr(importlib.import_module(module_name), function)
        module: torch.nn.Module = factory(**self.arguments)
        return module.eval()

    def build(self, seed: int = 0) -> torch.nn.Module:
        """Return the module with random weights that make its outputs worth comparing."""
        with seeded(seed):
            module = self.create()
            if self.settle:
                settle(module, lambda batch: self.example(seed + 1, batch))
        return module

    def example(self, seed: int = 0, batch: int = 0) -> tuple[torch.Tensor, ...]:
        """Return random inputs; ``batch`` replaces the first dimension of each."""
        import torch

        generator = np.random.default_rng(seed)
        return tuple(torch.from_numpy(entry.sample(generator, batch)) for entry in self.inputs)


def image(size: int, channels: int = 3) -> tuple[Input, ...]:
    """Return the one input of an image model."""
    return (Input((1, channels, size, size)),)
