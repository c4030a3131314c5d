"""One layer alone, in files of its own: ONNX nodes, their inputs, and what a stage made of them."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv import parity
from edgeconv.arrays import write_npz
from edgeconv.artifacts import Array, Artifact
from edgeconv.bundle import open_bundle
from edgeconv.convert.value_map import HeldValue, read_map
from edgeconv.errors import UsageError
from edgeconv.layer_errors import Ratio
from edgeconv.layers.extract import between, extract
from edgeconv.layers.hops import MEASURE
from edgeconv.layers.measure import is_direct
from edgeconv.layers.onnx_graph import Origin, became, origins
from edgeconv.layers.streams import SampleReader
from edgeconv.toolchain.pool import WorkerKind, WorkerPool

_SCRIPT = '''"""The error of {value} alone: what onnxruntime expects, what {stage} made of it."""
import numpy as np
import onnxruntime

inputs = dict(np.load("inputs.npz"))
expected = onnxruntime.InferenceSession("node.onnx").run(None, inputs)[0].astype(np.float64)
error = np.load("observed.npy") - expected
print("largest error", np.abs(error).max(), "of values up to", np.abs(expected).max())
print("SQNR dB", 10 * np.log10((expected**2).sum() / max((error**2).sum(), 1e-300)))
'''


@dataclass(frozen=True, slots=True)
class Isolated:
    """A layer that was taken out.

    Attributes:
        directory: Where its files are.
        value: The ONNX value.
        stage: The stage whose result is in ``observed.npy``.
        sqnr_db: How close that is, on the one sample.
    """

    directory: Path
    value: str
    stage: str
    sqnr_db: float | None


def isolate(path: Path, node: str, directory: Path, timeout: float = 1800.0) -> Isolated:
    """Write ``node.onnx``, ``inputs.npz``, ``observed.npy`` and ``show_error.py``.

    Of the stages that are compared with ONNX directly, the one that is furthest off is observed.

    Args:
        path: The bundle.
        node: Name of an ONNX node or value.
        directory: Where the files go; created if missing.
        timeout: Seconds that one call into a native runtime may take.

    Raises:
        InvalidModel: The bundle is damaged.
        UsageError: There is no such node, or it is not known which tensors hold its value.
        WorkerError: A runtime failed.
    """
    bundle = open_bundle(path, allow_failed=True)
    artifacts = bundle.artifacts
    known = read_map(artifacts["saved_model"].path) if "saved_model" in artifacts else None
    if known is None:
        raise UsageError("the bundle does not say which tensors hold which values", where=str(path))
    graph = origins(bundle.artifact("onnx").path)
    wanted = _value(node, graph)
    samples = {name: array[:1] for name, array in bundle.vectors()[0].items()}
    with (
        tempfile.TemporaryDirectory(prefix="edgeconv-") as temporary,
        WorkerPool(timeout=timeout) as workers,
    ):
        run = _Run(workers, artifacts, known[0], graph, samples, Path(temporary))
        return run.write(wanted, directory)


def _value(node: str, graph: Mapping[str, Origin]) -> str:
    if node in graph:
        return node
    by_node = {origin.node: value for value, origin in graph.items()}
    if node in by_node:
        return by_node[node]
    close = difflib.get_close_matches(node, [*graph, *by_node], 3)
    raise UsageError(
        f"the ONNX file has no node and no value {node}",
        hint="did you mean " + ", ".join(close) if close else "see worst_layers in parity.json",
    )


class _Run:
    """One sample of every stage, with the values in between."""

    def __init__(
        self,
        workers: WorkerPool,
        artifacts: Mapping[str, Artifact],
        held: list[HeldValue],
        graph: Mapping[str, Origin],
        samples: Mapping[str, Array],
        scratch: Path,
    ) -> None:
        self._workers = workers
        self._artifacts = artifacts
        self._held = held
        self._graph = graph
        self._samples = dict(samples)
        self._scratch = scratch
        self._reference = scratch / "values.npz"
        names: list[str] = self._workers.call(
            WorkerKind.ONNXRUNTIME,
            "edgeconv.layers.onnx_values:record",
            onnx_model=artifacts["onnx"].to_dict(),
            feeds=self._feeds("onnx"),
            start=0,
            stop=1,
            names=[item.value for item in held],
            results=str(self._reference),
        )
        self._numbers = {name: number for number, name in enumerate(names)}

    def write(self, wanted: str, directory: Path) -> Isolated:
        """Write the files of the stage that is furthest off at the value."""
        found = [
            (stage, *seen)
            for stage, artifact in self._artifacts.items()
            if is_direct(stage, artifact) and (seen := self._observe(stage, wanted)) is not None
        ]
        if not found:
            raise UsageError(f"no stage has a tensor that is known to hold {wanted}")
        stage, value, matched, observed = min(found, key=lambda item: self._sqnr(item[1], item[3]))
        nodes, inputs = between(self._artifacts["onnx"].path, value, matched)
        directory.mkdir(parents=True, exist_ok=True)
        arrays = {name: self._known(name) for name in inputs}
        extract(self._artifacts["onnx"].path, value, nodes, arrays, directory)
        np.save(directory / "observed.npy", observed)
        (directory / "show_error.py").write_text(_SCRIPT.format(value=value, stage=stage))
        return Isolated(directory, value, stage, self._sqnr(value, observed))

    def _observe(self, stage: str, wanted: str) -> tuple[str, set[str], Array] | None:
        """Return the value that the wanted one became, the matched values, and its result."""
        kept = self._scratch / f"{stage}.npy"
        matched = set(self._measure(stage, None))
        value = became(wanted, self._graph, dict.fromkeys(matched))
        if not value:
            return None
        self._measure(stage, {"value": value, "path": str(kept)})
        spec = next(item for item in self._held if item.value == value)
        return value, matched, spec.restore(np.load(kept), self._known(value).shape)

    def _measure(self, stage: str, keep: dict[str, str] | None) -> dict[str, Any]:
        artifact = self._artifacts[stage]
        kind, function = MEASURE[artifact.format]
        answer: dict[str, Any] = self._workers.call(
            kind,
            function,
            model=artifact.to_dict(),
            feeds=self._feeds(stage),
            start=0,
            stop=1,
            held=[item.to_dict() for item in self._held],
            numbers=self._numbers,
            reference=str(self._reference),
            keep=keep,
        )
        return answer

    def _feeds(self, stage: str) -> str:
        path = self._scratch / f"feeds_{stage}.npz"
        write_npz(path, parity.store(self._samples, self._artifacts[stage].inputs))
        return str(path)

    def _known(self, name: str) -> Array:
        if name in self._samples:
            given: Array = self._samples[name][0]
            return given
        with closing(SampleReader(self._reference)) as reader:
            return reader.read(0, self._numbers[name]).copy()

    def _sqnr(self, value: str, observed: Array) -> float:
        ratio = Ratio()
        ratio.add(self._known(value), observed)
        decibels = ratio.decibels
        return 0.0 if decibels is None else decibels
