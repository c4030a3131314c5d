"""What the runtimes share: samples in, samples out, and strict checks of names and dtypes."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Array, Arrays, Artifact, TensorSpec
from edgeconv.core.errors import InvalidData, InvalidModel
from edgeconv.core.states import State, unroll
from edgeconv.toolchain.worker.process import ProgressCallback

# More threads gain little on one sample and take the cores of the stages that run beside.
_MOST_THREADS = 4


def thread_count() -> int:
    """Return how many threads a runtime should use."""
    return min(_MOST_THREADS, core_count())


def core_count() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_samples(
    artifact: Artifact,
    feeds: str,
    results: str,
    infer: Callable[[Arrays], Sequence[Array]],
    progress: ProgressCallback | None,
    stream: Mapping[str, Any] | None = None,
) -> float:
    """Run each sample through `infer` and write the stacked outputs.

    Args:
        artifact: What runs.
        feeds: ``.npz`` of arrays by input name, ``[sample, ...]``.
        results: Where to write the same by output name.
        infer: Takes one sample by input name, returns the outputs in the artifact's order.
        progress: Told after every sample.
        stream: For a stream the number of ``steps``, and the ``states`` as `State.to_dict` gives
            them; each step then takes the states that the step before it returned.

    Returns:
        The median time of a sample in milliseconds.

    Raises:
        InvalidData: The arrays do not fit the artifact's inputs.
        InvalidModel: The runtime returned outputs that the artifact does not have.
    """
    arrays = read_npz(Path(feeds))
    count = check_feeds(arrays, artifact)
    steps = int(stream["steps"]) if stream else count
    states = [State.from_dict(item) for item in stream["states"]] if stream else []
    seconds: list[float] = []

    def step(sample: Arrays) -> Arrays:
        began = time.perf_counter()
        outputs = infer({spec.name: sample[spec.name] for spec in artifact.inputs})
        seconds.append(time.perf_counter() - began)
        for spec, array in zip(artifact.outputs, outputs, strict=True):
            check_tensor(artifact, "output", spec, array.shape, array.dtype.name)
        if progress is not None:
            progress(len(seconds), steps)
        return {spec.name: array for spec, array in zip(artifact.outputs, outputs, strict=True)}

    write_npz(Path(results), unroll(states, arrays, steps, step, _feed(artifact)))
    return 1e3 * statistics.median(seconds)


def _feed(artifact: Artifact) -> Callable[[State, Arrays, Array], Array]:
    """Return what stores an output as the input that it is fed to."""
    inputs = {spec.name: spec for spec in artifact.inputs}
    outputs = {spec.name: spec for spec in artifact.outputs}
    joins = {join.output.name: join for join in artifact.joins}

    def value(name: str, found: Arrays) -> Array:
        if name not in joins:
            return outputs[name].restore(found[name])
        parts = [part.name for part in joins[name].parts]
        return joins[name].join({part: outputs[part].restore(found[part]) for part in parts})

    def feed(state: State, found: Arrays, before: Array) -> Array:
        source, target = outputs.get(state.output), inputs[state.input]
        alike = source and replace(source, name=target.name, shape=target.shape) == target
        if alike and state.part is None:
            return found[state.output]
        shape = target.restore(before).shape
        return target.store(state.of(value(state.output, found), shape))

    return feed


def check_feeds(arrays: Arrays, artifact: Artifact) -> int:
    """Return the number of samples.

    Raises:
        InvalidData: Names, shapes, dtypes or sample counts do not fit the artifact's inputs.
    """
    expected = [spec.name for spec in artifact.inputs]
    if sorted(arrays) != sorted(expected):
        raise InvalidData(
            f"samples are named {', '.join(sorted(arrays))}",
            where=str(artifact.path),
            why=f"the inputs are {', '.join(expected)}",
        )
    counts = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise InvalidData("the inputs have no samples, or not equally many", why=str(counts))
    for spec in artifact.inputs:
        array = arrays[spec.name]
        if not _fits(spec, array.shape[1:], array.dtype.name):
            raise InvalidData(
                f"samples of {spec.name} are {array.dtype.name} {list(array.shape[1:])}",
                where=str(artifact.path),
                why=f"the input is {_describe(spec)}",
            )
    return int(counts.pop())


def check_tensor(
    artifact: Artifact, kind: str, spec: TensorSpec, shape: Sequence[int | None], dtype: str
) -> None:
    """Require a tensor of the file to be what the artifact says.

    Raises:
        InvalidModel: It is not.
    """
    if not _fits(spec, shape, dtype):
        raise InvalidModel(
            f"{kind} {spec.name} is {dtype} {_shape(shape)}",
            where=str(artifact.path),
            why=f"expected {_describe(spec)}",
        )


def check_names(
    artifact: Artifact, kind: str, specs: Sequence[TensorSpec], names: Sequence[str]
) -> None:
    """Require the file's tensors to be named, and ordered, as the artifact says.

    Raises:
        InvalidModel: They are not.
    """
    expected = [spec.name for spec in specs]
    if list(names) != expected:
        raise InvalidModel(
            f"{kind}s are {', '.join(names)}",
            where=str(artifact.path),
            why=f"expected {', '.join(expected)}",
        )


def _fits(spec: TensorSpec, shape: Sequence[int | None], dtype: str) -> bool:
    sizes = list(shape)
    return (
        dtype == spec.dtype
        and len(sizes) == len(spec.shape)
        and all(None in (a, b) or a == b for a, b in zip(sizes, spec.shape, strict=True))
    )


def _describe(spec: TensorSpec) -> str:
    return f"{spec.dtype} {_shape(spec.shape)}"


def _shape(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
