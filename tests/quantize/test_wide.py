"""What 16-bit activations need otherwise than 8-bit ones: room, finer limits, no squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array
from edgeconv.quantize.engine import quantize
from edgeconv.quantize.recovery import RECOVERIES
from edgeconv.quantize.statistics.calibrators import CALIBRATORS, HistogramObserver
from edgeconv.quantize.statistics.calibrators.roomy import Roomy
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_NAMES = {method.name for method in RECOVERIES}


def rows(seed: int, count: int, *shape: int, scale: float = 1.0) -> list[list[Array]]:
    rng = np.random.default_rng(seed)
    return [[scale * rng.standard_normal(shape).astype(np.float32)] for _ in range(count)]


def worst(lab: Any, artifact: Any, known: Any, unseen: Any, mode: str, **options: Any) -> float:
    quantized = lab.quantize(artifact, known, mode, **options)
    expected, found = (lab.run(path, unseen) for path in (artifact.path, quantized.path))
    return float(min(map(lab.sqnr, expected, found)))


def test_int16_has_room_for_what_calibration_did_not_see(lab: Any) -> None:
    rng = np.random.default_rng(3)
    model = lab.model()
    weight = model.constant(rng.integers(-127, 128, (4, 16)) / 127)
    artifact = lab.save(model, model.op("FULLY_CONNECTED", model.input(1, 16), weight, -1))
    known, unseen = rows(0, 16, 1, 16), rows(1, 16, 1, 16, scale=1.6)
    found = [
        worst(lab, artifact, known, unseen, "int16x8", calibrator=name, disable_recovery=["all"])
        for name in ("mse", "minmax")
    ]
    # What saturates would leave less than 30 dB.
    assert min(found) > 45


def test_room_starts_from_the_extremes_where_clipping_is_for_8_bits() -> None:
    seen = HistogramObserver()
    seen.update(np.concatenate([np.linspace(-1, 1, 4096), [30.0]]).astype(np.float32))
    assert Roomy(CALIBRATORS["mse"])(seen) == (-2.0, 60.0)
    assert CALIBRATORS["mse"](seen)[1] < 30
    low, high = CALIBRATORS["percentile"](seen)
    assert Roomy(CALIBRATORS["percentile"])(seen) == (2 * low, 2 * high)


@pytest.mark.parametrize("last", ["SQRT", "LOG", "RSQRT"])
def test_int16_keeps_what_the_squares_of_a_spectrum_would_lose(lab: Any, last: str) -> None:
    # Magnitudes 100 times apart: their squares are 1e4 apart, and have 3 steps at the least.
    model = lab.model()
    spread = model.constant(np.logspace(-2, 0, 64))
    parts = [model.op("MUL", model.input(1, 64), spread) for _ in range(2)]
    total = model.op("ADD", *(model.op("MUL", part, part) for part in parts))
    total = model.op("ADD", total, model.constant(1e-8))
    artifact = lab.save(model, model.op(last, total))
    rng = np.random.default_rng(0)
    known = [[rng.uniform(0.5, 1, (1, 64)).astype(np.float32) for _ in "ab"] for _ in range(8)]
    path = lab.folder / "wide.tflite"
    answer = quantize(
        artifact.to_dict(), str(path), "int16x8", samples=lab.samples(artifact, known)
    )
    assert any("sums of two squares compute in float32" in note for note in answer["notes"])
    expected, found = (lab.run(file, known)[0] for file in (artifact.path, path))
    smallest, nearest = (array[..., :16] for array in (expected, found))
    assert lab.sqnr(expected, found) > 40
    assert lab.sqnr(smallest, nearest) > 35
    graph = Graph(tflite.load(path))
    dtypes = {graph.dtype(index) for op in graph.operators for index in op.outputs
              if graph.op(op) == last}  # fmt: skip
    assert dtypes == {"float32"}


@pytest.mark.parametrize(("name", "reach"), [("LOGISTIC", 10.0), ("TANH", 5.5)])
def test_int16_sees_how_far_a_gate_is_open(lab: Any, name: str, reach: float) -> None:
    # 1 - f decides what is left after many steps; in 8 bits it is nothing beyond 6.93 or 3.47.
    model = lab.model()
    artifact = lab.save(
        model, model.op(name, model.op("MUL", model.input(1, 64), model.input(1, 64)))
    )
    line = np.linspace(0.8 * reach, reach, 64, dtype=np.float32).reshape(1, 64)
    ones = np.ones((1, 64), np.float32)
    quantized = lab.quantize(artifact, [[line, ones], [-line, ones]], "int16x8")
    expected, found = (lab.run(path, [[line, ones]])[0] for path in (artifact.path, quantized.path))
    assert np.abs(expected - found).max() < 1e-4


def test_weights_make_up_for_one_another_beside_int16_as_well(lab: Any) -> None:
    rng = np.random.default_rng(2)
    model = lab.model()
    spread = 1 + 0.3 * rng.standard_normal((64, 4))
    inner = model.op("FULLY_CONNECTED", model.input(1, 4), model.constant(spread), -1)
    weight = (rng.integers(-3, 3, (8, 64)) + 0.45) / 127
    weight[:, 0] = 1
    artifact = lab.save(model, model.op("FULLY_CONNECTED", inner, model.constant(weight), -1))
    known, unseen = rows(0, 24, 1, 4), rows(99, 24, 1, 4)
    figures = [
        worst(lab, artifact, known, unseen, "int16x8", disable_recovery=disabled)
        for disabled in (["all"], sorted(_NAMES - {"rounding"}))
    ]
    assert figures[1] > figures[0] + 6
