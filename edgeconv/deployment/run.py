"""Deploy a bundle: compile if needed, run its vectors on the device, compare, record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv import targets
from edgeconv.core.artifacts import Array, Arrays, Artifact
from edgeconv.core.bundle import open_bundle
from edgeconv.core.decode import decode
from edgeconv.core.errors import ToolMissing
from edgeconv.core.gates import Gates
from edgeconv.core.scratch import scratch_directory
from edgeconv.core.steps import Nobody, Observer
from edgeconv.deployment.check import require_operators
from edgeconv.deployment.compare import Outcome, judge, steps
from edgeconv.deployment.export import Expected, export
from edgeconv.deployment.model import (
    Compiled,
    compiled_of,
    model_of,
    newest_bundle,
    require_verified,
)
from edgeconv.deployment.record import record
from edgeconv.metrics import parity
from edgeconv.metrics.report import StageParity
from edgeconv.metrics.report_parts import DeviceRun, Latency
from edgeconv.parity.check import anatomy_of, run_artifact
from edgeconv.sources.workers import worker_pool
from edgeconv.targets.base import Target
from edgeconv.toolchain.device.answer import NotUnderstood
from edgeconv.toolchain.device.job import CPU, Device, Job, Probe, Ran, RunOptions
from edgeconv.toolchain.device.local import WHERE, probe_here, run_here


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """How to deploy.

    Attributes:
        target: Name of the target; the one that the bundle was made for by default.
        run: How the model is run.
        gates: Overrides of the default gates.
        max_lsb: Steps of its quantization that an output may be away from this CPU's.
        force: Also deploy a bundle that was not verified, and replace an earlier export.
        image: Container image that holds the target's compiler.
        export: Write a self-contained folder there instead of running anything on a device.
        labels: A file of class names that goes into that folder.
    """

    target: str | None = None
    run: RunOptions = field(default_factory=RunOptions)
    gates: Gates = field(default_factory=dict)
    max_lsb: int = 8
    force: bool = False
    image: str | None = None
    export: Path | None = None
    labels: Path | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deployment found.

    Attributes:
        bundle: The bundle's directory.
        where: The device.
        target: The target.
        stage: The stage's parity, with what the device answered; ``None`` of an export.
        export: Where the export is; ``None`` where the model was run.
    """

    bundle: Path
    where: str
    target: Target
    stage: StageParity | None = None
    export: Path | None = None

    @property
    def result(self) -> dict[str, Any]:
        """JSON-ready: the stage's entry of ``parity.json``; of an export, where it is."""
        return {"export": str(self.export)} if self.stage is None else self.stage.to_dict()

    @property
    def passed(self) -> bool:
        """Whether no gate failed."""
        return self.stage is None or not self.stage.failed


def deploy(
    path: Path | None,
    options: DeployOptions,
    device: Device = run_here,
    where: str = WHERE,
    observer: Observer | None = None,
    probe: Probe = probe_here,
) -> Deployment:
    """Deploy a bundle.

    Args:
        path: The bundle; the newest one of the current directory by default.
        options: See `DeployOptions`.
        device: Runs the model: `run_here`, or `Board.run`.
        where: Name of the device, for reports.
        observer: Follows the steps.
        probe: Says what the device has, before anything is sent to it.

    Raises:
        UsageError: There is no such bundle, it is unverified, or has no model for the target.
        ConversionError: The device's runtime is known to lack operators of the model.
        ToolMissing: Only the target's device would do, and it or the compiler is missing.
        WorkerError: The model cannot be run there, or the connection failed.
    """
    steps_seen = observer or Nobody()
    bundle = open_bundle(path if path is not None else newest_bundle(Path.cwd()))
    require_verified(bundle, force=options.force)
    target = targets.find(options.target or str(bundle.manifest["options"]["target"]))
    stage, model = model_of(bundle, target)
    with scratch_directory() as scratch:
        compiled = Compiled()
        if target.compiles:
            steps_seen.started("compile")
            compiled = compiled_of(
                bundle, model, Path(scratch), target, options.image, options.run.memory
            )
            steps_seen.finished("compile")
            _require_compiled(compiled, target, options.run)
        inputs, reference = bundle.vectors()
        stored = parity.store(inputs, model.inputs)
        feeds = [stored[spec.name] for spec in model.inputs]
        job = _job(model, feeds, compiled, target)
        notes = [] if options.export else _look_at(probe, job, where, target)
        here = run_here(Job(model.path, feeds), replace(options.run, runs=1))
        if options.export is not None:
            results = _ends(model, inputs, here.outputs, Path(scratch), options.run.memory)
            export(bundle, model, job, Expected(here.outputs, results), options)
            return Deployment(bundle.path, where, target, export=options.export)
        steps_seen.started("run")
        there = device(job, options.run)
        steps_seen.finished("run")
        _require_alike(here, there, where)
        if compiled.advice and not there.advice:
            there = replace(there, advice=compiled.advice)
        outcome = Outcome(
            reference,
            _ends(model, inputs, here.outputs, Path(scratch), options.run.memory),
            _ends(model, inputs, there.outputs, Path(scratch), options.run.memory),
            steps(model.outputs, here.outputs, there.outputs),
            anatomy_of(bundle),
        )
        entry = _entry(stage, target, model, outcome, there, where, options)
        entry = replace(entry, notes=tuple(notes))
        if target.compiles:
            record(bundle, target, model, compiled, entry, outcome.there)
    return Deployment(bundle.path, where, target, entry)


