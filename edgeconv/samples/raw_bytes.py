"""Turn samples back into the bytes that they were made of, for models that take these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeconv.core.artifacts import Array, Arrays, TensorSpec
from edgeconv.core.errors import InvalidData, UsageError
from edgeconv.core.preprocess import BYTE, Preprocessing
from edgeconv.core.roles import channel_axis
from edgeconv.core.wording import named
from edgeconv.samples.byte_grid import LAST, WHOLE, Grid, channel_grids
from edgeconv.samples.images import Normalisation

_OFF = 0.02
"""The farthest that samples may be from bytes, in steps, to be these."""


def preprocessing_of(
    inputs: Sequence[TensorSpec], arrays: Arrays, given: Normalisation
) -> dict[str, Preprocessing]:
    """Return how the images among the inputs are made of bytes, by name.

    Args:
        inputs: The model's inputs.
        arrays: Samples, ``[sample, *input shape]``; none where they are to be generated.
        given: The mean and standard deviation that the user states.

    Raises:
        UsageError: No input can be an image, or nothing tells the mean and standard deviation.
    """
    reals = [spec for spec in inputs if np.dtype(spec.dtype).kind == "f"]
    images = [spec for spec in reals if channel_axis(spec.source_shape) is not None]
    if not images and len(reals) != 1:
        listed = ", ".join(f"{one.name} {list(one.source_shape)}" for one in inputs)
        raise UsageError(
            f"{named('preprocess', 'fold')} needs an input of images",
            why=f"the inputs are {listed}",
        )
    return {spec.name: _one(spec, arrays.get(spec.name), given) for spec in images or reals}


def _one(spec: TensorSpec, array: Array | None, given: Normalisation) -> Preprocessing:
    axis = channel_axis(spec.source_shape)
    if given.mean or given.std:
        count = 1 if axis is None else spec.source_shape[axis]
        if {len(given.mean or (0.0,)), len(given.std or (1.0,))} - {1, count}:
            raise UsageError(
                f"{named('image_mean')} and {named('image_std')} do not fit the input",
                where=spec.name,
                why=f"it has {count} channels",
            )
        why = "--image-mean and --image-std"
        return Preprocessing(given.mean or (0.0,), given.std or (1.0,), axis, why)
    if array is None:
        return Preprocessing((0.0,), (1.0,), axis, "images in 0..1")
    places = range(1 if axis is None else array.shape[axis + 1])
    channels = [array] if axis is None else [np.take(array, i, axis=axis + 1) for i in places]
    grids = [grid for grid in channel_grids(channels) if grid is not None and grid.anchored]
    if len(grids) != len(channels):
        raise UsageError(
            f"{named('preprocess', 'fold')} does not know how the samples were made of bytes",
            where=spec.name,
            why="they are not on the grid that (x/255 - mean)/std has",
            hint=f"say so with {named('image_mean')} and {named('image_std')}",
        )
    return _of_grids(grids, axis)


def _of_grids(grids: Sequence[Grid], axis: int | None) -> Preprocessing:
    if all(map(grids[0].same, grids)):
        grids = grids[:1]
    stds = tuple(_tidy(1 / (LAST * grid.step)) for grid in grids)
    means = tuple(_tidy(-grid.low * std) for grid, std in zip(grids, stds, strict=True))
    return Preprocessing(means, stds, axis, "the grid of the samples")


def _tidy(value: float) -> float:
    """Return a number without what float32 added to it."""
    tidy = round(value, 5)
    return tidy if abs(tidy - value) < 2e-6 * max(1.0, abs(value)) else value


def raw_bytes(spec: TensorSpec, array: Array, preprocessing: Preprocessing) -> Array:
    """Return samples as bytes, whole numbers of the input's dtype.

    Args:
        spec: The input.
        array: ``[sample, *input shape]``, preprocessed or already bytes.
        preprocessing: What the model is to do itself.

    Raises:
        InvalidData: They are neither.
    """
    whole = array.dtype == np.uint8 or WHOLE.holds(array)
    if whole and array.max() > 2 * _highest(preprocessing):
        return array.astype(spec.dtype)
    raw = preprocessing.raw(array)
    if raw.min() < -_OFF or raw.max() > BYTE + _OFF:
        raise InvalidData(
            "the samples are not what the mean and standard deviation make of bytes",
            where=spec.name,
            why=f"as bytes they would range over {raw.min():.4g} to {raw.max():.4g}",
            hint=f"correct {named('image_mean')} and {named('image_std')}, or give the samples "
            "as they are normalised",
        )
    return np.rint(raw).clip(0, BYTE).astype(spec.dtype)


def _highest(preprocessing: Preprocessing) -> float:
    scale, offset = preprocessing.factors((preprocessing.axis or 0) + 1)
    return float((scale * BYTE + offset).max())
