"""Quantize a float TFLite model: the entry for a worker process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from edgeconv import tflite
from edgeconv.artifacts import Array, Artifact, Quantization, TensorSpec
from edgeconv.errors import InvalidData, UsageError
from edgeconv.quantize import check, weights
from edgeconv.quantize.calibrate import Progress, calibrate
from edgeconv.quantize.calibrators import CALIBRATORS
from edgeconv.quantize.edges import IoDtype
from edgeconv.quantize.graph import Graph
from edgeconv.quantize.int8 import rewrite
from edgeconv.quantize.lower import lower
from edgeconv.quantize.plan import Plan

MODES = ("fp16", "dynamic", "int8")


def quantize(
    model: dict[str, Any],
    path: str,
    mode: str,
    io_dtype: str = "float32",
    samples: str | None = None,
    calibrator: str = "minmax",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Quantize a float TFLite model, and check that the result loads and runs.

    Args:
        model: The float model, as `Artifact.to_dict` gives it.
        path: The file to write.
        mode: ``fp16`` (weights stored as float16), ``dynamic`` (int8 weights, float activations)
            or ``int8`` (everything).
        io_dtype: dtype of the inputs and outputs that stand for real numbers: ``float32``,
            ``int8`` or ``uint8``; the latter two in ``int8`` mode only.
        samples: ``.npz`` file of calibration inputs by input name, in the source model's layout,
            with a leading sample axis; needed in ``int8`` mode.
        calibrator: A name of `calibrators.CALIBRATORS`.
        progress: Called with the number of calibrated samples and their total.

    Returns:
        The quantized model, as `Artifact.to_dict` gives it.

    Raises:
        UsageError: An argument is not known or does not fit the mode.
        InvalidModel: The file is not a float TFLite model with fixed shapes.
        InvalidData: The samples do not fit the model, or lead to NaN or infinity.
        UnsupportedModel: Operators with no int8 form; all are listed.
    """
    artifact = Artifact.from_dict(model)
    _check_arguments(mode, io_dtype, calibrator, samples)
    graph = Graph(tflite.load(artifact.path))
    check.float_model(graph, str(artifact.path))
    if mode == "int8":
        check.fixed_shapes(graph, str(artifact.path))
        assert samples is not None
        feeds = _load_samples(Path(samples), artifact.inputs, graph)
        _to_int8(graph, feeds, calibrator, io_dtype, progress)
    else:
        for position in range(len(graph.model.subgraphs)):
            weights.quantize(Graph(graph.model, position), mode)
    tflite.save(graph.model, Path(path))
    check.runs(Path(path), integer=mode == "int8")
    return _describe(artifact, graph, Path(path)).to_dict()


def _check_arguments(mode: str, io_dtype: str, calibrator: str, samples: str | None) -> None:
    choices = {"mode": (mode, MODES), "io_dtype": (io_dtype, get_args(IoDtype))}
    choices["calibrator"] = (calibrator, tuple(CALIBRATORS))
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise UsageError(
                f"{name} {value} is not known", hint="use one of " + ", ".join(allowed)
            )
    if mode != "int8" and io_dtype != "float32":
        raise UsageError(f"io_dtype {io_dtype} needs mode int8, not {mode}")
    if mode == "int8" and samples is None:
        raise UsageError("int8 needs calibration samples")


def _to_int8(
    graph: Graph,
    feeds: list[list[Array]],
    calibrator: str,
    io_dtype: Any,
    progress: Progress | None,
) -> None:
    lower(graph)
    check.supported(graph)
    plan = Plan(graph)
    ranges = calibrate(
        graph,
        plan.calibrated(),
        feeds,
        CALIBRATORS[calibrator],
        views=plan.views(),
        progress=progress,
    )
    rewrite(graph, plan.choose(ranges), io_dtype)


def _load_samples(path: Path, specs: tuple[TensorSpec, ...], graph: Graph) -> list[list[Array]]:
    """Return per sample the graph's inputs in the stored form."""
    with np.load(path, allow_pickle=False) as archive:
        missing = [spec.name for spec in specs if spec.name not in archive.files]
        if missing:
            raise InvalidData(
                "the calibration samples lack inputs", where=str(path), why=", ".join(missing)
            )
        arrays = [archive[spec.name] for spec in specs]
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        raise InvalidData(
            "the inputs have different numbers of samples", where=str(path), why=str(sorted(counts))
        )
    feeds = [
        [_store(spec, array[count]) for spec, array in zip(specs, arrays, strict=True)]
        for count in range(max(counts, default=1))
    ]
    for spec, array, index in zip(specs, feeds[0] if feeds else [], graph.inputs, strict=False):
        if array.shape != graph.shape(index):
            raise InvalidData(
                "the calibration samples do not fit the model's input",
                where=spec.name,
                why=f"stored shape {array.shape}, expected {graph.shape(index)}",
            )
    return feeds


def _store(spec: TensorSpec, array: Array) -> Array:
    """Return one sample in the stored form; a single number keeps its empty shape."""
    stored = spec.store(array)
    return stored if np.ndim(array) else stored.reshape(())


def _describe(source: Artifact, graph: Graph, path: Path) -> Artifact:
    return replace(
        source,
        path=path,
        inputs=_specs(source.inputs, graph, graph.inputs),
        outputs=_specs(source.outputs, graph, graph.outputs),
    )


def _specs(
    specs: tuple[TensorSpec, ...], graph: Graph, indices: list[int]
) -> tuple[TensorSpec, ...]:
    return tuple(
        replace(spec, dtype=graph.dtype(index), quantization=_quantization(graph, index))
        for spec, index in zip(specs, indices, strict=True)
    )


def _quantization(graph: Graph, index: int) -> Quantization | None:
    stored = graph.tensors[index].quantization
    if stored is None or stored.scale is None or len(stored.scale) == 0:
        return None
    return Quantization(float(stored.scale[0]), int(stored.zeroPoint[0]))
