"""Refuse PyTorch models whose weights no .tflite file holds, before anything is done with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.convert.onnx.weight_limit import FLOAT_BYTES, require_fits
from edgeconv.convert.torch.pt2_inputs import float_bytes

if TYPE_CHECKING:
    import torch


def require_weights_fit(weights: Iterable[torch.Tensor], where: str) -> None:
    """Require weights that one .tflite file holds; those that share memory count once.

    Raises:
        ConversionError: They take more.
    """
    import torch

    sizes = {
        (tensor.data_ptr(), tensor.numel()): tensor.numel()
        * min(FLOAT_BYTES, tensor.element_size())
        for tensor in weights
        if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided
    }
    require_fits(sum(sizes.values()), where)


def require_program_fits(path: Path) -> None:
    """Require a .pt2 file whose weights one .tflite file holds, as far as the archive tells.

    Raises:
        ConversionError: They take more.
    """
    require_fits(float_bytes(path), str(path))
