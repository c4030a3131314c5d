"""Samples as small pictures, where they look like images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeconv.artifacts import Array, Arrays

_MOST = 6
_SIDE = 96
_SMALLEST = 8


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture.

    Attributes:
        name: Of the input or output.
        uri: A ``data:`` URI.
        caption: What the reference says of the sample.
    """

    name: str
    uri: str
    caption: str


def pictures(inputs: Arrays, outputs: Arrays) -> list[Picture]:
    """Return the first samples of the inputs and outputs that look like images.

    Those are float arrays ``[sample, 1, C, H, W]`` with one or three channels. Each is stretched
    between its own darkest and brightest element.
    """
    found = []
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for name, array in arrays.items():
            if not _is_image(array):
                continue
            for index in range(min(_MOST, len(array))):
                caption = _scores(outputs, index) if kind == "input" else "reference output"
                found.append(Picture(name, _uri(array[index, 0]), caption or f"sample {index}"))
    return found


def _is_image(array: Array) -> bool:
    return (
        array.ndim == 5
        and array.dtype.kind == "f"
        and array.shape[1] == 1
        and array.shape[2] in (1, 3)
        and min(array.shape[3:]) >= _SMALLEST
    )


def _scores(outputs: Mapping[str, Array], index: int) -> str:
    if len(outputs) != 1:
        return ""
    array = next(iter(outputs.values()))
    if array.ndim != 3 or array.shape[2] < 2:
        return ""
    return f"class {int(np.argmax(array[index, 0]))}"


def _uri(image: Array) -> str:
    """Return an image ``[C, H, W]`` as a PNG."""
    from PIL import Image

    pixels = np.nan_to_num(np.moveaxis(image.astype(np.float64), 0, -1))
    low, high = float(pixels.min()), float(pixels.max())
    scaled = (255 * (pixels - low) / max(high - low, 1e-12)).astype(np.uint8)
    picture = Image.fromarray(scaled[..., 0] if scaled.shape[-1] == 1 else scaled)
    factor = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    kind = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BILINEAR
    buffer = io.BytesIO()
    picture.resize(size, kind).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
