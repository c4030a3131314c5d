"""Read a directory of images as the input of a model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeconv.core.artifacts import Array, TensorSpec
from edgeconv.core.errors import InvalidData, UsageError, first_line

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})
_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation per channel, of values in 0..1; empty to leave them."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def of(cls, mean: Sequence[float] | None, std: Sequence[float] | None) -> Normalisation:
        """Return the normalisation for what may be left out.

        Raises:
            UsageError: A standard deviation is not positive.
        """
        if any(not value > 0 for value in std or ()):
            raise UsageError(f"a standard deviation must be above 0, not {min(std or ())}")
        return cls(tuple(mean or ()), tuple(std or ()))

    def apply(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Normalise ``[height, width, channel]``, any leading axes before."""
        mean = np.asarray(self.mean or 0.0, np.float32)
        std = np.asarray(self.std or 1.0, np.float32)
        return np.asarray((images - mean) / std, np.float32)


@dataclass(frozen=True, slots=True)
class _Geometry:
    """How an input holds an image."""

    height: int
    width: int
    channels: int
    channels_first: bool


def read_images(
    folder: Path,
    inputs: Sequence[TensorSpec],
    limit: int | None,
    normalisation: Normalisation,
) -> tuple[str, Array]:
    """Read images in the order of their names, subdirectories included.

    Each is turned upright as its EXIF data says, brought to RGB (or to grey, for inputs of one
    channel), cropped in the centre to the input's aspect ratio, resized with bilinear filtering,
    scaled to 0..1, and normalised. A ``uint8`` input gets 0..255 as they are.

    Args:
        folder: The directory.
        inputs: The model's inputs: one, ``1xCxHxW`` or ``1xHxWxC`` with 1 or 3 channels.
        limit: The largest number of images; they are taken evenly from all, because directories
            are often sorted by class.
        normalisation: Applied after scaling.

    Returns:
        The input's name and ``[image, *input shape]``.

    Raises:
        InvalidData: The model takes no images, there are none, or one cannot be read.
    """
    spec, geometry = _image_input(inputs, str(folder))
    for name, values in (("mean", normalisation.mean), ("std", normalisation.std)):
        if len(values) not in (0, 1, geometry.channels):
            raise InvalidData(
                f"{len(values)} values of {name} for {geometry.channels} channels",
                where=str(folder),
            )
    files = image_files(folder)
    if limit is not None and limit < len(files):
        chosen = np.linspace(0, len(files) - 1, limit).round().astype(int)
        files = [files[index] for index in chosen]
    pixels = np.stack([_read(file, geometry) for file in files])
    if spec.dtype == "uint8":
        images: Array = pixels
    else:
        images = normalisation.apply(pixels.astype(np.float32) / np.float32(255))
    if geometry.channels_first:
        images = images.transpose(0, 3, 1, 2)
    return spec.name, images[:, np.newaxis]


def _image_input(inputs: Sequence[TensorSpec], where: str) -> tuple[TensorSpec, _Geometry]:
    spec = inputs[0]
    shape = [size or 0 for size in spec.source_shape]
    if len(inputs) == 1 and len(shape) == 4 and shape[0] == 1:
        usable = spec.dtype == "uint8" or np.dtype(spec.dtype).kind == "f"
        if shape[1] in _MODES and usable:
            return spec, _Geometry(shape[2], shape[3], shape[1], channels_first=True)
        if shape[3] in _MODES and usable:
            return spec, _Geometry(shape[1], shape[2], shape[3], channels_first=False)
    listed = ", ".join(f"{spec.name} {spec.dtype} {list(spec.source_shape)}" for spec in inputs)
    raise InvalidData(
        "a directory of images does not fit this model",
        where=where,
        why=f"its inputs are {listed}; needed is one of 1xCxHxW with 1 or 3 channels",
        hint="give an .npz file, or package.module:function",
    )


def image_files(folder: Path) -> list[Path]:
    """Return the images of a directory in the order of their names.

    Raises:
        InvalidData: There are none.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not files:
        raise InvalidData(
            "there are no images in this directory",
            where=str(folder),
            hint="images end in " + ", ".join(sorted(_SUFFIXES)),
        )
    return files


def _read(file: Path, geometry: _Geometry) -> npt.NDArray[np.uint8]:
    """Return one image as ``[height, width, channel]``, 0 to 255."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                image = ImageOps.exif_transpose(opened).convert(_MODES[geometry.channels])
    except (
        OSError,
        ValueError,
        SyntaxError,
        MemoryError,  # Pillow's word for some streams that are broken
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise InvalidData(
            "the image cannot be read",
            where=str(file),
            why=first_line(error),
            hint="remove or replace it",
        ) from error
    size = (geometry.width, geometry.height)
    fitted = ImageOps.fit(image, size, method=Image.Resampling.BILINEAR)
    return np.asarray(fitted, np.uint8).reshape(*size[::-1], geometry.channels)
