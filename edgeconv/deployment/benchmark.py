"""Latency and peak memory of .tflite models, on this machine or on a board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv import targets
from edgeconv.core.artifacts import Array, Artifact, Format, TensorSpec
from edgeconv.core.bundle import Bundle, open_bundle
from edgeconv.core.errors import UsageError
from edgeconv.core.steps import Nobody, Observer
from edgeconv.deployment.check import require_operators
from edgeconv.metrics import parity
from edgeconv.parity.candidates import describe_tflite
from edgeconv.targets.base import Target
from edgeconv.toolchain.device.job import Device, Job, RunOptions
from edgeconv.toolchain.device.local import run_here
from edgeconv.toolchain.environments.specs import ENVIRONMENTS


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    path: Path
    job: Job
    target: Target | None = None  # that it is compiled for


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
        options: Runs, threads, which device.
        device: Runs the models.
        observer: Follows the stages.
        seed: Seed of the inputs of a file that is in no bundle.

    Returns:
        One JSON-ready entry per model: ``stage``, ``file``, ``bytes``, and what the device
        answered. Latency is that of the model alone, without copying inputs and outputs.

    Raises:
        InvalidModel: The file or bundle is damaged.
        UsageError: The bundle has no .tflite model.
        ToolMissing: A compiled file is given alone, and there is no device for it; or the runtime
            that is asked for is not installed.
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
        made_for = {} if case.target is None else {"compiled_for": case.target.name}
        head = {"stage": case.name, "file": case.path.name, "bytes": size, **made_for}
        entries.append({**head, **ran.to_dict()})
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
            # Where there is no device the model before runs in its place, and the entry says so.
            source, target = cases[-1].job, targets.of(artifact)
            job = _compiled_job(source.model, source.inputs, artifact.path, target)
            cases.append(_Case(name, artifact.path, job, target))
    if not cases:
        raise UsageError("the bundle has no .tflite model", where=str(bundle.path))
    return cases


def _compiled_job(model: Path, feeds: Sequence[Array], compiled: Path, target: Target) -> Job:
    part = target.device_part()
    if part is None:
        why = f"--target {target.name} does not say how a compiled model is run"
        return Job(model, feeds, why_not=why)
    return Job(model, feeds, compiled=compiled, part=part)


def _of_file(path: Path, seed: int) -> _Case:
    target = targets.compiled_for(path)
    source = path if target is None else _source(path, target)
    feeds = _random_inputs(describe_tflite(source), seed)
    if target is None:
        return _Case(path.stem, path, Job(path, feeds))
    job = _compiled_job(source, feeds, path, target)
    return _Case(path.stem, path, replace(job, only_compiled=source == path), target)


def _source(path: Path, target: Target) -> Path:
    """Return the model that a compiled file was made of, where it lies beside it; else the file."""
    source = path.with_name(path.name.removesuffix(target.suffix) + ".tflite")
    return source if source.is_file() else path


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
