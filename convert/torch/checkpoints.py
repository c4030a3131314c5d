"""What training scripts save: weights or modules among other things, under other names.

The safetensors format is eight bytes with the length of a JSON header, the header, and the raw
little-endian data: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeconv.core.errors import InvalidModel

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

# Where training scripts put the weights among other things.
_WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "weights", "params", "ema", "module")
# Where they put the module itself; ultralytics' averaged one is the one that it validates.
_MODULE_KEYS = ("ema", "model", "module", "net", "network")
_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def module_in(content: Any) -> torch.nn.Module | None:
    """Return the module in what a training script saved, or None."""
    import torch

    if isinstance(content, torch.nn.Module):
        return content
    if not isinstance(content, Mapping):
        return None
    found = {key: content.get(key) for key in _MODULE_KEYS}
    for key, value in found.items():
        if isinstance(value, torch.nn.Module):
            _log.info("the checkpoint's %r is taken", key)
            return value
    return None


def weights_in(content: Any) -> dict[str, torch.Tensor] | None:
    """Return the state dict in what a training script saved, or None."""
    import torch

    if not isinstance(content, Mapping) or not content:
        return None
    if all(isinstance(value, torch.Tensor) for value in content.values()):
        return {str(name): value for name, value in content.items()}
    return next((found for key in _WEIGHT_KEYS if (found := weights_in(content.get(key)))), None)


def without_prefix(
    weights: Mapping[str, torch.Tensor], own: Collection[str], where: str
) -> Mapping[str, torch.Tensor]:
    """Return weights without the prefix that all their names share and the module's do not have.

    `DataParallel` writes ``module.``, Lightning the name of the attribute, `torch.compile`
    ``_orig_mod.``; they also occur one inside the other.

    Args:
        weights: The state dict.
        own: Names in the module's own one.
        where: The file, for messages.
    """
    prefix = ""
    names = list(weights)
    while names and not set(names) & set(own):
        first, dot, _ = names[0].partition(".")
        if not dot or not all(name.startswith(f"{first}.") for name in names):
            return weights
        prefix += f"{first}."
        names = [name.removeprefix(f"{first}.") for name in names]
    if prefix:
        _log.info("%s: dropped the prefix %r of all names", where, prefix)
    return {name.removeprefix(prefix): value for name, value in weights.items()}


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        InvalidModel: The file is damaged.
    """
    content = path.read_bytes()
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length].decode("utf-8"))
        data = bytearray(content[8 + length :])
        header.pop("__metadata__", None)
        return {str(name): _tensor(entry, data) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InvalidModel(
            "the safetensors file cannot be read",
            where=str(path),
            why=f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}",
            hint="it may be damaged or cut off; copy it again",
        ) from error


def _tensor(entry: Mapping[str, Any], data: bytearray) -> torch.Tensor:
    """Return one tensor; its bytes must lie in the file and be as many as its shape takes."""
    import torch

    dtype: torch.dtype = getattr(torch, _TYPES[entry["dtype"]])
    shape = [int(size) for size in entry["shape"]]
    start, end = (int(offset) for offset in entry["data_offsets"])
    count = 1
    for size in shape:
        count *= size
    if min([start, *shape]) < 0 or end > len(data) or end - start != count * dtype.itemsize:
        raise ValueError(f"offsets {start} to {end} do not fit the shape {shape}")
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype, count=count, offset=start).reshape(shape).clone()
