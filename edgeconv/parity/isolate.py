"""One layer alone, in files of its own: its operators, their inputs, and a script for the error."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.convert.onnx.value_map import HeldValue, read_map
from edgeconv.core.arrays import write_npz
from edgeconv.core.artifacts import Array
from edgeconv.core.bundle import Bundle, open_bundle
from edgeconv.core.errors import UsageError
from edgeconv.core.scratch import scratch_directory
from edgeconv.core.streams import SampleReader
from edgeconv.metrics import parity
from edgeconv.metrics.layer_errors import LayerError, Ratio
from edgeconv.metrics.report import report_of
from edgeconv.parity.layers.extract import between, extract
from edgeconv.parity.layers.hops import MEASURE
from edgeconv.parity.layers.measure import bases, is_direct
from edgeconv.parity.layers.onnx_graph import Origin, became, origins
from edgeconv.sources.workers import worker_pool
from edgeconv.targets.gates import gate_for
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool

_SHOW = """error = found - expected
print("largest error", np.abs(error).max(), "of values up to", np.abs(expected).max())
print("SQNR dB", -10 * np.log10(max((error**2).sum() / (expected**2).sum(), 1e-30)))
"""
_FLOAT_SCRIPT = f'''"""The error of {{value}} alone: what ONNX expects, what {{stage}} makes."""
import os, numpy as np
os.environ["ORT_DISABLE_TELEMETRY"] = "1"; import onnxruntime  # in this order

inputs = dict(np.load("inputs.npz"))
expected = onnxruntime.InferenceSession("node.onnx").run(None, inputs)[0].astype(np.float64)
found = np.load("observed.npy")
{_SHOW}'''
_QUANTIZED_SCRIPT = f'''"""The error of {{value}} alone: in float, and as {{stage}} computes it."""
import numpy as np
from ai_edge_litert.interpreter import Interpreter
inputs = np.load("inputs.npz")
runs = [Interpreter(name).get_signature_runner() for name in ("float.tflite", "node.tflite")]
feeds = [{{{{name: inputs[name] for name in run.get_input_details()}}}} for run in runs]
expected, found = [run(**feed)["output"].astype(float) for run, feed in zip(runs, feeds)]
{_SHOW}'''


@dataclass(frozen=True, slots=True)
class Isolated:
    """A layer that was taken out.

    Attributes:
        directory: Where its files are.
        value: The ONNX value that it makes; where none is known, the tensor.
        stage: The stage that the layer is shown in.
        sqnr_db: How close the layer alone is, on the one sample.
    """

    directory: Path
    value: str
    stage: str
    sqnr_db: float | None


@dataclass(frozen=True, slots=True)
class _Layer:
    """The layer as one stage has it."""

    stage: str
    value: str
    sqnr_db: float
    write: Callable[[Path], None]


def isolate(
    path: Path, node: str, directory: Path, timeout: float = 1800.0, memory: int | None = None
) -> Isolated:
    """Write one layer of the stage that is furthest below its gate there, or least above it.

    Of a SavedModel or a float .tflite file: ``node.onnx``, ``inputs.npz`` in ONNX's layout, and
    ``observed.npy``, what the stage makes of them. Of a quantized file: ``node.tflite``, the
    layer itself, ``float.tflite``, what it was made from, and ``inputs.npz`` for both. With each
    comes ``show_error.py``.

    Args:
        path: The bundle.
        node: Name of an ONNX node or value, or of a tensor of a quantized stage; before it, with
            a colon, may stand the stage.
        directory: Where the files go; created if missing.
        timeout: Seconds that one call into a native runtime may take.
        memory: Bytes that each may take; half of the machine's memory by default.

    Raises:
        InvalidModel: The bundle is damaged.
        UsageError: There is no such node, or it is not known which tensors hold its value.
        WorkerError: A runtime failed.
    """
    bundle = open_bundle(path, allow_failed=True)
    graph = origins(bundle.artifact("onnx").path)
    prefix, _, rest = node.partition(":")
    only, wanted = (prefix, rest) if rest and prefix in bundle.artifacts else ("", node)
    with (
        scratch_directory() as temporary,
        worker_pool(timeout=timeout, memory=memory) as workers,
    ):
        run = _Run(workers, bundle, graph, Path(temporary))
        value = _value(wanted, graph)
        found = [layer for layer in run.layers(value or wanted) if only in ("", layer.stage)]
        if not found:
            raise _unknown(wanted, only, run, known=bool(value))
        gates = {entry.stage: entry.gate for entry in report_of(bundle).stages}
        layer = min(found, key=lambda item: item.sqnr_db - _limit(item.stage, gates))
        directory.mkdir(parents=True, exist_ok=True)
        layer.write(directory)
    return Isolated(directory, layer.value, layer.stage, layer.sqnr_db)


def _limit(stage: str, gates: Mapping[str, Mapping[str, float]]) -> float:
    return (gates.get(stage) or gate_for(stage, {})).get("sqnr_db", 0.0)


def _value(node: str, graph: Mapping[str, Origin]) -> str:
    """Return the ONNX value of that name, or of a node or PyTorch module; ``""`` for none.

    Of a module it is the last value.
    """
    if node in graph:
        return node
    by_node = {origin.node: value for value, origin in graph.items()}
    inside = [
        value
        for value, origin in graph.items()
        if origin.module == node or origin.module.startswith(f"{node}.")
    ]
    return by_node.get(node, inside[-1] if inside else "")


def _unknown(node: str, stage: str, run: _Run, *, known: bool) -> UsageError:
    if known:
        where = f"{stage} has no" if stage else "no stage has a"
        return UsageError(
            f"{where} tensor that is known to hold {node}",
            hint="see layers_note and unmatched_layers in parity.json",
        )
    close = difflib.get_close_matches(node, run.names(), 3)
    return UsageError(
        f"the ONNX file has no node and no value {node}",
        hint="did you mean " + ", ".join(close) if close else "see worst_layers in parity.json",
    )


class _Run:
    """One sample of every stage, with the values in between."""

    def __init__(
        self, workers: WorkerPool, bundle: Bundle, graph: Mapping[str, Origin], scratch: Path
    ) -> None:
        self._workers = workers
        self._artifacts = bundle.artifacts
        self._graph = graph
        self._samples = {name: array[:1] for name, array in bundle.vectors()[0].items()}
        self._scratch = scratch
        saved = self._artifacts.get("saved_model")
        known = read_map(saved.path) if saved is not None else None
        self._held: list[HeldValue] = known[0] if known else []
        self._tensors: set[str] = set()
        self._reference = scratch / "values.npz"
        names: list[str] = self._workers.call(
            WorkerKind.ONNXRUNTIME,
            "edgeconv.parity.layers.onnx_values:record",
            onnx_model=self._artifacts["onnx"].to_dict(),
            feeds=self._feeds("onnx"),
            names=[item.value for item in self._held],
            results=str(self._reference),
        )
        self._numbers = {name: number for number, name in enumerate(names)}

    def names(self) -> list[str]:
        """Return everything that a layer may be called by."""
        nodes = [origin.node for origin in self._graph.values()]
        return [*self._graph, *nodes, *sorted(self._tensors)]

    def layers(self, wanted: str) -> Iterator[_Layer]:
        """Yield the layer that makes a value, or what it became, as each stage has it."""
        for stage, artifact in self._artifacts.items():
            if is_direct(stage, artifact):
                yield from self._direct(stage, wanted)
        for stage, base in bases(self._artifacts).items():
            yield from self._quantized(stage, base, wanted)

    def _direct(self, stage: str, wanted: str) -> Iterator[_Layer]:
        kept = self._scratch / f"{stage}.npy"
        matched = dict.fromkeys(self._measure(stage, None) if self._held else ())
        value = became(wanted, self._graph, matched) if wanted in self._graph else ""
        if not value:
            return
        self._measure(stage, {"value": value, "path": str(kept)})
        spec = next(item for item in self._held if item.value == value)
        expected = self._known(value)
        observed = spec.restore(np.load(kept), expected.shape)

        def write(directory: Path) -> None:
            onnx = self._artifacts["onnx"].path
            nodes, inputs = between(onnx, value, set(matched))
            extract(onnx, value, nodes, {name: self._known(name) for name in inputs}, directory)
            np.save(directory / "observed.npy", observed)
            (directory / "show_error.py").write_text(_FLOAT_SCRIPT.format(value=value, stage=stage))

        ratio = Ratio()
        ratio.add(expected, observed)
        yield _Layer(stage, value, ratio.decibels or 0.0, write)

    def _quantized(self, stage: str, base: str, wanted: str) -> Iterator[_Layer]:
        files: dict[str, Any] = {
            "before": self._artifacts[base].to_dict(),
            "after": self._artifacts[stage].to_dict(),
            "feeds": self._feeds(base),
            "held": [item.to_dict() for item in self._held],
        }
        answer = self._workers.call(
            WorkerKind.LITERT, "edgeconv.parity.layers.tflite_file:of_quantized", **files
        )
        layers = {item["name"]: LayerError.from_dict(item) for item in answer}
        self._tensors.update(layers)
        value = became(wanted, self._graph, layers) if wanted in self._graph else wanted
        if value not in layers:
            return

        def write(directory: Path) -> None:
            self._workers.call(
                WorkerKind.LITERT,
                "edgeconv.parity.layers.tflite_file:write_quantized",
                **files,
                name=value,
                directory=str(directory),
            )
            (directory / "show_error.py").write_text(
                _QUANTIZED_SCRIPT.format(value=value, stage=stage)
            )

        yield _Layer(stage, value, layers[value].here_db or 0.0, write)

    def _measure(self, stage: str, keep: dict[str, str] | None) -> dict[str, Any]:
        artifact = self._artifacts[stage]
        kind, function = MEASURE[artifact.format]
        answer: dict[str, Any] = self._workers.call(
            kind,
            function,
            model=artifact.to_dict(),
            feeds=self._feeds(stage),
            held=[item.to_dict() for item in self._held],
            numbers=self._numbers,
            reference=str(self._reference),
            keep=keep,
        )
        return answer

    def _feeds(self, stage: str) -> str:
        path = self._scratch / f"feeds_{stage}.npz"
        if not path.exists():
            write_npz(path, parity.store(self._samples, self._artifacts[stage].inputs))
        return str(path)

    def _known(self, name: str) -> Array:
        if name in self._samples:
            given: Array = self._samples[name][0]
            return given
        with closing(SampleReader(self._reference)) as reader:
            return reader.read(0, self._numbers[name])
