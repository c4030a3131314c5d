"""Check arrays against a model's inputs, and convert only what cannot lose anything that counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeconv.core.artifacts import Array, TensorSpec
from edgeconv.core.errors import InvalidData


def conform(spec: TensorSpec, array: Array, where: str) -> Array:
    """Return the samples of one input as ``[sample, *input shape]`` in its type.

    Args:
        spec: The input; its shape in the source model's layout counts.
        array: ``[sample, *input shape]``; a leading 1 of the input shape may be missing.
        where: The file or function, for messages.

    Raises:
        InvalidData: Wrong rank, shape or type, no samples, or values that are not finite.
    """
    require_shape(spec, array.shape, where)
    if array.shape[1:] != spec.source_shape:
        array = array[:, np.newaxis]
    return _convert(spec, array, where)


def require_shape(spec: TensorSpec, found: tuple[int, ...], where: str) -> None:
    """Require the shape of samples to be ``[sample, *input shape]``, like `conform`.

    Raises:
        InvalidData: Wrong rank or shape, or no samples.
    """
    shape = spec.source_shape
    if found and found[0] == 0:
        raise InvalidData("there are no samples", where=_at(where, spec))
    without_one = bool(found) and shape[:1] == (1,) and found[1:] == shape[1:]
    if found[1:] != shape and not without_one:
        raise _wrong_shape(spec, found, where)


def conform_sample(spec: TensorSpec, array: Array, where: str) -> Array:
    """Return one sample of one input in its shape and type, like `conform`.

    Args:
        spec: The input.
        array: ``[*input shape]``; a leading 1 may be missing.
        where: The function and the number of the sample, for messages.
    """
    shape = spec.source_shape
    if array.shape == shape or (shape[:1] == (1,) and array.shape == shape[1:]):
        fixed = [int(size) for size in shape if size is not None]
        converted: Array = _convert(spec, array.reshape(1, *fixed), where)[0]
        return converted
    raise _wrong_shape(spec, array.shape, where, sample=True)


def shape_text(shape: Sequence[int | None]) -> str:
    """Return ``1x3x224x224``."""
    return "x".join("?" if size is None else str(size) for size in shape) or "a single number"


def _at(where: str, spec: TensorSpec) -> str:
    return f"{where}, input {spec.name!r}"


def _wrong_shape(
    spec: TensorSpec, found: tuple[int, ...], where: str, *, sample: bool = False
) -> InvalidData:
    shape = spec.source_shape
    expected = shape_text(shape) if sample else "N" + "".join(f"x{size}" for size in shape)
    if shape[:1] == (1,):
        short = shape_text(shape[1:])
        expected += f" or {short}" if sample else f" or N{''.join(f'x{s}' for s in shape[1:])}"
    own = found if sample else found[1:]
    what = "rank" if len(own) not in (len(shape), len(shape) - 1) else "shape"
    hint = "the first axis counts the samples" if not sample else "yield one sample at a time"
    if _is_channels_last(tuple(own), shape):
        hint = "the data is channels last; transpose it to the model's own layout, channels first"
    return InvalidData(
        f"the data has another {what} than the input",
        where=_at(where, spec),
        why=f"expected {expected}, found {shape_text(found)}",
        hint=hint,
    )


def _is_channels_last(found: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    if len(shape) != 4:
        return False
    batch, channels, height, width = shape
    return found in ((batch, height, width, channels), (height, width, channels))


def _convert(spec: TensorSpec, array: Array, where: str) -> Array:
    wanted = np.dtype(spec.dtype)
    if not _fits(array.dtype, wanted):
        raise _wrong_type(spec, array, where)
    if wanted.kind in "iu" and array.dtype != wanted:
        limits = np.iinfo(wanted)
        if array.min() < limits.min or array.max() > limits.max:
            raise InvalidData(
                f"the data holds numbers that {wanted} cannot",
                where=_at(where, spec),
                why=f"found {array.min()} to {array.max()}",
            )
    with np.errstate(over="ignore"):
        # A copy of what is mapped from a file: the file may change.
        copy = isinstance(array, np.memmap)
        converted = np.ascontiguousarray(array.astype(wanted, copy=copy))
    if wanted.kind == "f":
        _require_finite(spec, converted, where)
    return converted


def _fits(found: np.dtype[np.generic], wanted: np.dtype[np.generic]) -> bool:
    """Tell whether one kind of number can stand for another: floats, integers, booleans."""
    kinds = {"f": "f", "i": "iu", "u": "iu", "b": "b"}
    return found.kind in kinds.get(wanted.kind, "")


def _wrong_type(spec: TensorSpec, array: Array, where: str) -> InvalidData:
    hint = f"convert it: array.astype({spec.dtype!r})"
    if np.dtype(spec.dtype).kind == "f" and array.dtype.kind in "iu":
        hint = (
            "apply the preprocessing of the model first, for images usually x / 255 and then the "
            "mean and standard deviation of the training; or give the directory of images"
        )
    elif array.dtype.kind == "f":
        hint = "the model takes integers here, such as token numbers; give those"
    return InvalidData(
        "the data has another type than the input",
        where=_at(where, spec),
        why=f"expected {spec.dtype}, found {array.dtype}",
        hint=hint,
    )


def _require_finite(spec: TensorSpec, array: Array, where: str) -> None:
    finite = np.isfinite(array)
    if finite.all():
        return
    flat = finite.reshape(len(array), -1).all(axis=1)
    bad = np.flatnonzero(~flat)
    kind = "NaN" if np.isnan(array[bad[0]]).any() else "infinity"
    raise InvalidData(
        f"the data holds {kind}",
        where=_at(where, spec),
        why=f"in {len(bad)} of {len(array)} samples, the first is sample {bad[0]}",
        hint="leave these samples out, or correct the preprocessing",
    )
