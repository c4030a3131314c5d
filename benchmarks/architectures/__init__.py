"""The architectures of the zoo, as data; building one needs the library that it comes from."""

from __future__ import annotations

from benchmarks.architectures import own, timm_models, torchvision_models, transformers_models
from benchmarks.architectures.model import Architecture, Input

__all__ = ["TEN", "Architecture", "Input", "all_architectures", "find"]

TEN = (
    "mobilenet_v2",
    "resnet18",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "lraspp_mobilenet_v3_large",
    "vit_tiny_patch16_224",
    "mobilevit_s",
    "convnext_tiny",
    "swin_tiny_patch4_window7_224",
)
"""Those that other converters are measured on too."""


def all_architectures() -> tuple[Architecture, ...]:
    """Return every architecture; the quick ones come first."""
    sources = (own, transformers_models, torchvision_models, timm_models)
    return tuple(entry for source in sources for entry in source.architectures())


def find(name: str) -> Architecture:
    """Return the architecture of that name.

    Raises:
        KeyError: There is none.
    """
    return {entry.name: entry for entry in all_architectures()}[name]
