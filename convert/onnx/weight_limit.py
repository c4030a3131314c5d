"""Refuse at once what cannot become one .tflite file, whatever is done to it later.

A flatbuffer addresses less than 2 GiB (https://flatbuffers.dev/internals/), and every conversion
passes through a file of float weights; so no quantization helps, and hours would go by before the
file is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.convert.torch.pt2_inputs import float_bytes
from edgeconv.core.errors import ConversionError

if TYPE_CHECKING:
    import torch
    from onnx import TensorProto

_LIMIT = (1 << 31) - 1
_FLOAT = 4  # bytes of the widest float that is written


def require_onnx_fits(tensors: Iterable[TensorProto], where: str) -> None:
    """Require constants that one .tflite file holds.

    Raises:
        ConversionError: They take more.
    """
    import onnx

    total = sum(
        math.prod(tensor.dims)
        * min(_FLOAT, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        for tensor in tensors
    )
    _require(total, where)


def require_weights_fit(weights: Iterable[torch.Tensor], where: str) -> None:
    """Require weights that one .tflite file holds; those that share memory count once.

    Raises:
        ConversionError: They take more.
    """
    import torch

    sizes = {
        (tensor.data_ptr(), tensor.numel()): tensor.numel() * min(_FLOAT, tensor.element_size())
        for tensor in weights
        if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided
    }
    _require(sum(sizes.values()), where)


def require_program_fits(path: Path) -> None:
    """Require a .pt2 file whose weights one .tflite file holds, as far as the archive tells.

    Raises:
        ConversionError: They take more.
    """
    _require(float_bytes(path), str(path))


def _require(total: int, where: str) -> None:
    if total <= _LIMIT:
        return
    raise ConversionError(
        "the model does not fit into one .tflite file",
        where=where,
        why=f"its weights take {total / 2**30:.2f} GiB as float32, and such a file has less than "
        "2 GiB, also on the way to int8",
        hint="split the model into parts of less than 2 GiB, each a model of its own, and convert "
        "them one by one; or make it smaller",
    )
