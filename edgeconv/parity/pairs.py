"""Comparison of any two models: which tensors correspond and why, and how far they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeconv.convert.onnx.parts import read_anatomy
from edgeconv.core.artifacts import Arrays, Artifact, Format, TensorSpec
from edgeconv.core.bundle import COMPLETE, describe_file
from edgeconv.core.errors import InvalidModel, UsageError
from edgeconv.core.gates import TOLERANCE_DB, Gates
from edgeconv.core.scratch import scratch_directory
from edgeconv.metrics.parts import Anatomy
from edgeconv.metrics.report import ParityReport, report_of
from edgeconv.metrics.report_parts import Match
from edgeconv.parity.candidates import Candidate, open_candidate
from edgeconv.parity.check import Verifier, anatomy_of, run_artifact
from edgeconv.parity.layers.entries import with_layers
from edgeconv.parity.layers.measure import NOT_RECORDED, StageLayers, layers_of_onnx
from edgeconv.parity.verdict import Verification, judged, read_baseline
from edgeconv.samples.load import Samples, generate_samples, load_samples
from edgeconv.sources.workers import worker_pool
from edgeconv.toolchain.worker.pool import WorkerPool

_ORDERS = {"nhwc": (0, 2, 3, 1), "nchw": (0, 3, 1, 2)}


@dataclass(frozen=True, slots=True)
class PairOptions:
    """How to compare two models.

    Attributes:
        data: Inputs, as `load_samples` takes them, named as the first model's; generated ones
            where ``None``.
        samples: The largest number of them.
        layout: How the second model stores images where its file does not tell: ``nhwc``,
            ``nchw``, or ``source``, as the first one does; ``None`` where shapes must decide.
        gates: Overrides of the default gates.
        baseline: An earlier comparison, to be no worse than.
        tolerance_db: SQNR that may be lost against it.
        seed: Seed of generated inputs.
        timeout: Seconds that one call into a native runtime may take.
        memory: Bytes that each may take; half of the machine's memory by default.
        layers: Measure the error of each layer, too, where it is known what layers hold: of an
            ONNX file against the PyTorch program that it was exported from.
    """

    data: str | None = None
    samples: int = 16
    layout: str | None = None
    gates: Gates = field(default_factory=dict)
    baseline: Path | None = None
    tolerance_db: float = TOLERANCE_DB
    seed: int = 0
    timeout: float = 1800.0
    memory: int | None = None
    layers: bool = True


def verify_pair(first: Path, second: Path, options: PairOptions) -> Verification:
    """Compare the second model with the first one.

    Returns:
        A parity with the one stage that the second model is like, and under ``correspondence`` the
        tensors that were taken for the same.

    Raises:
        UsageError: Tensors do not correspond, or their layout cannot be told.
        InvalidModel: A file is missing, damaged, or not a model.
        WorkerError: The first model cannot be run.
    """
    baseline = read_baseline(options.baseline)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(scratch_directory()))
        workers = stack.enter_context(worker_pool(timeout=options.timeout, memory=options.memory))
        a, b = open_candidate(first, workers, "a"), open_candidate(second, workers, "b")
        samples = _samples(a, b, options)
        reference, a = _outputs_of(a, samples.arrays, workers, scratch)
        if b.torch is not None:
            feeds = _in_order(samples.arrays, b.artifact)
            b = _outputs_of(b, feeds, workers, scratch)[1]
        matches, candidate = match(a.artifact, b, options.layout)
        verifier = Verifier(
            workers,
            samples.arrays,
            options.gates,
            scratch,
            first.name,
            reference_stage=stage_of(a.artifact),
        )
        verifier.compute_reference(lambda _: reference)
        verifier.know(_anatomy(a))
        stage = stage_of(candidate)
        if b.torch is None:
            runner = _Renamed(candidate, b.artifact, workers, scratch)
            verifier.check(stage, candidate, runner.run)
        else:
            torch = replace(b, artifact=candidate)
            verifier.check(stage, candidate, lambda _, arrays: (_run_torch(torch, arrays), "torch"))
        layers = _layers(a, b.artifact, samples.arrays, workers, scratch) if options.layers else {}
    report = ParityReport(
        model=second.name,
        reference=first.name,
        samples=samples.count,
        calibrated=True,
        generated=samples.generated,
        stages=tuple(verifier.stages),
        correspondence=tuple(matches),
    )
    parity = with_layers(report, layers)
    manifest = _manifest(stage, second, samples)
    vectors = verifier.inputs, verifier.reference, verifier.found
    return Verification(manifest, judged(parity, baseline, options.tolerance_db), vectors)


def _anatomy(first: Candidate) -> Anatomy:
    """Return what is known of the first model's outputs, from its ONNX file or its bundle's."""
    if first.artifact.format is Format.ONNX:
        return read_anatomy(first.artifact.path)
    return Anatomy() if first.bundle is None else anatomy_of(first.bundle)


def _layers(
    first: Candidate, second: Artifact, inputs: Arrays, workers: WorkerPool, scratch: Path
) -> dict[str, StageLayers]:
    """Measure the layers of an ONNX file against a PyTorch program."""
    if first.torch is None or second.format is not Format.ONNX:
        return {}
    values = first.torch.decomposed_values()
    if values is None:
        return {"onnx": NOT_RECORDED}
    if {spec.name for spec in second.inputs} != set(inputs):
        return {"onnx": StageLayers(note="the inputs of both models have different names")}
    return {"onnx": layers_of_onnx(workers, second, values, inputs, scratch)}


def _manifest(stage: str, path: Path, samples: Samples) -> dict[str, Any]:
    """Return what reports need of a manifest, for a file that has none."""
    return {
        "model": path.name,
        "status": COMPLETE,
        "options": {"quantize": "none", "target": "cpu"},
        "calibrated": True,
        "data": {"verification": samples.to_dict()},
        "stages": [{"name": stage, "seconds": None, **describe_file(path, path.parent)}],
        "warnings": [],
    }


def match(first: Artifact, second: Candidate, layout: str | None) -> tuple[list[Match], Artifact]:
    """Find out which tensors of two models correspond.

    Names decide; where they differ, a tensor that is alone does, then its place. Of an image, the
    shape decides how it is stored; where more than one order has that shape, the layout must be
    given.

    Returns:
        The matches, and the second artifact with the first one's names, order and layouts.

    Raises:
        UsageError: The number of tensors or a shape does not fit, or the layout cannot be told.
    """
    found: list[Match] = []
    specs: dict[str, tuple[TensorSpec, ...]] = {}
    for kind, ours, theirs in (
        ("input", first.inputs, second.artifact.inputs),
        ("output", first.joined, second.artifact.joined),
    ):
        paired = []
        for spec, other, why in _paired(kind, ours, theirs):
            permutation, how = _layout(kind, spec, other, layout, known=second.bundle is not None)
            found.append(Match(kind, spec.name, other.name, f"{why}, {how}"))
            paired.append(replace(other, name=spec.name, permutation=permutation))
        specs[kind] = tuple(paired)
    return found, replace(second.artifact, inputs=specs["input"], outputs=specs["output"], joins=())


def stage_of(artifact: Artifact) -> str:
    """Return the stage of the pipeline that an artifact is like, which has its gate."""
    if artifact.format is not Format.TFLITE:
        return artifact.format.value
    from edgeconv.tflite import file as tflite

    graph = tflite.load(artifact.path).subgraphs[0]
    kinds = {tflite.dtype_of(tensor) for tensor in graph.tensors}
    if "int16" in kinds and "int8" in kinds:
        return "tflite_int16x8"
    if kinds & {"int8", "uint8"}:
        return "tflite_int8"
    return "tflite_fp16" if "float16" in kinds else "tflite_fp32"


def _paired(
    kind: str, ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]
) -> list[tuple[TensorSpec, TensorSpec, str]]:
    if len(ours) != len(theirs):
        raise UsageError(
            f"the models have {len(ours)} and {len(theirs)} {kind}s",
            why=f"{', '.join(s.name for s in ours)} and {', '.join(s.name for s in theirs)}",
        )
    by_name = {spec.name: spec for spec in theirs}
    if set(by_name) == {spec.name for spec in ours}:
        return [(spec, by_name[spec.name], "same name") for spec in ours]
    why = f"the only {kind}" if len(ours) == 1 else f"same place among the {kind}s"
    return [(spec, other, why) for spec, other in zip(ours, theirs, strict=True)]


def _layout(
    kind: str, spec: TensorSpec, other: TensorSpec, layout: str | None, *, known: bool
) -> tuple[tuple[int, ...], str]:
    shape = spec.source_shape
    if known and _fits(other.source_shape, shape):
        return other.permutation, f"stored as {other.layout} (bundle)"
    orders = {"source": tuple(range(len(shape)))}
    if len(shape) == 4:
        orders |= _ORDERS
    fitting = {
        name: order
        for name, order in orders.items()
        if _fits(other.shape, tuple(shape[axis] for axis in order))
        and (layout is None or name == layout or len(orders) == 1)
    }
    if not fitting:
        raise _misfit(kind, spec, other)
    if len(fitting) > 1:
        raise UsageError(
            f"the layout of {kind} {other.name} cannot be told",
            why=f"its shape {list(other.shape)} fits several: {', '.join(fitting)}",
            hint="add --layout with one of them; source is the first model's own",
        )
    name, order = next(iter(fitting.items()))
    return order, "shapes agree" if name == "source" else f"shapes agree as {name.upper()}"


def _fits(first: Sequence[int | None], second: Sequence[int | None]) -> bool:
    return len(first) == len(second) and all(
        None in (a, b) or a == b for a, b in zip(first, second, strict=True)
    )


def _misfit(kind: str, spec: TensorSpec, other: TensorSpec) -> UsageError:
    return UsageError(
        f"{kind} {spec.name} and {other.name} do not correspond",
        why=f"their shapes are {list(spec.source_shape)} and {list(other.shape)}",
    )


def _samples(model: Candidate, other: Candidate, options: PairOptions) -> Samples:
    inputs = tuple(spec.of_one for spec in model.artifact.inputs)
    if options.data is not None:
        return load_samples(options.data, inputs, limit=options.samples, option="--data")
    for bundle in filter(None, (model.bundle, other.bundle)):
        vectors = _in_order(bundle.vectors()[0], model.artifact)
        if all(_fits(vectors[spec.name].shape[1:], spec.source_shape) for spec in inputs):
            generated = report_of(bundle).generated
            return Samples(vectors, "the bundle's vectors", generated).select(0, options.samples)
    if any(None in spec.source_shape[1:] for spec in model.artifact.inputs):
        raise UsageError("the model's inputs have open dimensions", hint="give inputs with --data")
    return generate_samples(inputs, options.samples, options.seed)


def _outputs_of(
    model: Candidate, inputs: Arrays, workers: WorkerPool, scratch: Path
) -> tuple[Arrays, Candidate]:
    """Run a model; of a torch program this also tells the outputs."""
    if model.torch is None:
        return run_artifact(workers, model.artifact, inputs, scratch)[0], model
    outputs = _run_torch(model, inputs)
    specs = tuple(
        TensorSpec.plain(name, array.shape[1:], array.dtype.name) for name, array in outputs.items()
    )
    return outputs, replace(model, artifact=replace(model.artifact, outputs=specs))


def _run_torch(model: Candidate, inputs: Mapping[str, Any]) -> Arrays:
    assert model.torch is not None
    feeds = _in_order(inputs, model.torch.artifact)
    return model.torch.compute(model.artifact, feeds, None)


def _in_order(arrays: Mapping[str, Any], artifact: Artifact) -> Arrays:
    """Return the arrays under the names of an artifact's inputs."""
    names = [spec.name for spec in artifact.inputs]
    if len(names) != len(arrays):
        raise InvalidModel(
            f"the models have {len(arrays)} and {len(names)} inputs", where=str(artifact.path)
        )
    if set(names) == set(arrays):
        return dict(arrays)
    return dict(zip(names, arrays.values(), strict=True))


