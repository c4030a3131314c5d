"""Samples from what yields them: functions, lists, DataLoaders, one by one or in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from edgeconv.core.artifacts import Array, Arrays, TensorSpec
from edgeconv.core.errors import InvalidData
from edgeconv.core.user_code import failed, importable_from_here
from edgeconv.samples.conform import conform_sample
from edgeconv.samples.files import is_output


def from_iterable(
    source: Any, inputs: Sequence[TensorSpec], limit: int | None, where: str, shown: str = ""
) -> Arrays:
    """Collect samples; user code runs here, and only as far as it is needed.

    Args:
        source: An iterable, or a function that returns one. It yields samples, or batches of them
            with a first axis that counts them. Both are an array, a tuple or a list in the order of
            the inputs, or a mapping by name. What is named like an output or a label is left out,
            and the second of a pair where the model has one input.
        inputs: The model's inputs.
        limit: The largest number of samples.
        where: What they come from, for messages.
        shown: The same with the option that names it.

    Returns:
        ``[sample, *input shape]`` by input name.
    """
    rows: list[list[Array]] = []
    with importable_from_here():
        iterator = _iterator(source, where, shown or where)
        while limit is None or len(rows) < limit:
            try:
                items = list(islice(iterator, 1))
            except Exception as error:
                raise failed("the function failed", shown or where, error) from error
            if not items:
                break
            rows += _rows(items[0], inputs, f"{where}, sample {len(rows)}")
    if not rows:
        raise InvalidData("there are no samples", where=where, hint="yield at least one")
    columns = zip(*rows[:limit], strict=True)
    return {spec.name: np.stack(column) for spec, column in zip(inputs, columns, strict=True)}


def _iterator(source: Any, where: str, shown: str) -> Iterator[Any]:
    if callable(source):
        try:
            source = source()
        except Exception as error:
            raise failed("the function failed", shown, error) from error
    try:
        return iter(source)
    except TypeError as error:
        raise InvalidData(
            f"this gave a {type(source).__name__}, not samples",
            where=where,
            hint="yield one sample at a time, or return a list of them",
        ) from error


def _rows(item: Any, inputs: Sequence[TensorSpec], where: str) -> list[list[Array]]:
    """Return the samples of one that was yielded, or of a batch, each an array per input."""
    arrays = [as_array(value) for value in _values(item, inputs, where)]
    counts = {_batch(spec, array) for spec, array in zip(inputs, arrays, strict=True)}
    count = counts.pop() if len(counts) == 1 else None
    parts = [arrays] if count is None else [[array[n] for array in arrays] for n in range(count)]
    return [
        [conform_sample(spec, array, where) for spec, array in zip(inputs, part, strict=True)]
        for part in parts
    ]


def _batch(spec: TensorSpec, array: Array) -> int | None:
    """Return how many samples an array has, ``None`` where it is one, or fits not at all."""
    shape = spec.source_shape
    alone = shape[1:] if shape[:1] == (1,) else shape
    if array.shape in (shape, alone) or array.ndim == 0:
        return None
    return len(array) if array.shape[1:] in (shape, alone) else None


def _values(item: Any, inputs: Sequence[TensorSpec], where: str) -> list[Any]:
    """Return what was yielded for each input."""
    names = [spec.name for spec in inputs]
    if isinstance(item, Mapping):
        left = {str(name): value for name, value in item.items()}
        extra = [name for name in left if name not in names and not is_output(name)]
        if extra or not set(names) <= set(left):
            raise wrong_names(names, list(left), where)
        return [left[name] for name in names]
    if not isinstance(item, (tuple, list)):
        item = [item]
    if len(item) == 2 and len(names) == 1:
        return list(item[:1])
    if len(item) != len(names):
        raise InvalidData(
            f"a sample has {len(item)} arrays, the model {len(names)} inputs",
            where=where,
            why=f"its inputs are {', '.join(names)}",
            hint="yield inputs only, without labels: an array, a tuple, or a mapping by name",
        )
    return list(item)


def wrong_names(expected: Sequence[str], found: Sequence[str], where: str) -> InvalidData:
    """Return the error for arrays that are not the inputs."""
    return InvalidData(
        "the arrays are not named like the inputs of the model",
        where=where,
        why=f"expected {', '.join(expected)}; found {', '.join(found) or 'none'}",
        hint="name them like the inputs, or in0, in1, ... in order",
    )


def as_array(value: Any) -> Array:
    """Return an array or a tensor of any library as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype == np.object_:
        raise InvalidData(
            f"a {type(value).__name__} is not an array of numbers",
            hint="give numpy arrays or tensors",
        )
    return array
