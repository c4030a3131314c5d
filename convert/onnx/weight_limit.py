"""Refuse at once what cannot become one .tflite file, whatever is done to it later.

A flatbuffer addresses less than 2 GiB (https://flatbuffers.dev/internals/), and every conversion
passes through a file of float weights; so no quantization helps, and hours would go by before the
file is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgeconv.core.errors import ConversionError

if TYPE_CHECKING:
    from onnx import TensorProto

_LIMIT = (1 << 31) - 1
FLOAT_BYTES = 4
"""Bytes of the widest float that is written."""


def require_onnx_fits(tensors: Iterable[TensorProto], where: str) -> None:
    """Require constants that one .tflite file holds.

    Raises:
        ConversionError: They take more.
    """
    import onnx

    total = sum(
        math.prod(tensor.dims)
        * min(FLOAT_BYTES, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        for tensor in tensors
    )
    require_fits(total, where)


def require_fits(total: int, where: str) -> None:
    """Require so many bytes of weights to be what one .tflite file holds.

    Raises:
        ConversionError: They are more.
    """
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
