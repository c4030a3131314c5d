"""Scales, zero points and stored integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeconv.core.artifacts import Array
from edgeconv.quantize.params.qparams import (
    QuantParams,
    Range,
    bias_scales,
    quantize_bias,
    quantize_weight,
    scales_beside,
    weight_scales,
)

_REALS = st.floats(-1e30, 1e30)
_WEIGHTS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=4, max_side=4),
    elements=st.floats(-100, 100, width=32),
)


@given(_REALS, _REALS)
@settings(deadline=None)
def test_zero_is_exact_and_the_range_is_covered_to_half_a_step(first: float, second: float) -> None:
    wanted = Range.of(min(first, second), max(first, second))
    affine = QuantParams.of(wanted)
    assert affine.scale > 0
    assert np.isfinite(affine.scale)
    assert np.float32(affine.scale) == affine.scale
    assert -128 <= affine.zero_point <= 127
    assert affine.dequantize(affine.quantize(np.zeros(1)))[0] == 0
    slack = 0.501 * affine.scale
    assert affine.limits.low <= wanted.low + slack
    assert affine.limits.high >= wanted.high - slack


@pytest.mark.parametrize("value", [0.7, -0.7, 1e-20, -1e20])
def test_a_lone_number_is_nearly_exact(value: float) -> None:
    affine = QuantParams.of(Range.of(value, value))
    found = affine.dequantize(affine.quantize(np.array([value])))
    assert abs(found[0] - value) <= max(1e-6 * abs(value), 2**-52)


@given(_WEIGHTS, st.booleans())
@settings(deadline=None)
def test_weights_are_within_half_a_step(weight: Array, per_channel: bool) -> None:
    axis = 0 if per_channel else None
    scales = weight_scales(weight, axis)
    stored = quantize_weight(weight, scales, axis)
    steps = scales.reshape(-1, *[1] * (weight.ndim - 1)) if per_channel else scales
    assert np.abs(stored.astype(int)).max(initial=0) <= 127
    assert np.all(np.abs(stored * steps - weight) <= 0.501 * steps)


@given(
    arrays.arrays(np.float32, (4,), elements=st.floats(-1e4, 1e4, width=32)),
    arrays.arrays(np.float32, (4, 3), elements=st.floats(-(2.0**-40), 2.0**-40, width=32)),
    st.floats(1e-6, 10),
)
@settings(deadline=None)
def test_a_bias_always_fits(bias: Array, weight: Array, input_scale: float) -> None:
    for axis in (0, None):
        scales = scales_beside(weight_scales(weight, axis), bias, input_scale, axis)
        stored = quantize_bias(bias, input_scale, scales)
        assert np.abs(stored.astype(np.int64)).max() <= 1.001 * 2**30
        products = bias_scales(input_scale, scales).astype(np.float64)
        assert np.all(np.abs(stored * products - bias) <= 0.51 * products + 1e-6 * np.abs(bias))
