"""Calibrators alone: what they make of values, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeconv.core.artifacts import Array
from edgeconv.quantize.params.qparams import QuantParams, Range
from edgeconv.quantize.statistics.calibrators import CALIBRATORS, HistogramObserver

_FLOATS = st.floats(-1e6, 1e6, width=32)
_SAMPLES = st.lists(
    arrays.arrays(np.float32, arrays.array_shapes(max_dims=3, max_side=6), elements=_FLOATS),
    min_size=1,
    max_size=4,
)


def _range(name: str, samples: list[Array]) -> tuple[float, float]:
    return CALIBRATORS[name](_seen(samples))


def _seen(samples: list[Array]) -> HistogramObserver:
    found = HistogramObserver()
    for sample in samples:
        found.update(sample)
    return found


def _error(found: tuple[float, float], values: Array) -> float:
    affine = QuantParams.of(Range.of(*found))
    return float(((affine.dequantize(affine.quantize(values)) - values) ** 2).sum())


@given(_SAMPLES)
@settings(deadline=None, max_examples=50)
def test_minmax_is_the_extremes_of_all_samples(samples: list[Array]) -> None:
    values = np.concatenate([sample.reshape(-1) for sample in samples])
    assert _range("minmax", samples) == (values.min(), values.max())


@given(_SAMPLES)
@example([np.array([1.1754944e-38], np.float32)])
@example([np.array([-1e-39, 1e-39], np.float32), np.array([3e38, -3e38], np.float32)])
@settings(deadline=None, max_examples=50)
def test_mse_stays_within_the_extremes(samples: list[Array]) -> None:
    values = np.concatenate([sample.reshape(-1) for sample in samples])
    low, high = _range("mse", samples)
    assert min(values.min(), 0) <= low <= max(high, 0)
    assert high <= max(values.max(), 0)


@pytest.mark.parametrize("count", [40_000, 200_000])
def test_minmax_sees_every_value_of_a_large_tensor(count: int) -> None:
    values = np.zeros((2, count // 2), np.float32)
    values[-1, -1], values[0, count // 3] = 7.0, -3.0
    assert _range("minmax", [values]) == (-3.0, 7.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["laplace", "outlier", "relu", "shifted"])
def test_mse_has_no_larger_error_than_minmax(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.laplace(size=(4, 3000)).astype(np.float32)
    if kind == "outlier":
        values[0, 0] = 60.0
    elif kind == "relu":
        values = np.maximum(values, 0)
    elif kind == "shifted":
        values += 5
    samples = list(values)
    minmax = _error(_range("minmax", samples), values)
    assert _error(_range("mse", samples), values) <= 1.02 * minmax


def test_mse_cuts_off_a_lone_outlier() -> None:
    values = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    values[0] = 12.0
    low, high = _range("mse", [values])
    assert low < -3
    assert 3 < high < 9


def test_mse_does_not_depend_on_the_order_in_which_the_range_grows() -> None:
    values = np.random.default_rng(0).normal(size=(6, 5000)).astype(np.float32)
    samples = [row * scale for row, scale in zip(values, (1e-3, 1, 50, 2, 1e-6, 7), strict=True)]
    forward, backward = _range("mse", samples), _range("mse", samples[::-1])
    np.testing.assert_allclose(forward, backward, rtol=0.05)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_nothing_and_zeros_give_a_range_of_zero(name: str) -> None:
    assert _range(name, []) == (0.0, 0.0)
    assert _range(name, [np.zeros((2, 0), np.float32)]) == (0.0, 0.0)
    assert _range(name, [np.zeros((3, 2), np.float32)]) == (0.0, 0.0)


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_number_in_any_sample_shows_in_the_range(name: str, bad: float, place: int) -> None:
    samples = [np.linspace(-1, 1, 50, dtype=np.float32) for _ in range(3)]
    samples[place][20] = bad
    assert not np.isfinite(_range(name, samples)).all()


def test_calibrators_leave_what_was_seen_as_it_is() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(40, 50)).astype(np.float32) for _ in range(5)]
    together, alone = _seen(samples[:3]), _seen(samples[:3])
    for calibrator in CALIBRATORS.values():
        calibrator(together)
    for sample in samples[3:]:
        together.update(sample)
        alone.update(sample)
    for calibrator in CALIBRATORS.values():
        assert calibrator(together) == calibrator(alone)


def test_parts_that_are_joined_are_as_one_look_at_all() -> None:
    rng = np.random.default_rng(5)
    samples = [scale * rng.standard_normal((40, 50)) for scale in (1.0, 0.1, 7.0, 3.0)]
    arrays_ = [sample.astype(np.float32) for sample in samples]
    whole = _seen(arrays_)
    joined = HistogramObserver.joined(
        [_seen(arrays_[:1]), _seen([]), _seen(arrays_[1:3]), _seen(arrays_[3:])]
    )
    assert joined.lows == whole.lows
    assert joined.highs == whole.highs
    assert joined.bins()[1].sum() == whole.bins()[1].sum() == 8000
    for name in ("minmax", "percentile", "mse"):
        expected, found = (np.array(CALIBRATORS[name](seen)) for seen in (whole, joined))
        assert found == pytest.approx(expected, abs=0.06), name


def test_joined_zeros_are_zeros() -> None:
    zeros = [np.zeros((2, 3), np.float32)]
    joined = HistogramObserver.joined([_seen(zeros), _seen(zeros)])
    assert joined.extremes() == (0.0, 0.0)
    assert joined.width == 0.0
    assert not joined.spread()
