"""Samples go to a worker in portions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Artifact, Format, TensorSpec
from edgeconv.parity import check as verification
from edgeconv.toolchain.worker.pool import WorkerPool


class Doubling:
    """A worker that doubles its input, and remembers how many samples it was given."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def call(self, kind: object, function: str, **arguments: Any) -> dict[str, Any]:
        array = read_npz(Path(arguments["feeds"]))["x"]
        self.counts.append(len(array))
        write_npz(Path(arguments["results"]), {"y": 2 * array})
        return {"runtime": "r", "milliseconds": 1.0}


@pytest.mark.parametrize(("limit", "counts"), [(1, [1] * 5), (2 * 96, [2, 2, 1]), (10**9, [5])])
def test_no_portion_is_larger_than_the_limit_and_none_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: int, counts: list[int]
) -> None:
    monkeypatch.setattr(verification, "_PORTION", limit)
    worker = Doubling()
    given, made = (TensorSpec.plain(name, (1, 4, 6), "float32") for name in ("x", "y"))
    artifact = Artifact(Format.ONNX, tmp_path / "m.onnx", (given,), (made,))
    inputs = {"x": np.random.default_rng(0).random((5, 1, 4, 6), np.float32)}
    pool = cast(WorkerPool, worker)
    outputs, runtime = verification.run_artifact(pool, artifact, inputs, tmp_path)
    assert worker.counts == counts
    assert runtime == "r"
    np.testing.assert_array_equal(outputs["y"], 2 * inputs["x"])
