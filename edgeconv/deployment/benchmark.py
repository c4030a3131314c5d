"""Latency and peak memory of .tflite models, on this machine or on a board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.core.artifacts import Array, Artifact, Format, TensorSpec
from edgeconv.core.bundle import Bundle, open_bundle
from edgeconv.core.errors import UsageError
from edgeconv.core.steps import Nobody, Observer
from edgeconv.deployment.check import require_operators
from edgeconv.metrics import parity
from edgeconv.parity.candidates import describe_tflite
from edgeconv.targets.coral.placement.package import packages
from edgeconv.tflite import file as tflite
from edgeconv.toolchain.device.job import Device, Job, RunOptions
from edgeconv.toolchain.device.local import run_here
from edgeconv.toolchain.environments.specs import ENVIRONMENTS


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    path: Path
    job: Job


def benchmark(
    path: Path,
    options: RunOptions,
    device: Device = run_here,
    observer: Observer | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measure a .tflite file, or every .tflite stage of a bundle.

    Args:
        path: The file or the bundle.
        options: Runs, threads, which Edge TPU.
        device: Runs the models.
        observer: Follows the stages.
        seed: Seed of the inputs of a file that is in no bundle.

    Returns:
        One JSON-ready entry per model: ``stage``, ``file``, ``bytes``, and what the device
        answered. Latency is that of the model alone, without copying inputs and outputs.

    Raises:
        InvalidModel: The file or bundle is damaged.
        UsageError: The bundle has no .tflite model.
        ToolMissing: A compiled file is given alone, and there is no Edge TPU; or the runtime that
            is asked for is not installed.
        ConversionError: That runtime is known to lack operators of a model.
        WorkerError: A model cannot be run there.
    """
    seen = observer or Nobody()
    cases = _of_bundle(open_bundle(path)) if path.is_dir() else [_of_file(path, seed)]
    entries = []
    for case in cases:
        _require_runtime(case, options)
        seen.started(case.name)
        try:
            ran = device(case.job, options)
        finally:
            seen.finished(case.name)
        size = case.path.stat().st_size
        entries.append({"stage": case.name, "file": case.path.name, "bytes": size, **ran.to_dict()})
    return entries


def _require_runtime(case: _Case, options: RunOptions) -> None:
    if options.runtime in ENVIRONMENTS:
        environment = ENVIRONMENTS[options.runtime]
        runtime = f"{environment.package} {environment.version}"
        require_operators(case.job.model, runtime, "this machine")


def _of_bundle(bundle: Bundle) -> list[_Case]:
    samples, _ = bundle.vectors()
    first = {name: array[:1] for name, array in samples.items()}
    cases: list[_Case] = []
    for name, artifact in bundle.artifacts.items():
        if artifact.format == Format.TFLITE:
            stored = parity.store(first, artifact.inputs)
            feeds = [stored[spec.name] for spec in artifact.inputs]
            cases.append(_Case(name, artifact.path, Job(artifact.path, feeds)))
        elif artifact.format == Format.COMPILED and cases:
            # Where there is no Edge TPU the model before runs in its place, and the entry says so.
            source = cases[-1].job
            job = Job(source.model, source.inputs, compiled=artifact.path)
            cases.append(_Case(name, artifact.path, job))
    if not cases:
        raise UsageError("the bundle has no .tflite model", where=str(bundle.path))
    return cases


def _of_file(path: Path, seed: int) -> _Case:
    artifact = describe_tflite(path)
    feeds = _random_inputs(artifact, seed)
    if not _is_compiled(path):
        return _Case(path.stem, path, Job(path, feeds))
    source = path.with_name(path.name.replace("_edgetpu.tflite", ".tflite"))
    if source == path or not source.is_file():
        return _Case(path.stem, path, Job(path, feeds, compiled=path, only_compiled=True))
    return _Case(path.stem, path, Job(source, feeds, compiled=path))


def _is_compiled(path: Path) -> bool:
    return any(packages(tflite.load(path), str(path)))


def _random_inputs(artifact: Artifact, seed: int) -> Sequence[Array]:
    random = np.random.default_rng(seed)
    return [_random(spec, random) for spec in artifact.inputs]


def _random(spec: TensorSpec, random: np.random.Generator) -> Array:
    """Return one sample: all values of an 8-bit input, 0 to 1 of a float one, else 0 and 1."""
    shape = (1, *(size or 1 for size in spec.shape))
    if spec.dtype in ("int8", "uint8"):
        limits = np.iinfo(spec.dtype)
        return random.integers(limits.min, limits.max + 1, shape).astype(spec.dtype)
    if spec.dtype.startswith("float"):
        return random.random(shape).astype(spec.dtype)
    return random.integers(0, 2, shape).astype(spec.dtype)