@dataclass(frozen=True, slots=True)
class _Renamed:
    """Runs a file under the names and layouts of another model."""

    artifact: Artifact
    stored: Artifact
    workers: WorkerPool
    scratch: Path

    def run(self, _: Artifact, inputs: Arrays) -> tuple[Arrays, str]:
        """Run it; inputs and outputs have the other model's names."""
        order = {spec.name: spec for spec in self.stored.inputs}
        ours, theirs = _stored_names(self.artifact, self.stored)
        own = replace(
            self.artifact,
            inputs=tuple(replace(ours[name], name=name) for name in order),
            outputs=tuple(replace(theirs[s.name], name=s.name) for s in self.stored.joined),
        )
        if self.stored.joins:  # known, as their layouts are
            own = replace(own, outputs=self.stored.outputs, joins=self.stored.joins)
        feeds = {name: inputs[ours[name].name] for name in order}
        outputs, runtime = run_artifact(self.workers, own, feeds, self.scratch)
        back = {spec.name: name for name, spec in theirs.items()}
        return {spec.name: outputs[back[spec.name]] for spec in self.artifact.outputs}, runtime


def _stored_names(
    renamed: Artifact, stored: Artifact
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Return the renamed specs of inputs and outputs by the names that the file has."""
    result = []
    for ours, theirs in ((renamed.inputs, stored.inputs), (renamed.outputs, stored.joined)):
        names = [spec.name for spec in theirs]
        if set(names) == {spec.name for spec in ours}:
            result.append({spec.name: spec for spec in ours})
        else:
            result.append(dict(zip(names, ours, strict=True)))
    return result[0], result[1]