def _require_alike(here: Ran, there: Ran, where: str) -> None:
    """Require a device's outputs to have the shapes and types of this machine's.

    Raises:
        NotUnderstood: They have not.
    """
    forms = [[(array.shape, array.dtype) for array in ran.outputs] for ran in (here, there)]
    if forms[0] != forms[1]:
        raise NotUnderstood("its outputs have other shapes or types than the model's", where)


def _job(model: Artifact, feeds: Sequence[Array], compiled: Compiled, target: Target) -> Job:
    """Return what is run: the compiled model where the target says how."""
    part = target.device_part() if target.compiles else None
    if compiled.path is not None and part is None:
        why = f"--target {target.name} does not say how a compiled model is run"
        return Job(model.path, feeds, why_not=why)
    return Job(model.path, feeds, compiled.path, compiled.why_not, part=part)


def _require_compiled(compiled: Compiled, target: Target, options: RunOptions) -> None:
    if compiled.path is None and not options.cpu_fallback:
        raise ToolMissing(
            f"the model cannot run on {target.label}",
            why=compiled.why_not or "",
            hint=compiled.advice,
        )


def _look_at(probe: Probe, job: Job, where: str, target: Target) -> list[str]:
    """Refuse a model that the device's runtime is too old for; return what else is to be said."""
    found = probe(job.part)
    if found.runtimes:
        require_operators(job.compiled or job.model, found.runtimes[0], where)
    return list(target.notes_on(found.part or {}))


def _ends(
    model: Artifact,
    inputs: Arrays,
    outputs: Sequence[Array],
    scratch: Path,
    memory: int | None,
) -> Arrays:
    """Return the source model's outputs: restored, and with the tail run here on the CPU."""
    named = dict(zip((spec.name for spec in model.outputs), outputs, strict=True))
    arrays = model.join(parity.restore(named, model.outputs))
    if model.tail is not None:
        with worker_pool(memory=memory) as workers:
            arrays |= run_artifact(workers, model.tail, {**inputs, **arrays}, scratch)[0]
    return {spec.name: np.asarray(arrays[spec.name]) for spec in model.results}


def _entry(
    stage: str,
    target: Target,
    model: Artifact,
    outcome: Outcome,
    ran: Ran,
    where: str,
    options: DeployOptions,
) -> StageParity:
    on_device = ran.ran_on != CPU
    file = f"{model.path.stem}{target.suffix}" if on_device else model.path.name
    name = target.place if target.compiles else stage
    entry = judge(name, file, stage, outcome, options.gates, options.max_lsb)
    run = DeviceRun(
        device=where,
        ran_on=ran.ran_on,
        fallback=ran.fallback,
        advice=ran.advice,
        latency_ms=decode(Latency, ran.latency_ms),
        memory_bytes=ran.memory_bytes,
        python=ran.python,
        machine=ran.machine,
        max_lsb=options.max_lsb,
        lsb=outcome.steps,
    )
    return replace(entry, runtime=ran.runtime, device=run)
