"""Samples of a model whose batch is open: most run one at a time, the last ones together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeconv.core.artifacts import Array, Arrays, TensorSpec
from edgeconv.core.errors import InvalidModel
from edgeconv.core.wording import named

_BATCH = 4
"""Samples that run together."""


def run_in_batches(
    inputs: Sequence[TensorSpec], arrays: Arrays, run: Callable[[Arrays], Arrays]
) -> Arrays:
    """Run samples; where the batch is open, at two sizes of it.

    Args:
        inputs: The model's inputs.
        arrays: Samples by input name, ``[sample, ...]``, as the source model takes them; with an
            open batch each is a batch of one.
        run: Runs such samples, one after the other, and returns the outputs likewise.

    Returns:
        The outputs by name, ``[sample, ...]``, whichever way they were computed.

    Raises:
        InvalidModel: An output of a batch has no entry for each of its samples.
    """
    count = len(next(iter(arrays.values())))
    together = min(_BATCH, count // 2)
    is_open = all(spec.source_shape[:1] == (None,) for spec in inputs)
    if not is_open or together < 2 or any(array.shape[1] != 1 for array in arrays.values()):
        return run(arrays)
    single = run({name: array[:-together] for name, array in arrays.items()})
    batch = run({name: array[-together:].swapaxes(0, 1) for name, array in arrays.items()})
    return {name: _joined(name, single[name], batch[name], together) for name in single}


def _joined(name: str, single: Array, batch: Array, together: int) -> Array:
    if single.shape[1:2] != (1,) or batch.shape[:2] != (1, together):
        raise InvalidModel(
            f"the output {name!r} of {together} samples together has the shape "
            f"{list(batch.shape[1:])}",
            why="its first dimension does not count the samples",
            hint=f"fix the batch: {named('input_shapes')}",
        )
    return np.concatenate([single, batch.swapaxes(0, 1)])
