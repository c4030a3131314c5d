from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeconv.core.artifacts import Arrays, Artifact, Format, TensorSpec
from edgeconv.core.errors import ConversionError
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.sources.load import TorchSource, data_for

INPUTS = (TensorSpec.plain("x", (1, 2), "float32"),)


def numbered(count: int) -> Arrays:
    """Samples whose first element is their number."""
    return {"x": np.repeat(np.arange(count, dtype=np.float32), 2).reshape(count, 1, 2)}


def numbers(arrays: Arrays) -> list[int]:
    return [int(value) for value in arrays["x"][:, 0, 0]]


@pytest.mark.parametrize(
    ("count", "calibration", "parity"),
    [
        (30, range(10), range(10, 14)),
        (12, range(10), range(8, 12)),
        (10, range(10), range(6, 10)),
        (2, range(2), range(2)),
    ],
)
def test_parity_prefers_samples_that_calibration_does_not_use(
    count: int, calibration: range, parity: range
) -> None:
    options = ConvertOptions(calibration_samples=10, parity_samples=4)
    found = data_for(Job("m", options, calibration_data=numbered(count)), INPUTS)
    assert numbers(found.calibration.arrays) == list(calibration)
    assert numbers(found.verification.arrays) == list(parity)
    assert found.calibrated
    assert not found.verification.generated


def test_verification_data_is_used_where_given() -> None:
    job = Job("m", calibration_data=numbered(5), verify_data={"x": numbered(40)["x"] + 100})
    found = data_for(job, INPUTS)
    assert numbers(found.verification.arrays) == list(range(100, 116))
    assert numbers(found.calibration.arrays) == list(range(5))


def test_generated_inputs_depend_on_the_seed_and_say_so() -> None:
    job = Job("m")
    first, again = data_for(job, INPUTS), data_for(job, INPUTS)
    other = data_for(replace(job, options=ConvertOptions(seed=1)), INPUTS)
    assert not first.calibrated
    assert first.verification.generated
    assert first.to_dict() == again.to_dict()
    assert first.to_dict() != other.to_dict()


def test_without_verification_there_are_two_vectors_and_calibration_stays() -> None:
    options = ConvertOptions(quantize="int8", verify=False)
    job = Job("m", options)
    generated = data_for(job, INPUTS)
    assert generated.verification.count == 2
    verified = data_for(replace(job, options=replace(options, verify=True)), INPUTS)
    assert generated.calibration.to_dict() == verified.calibration.to_dict()
    given = data_for(replace(job, verify_data=numbered(40)), INPUTS)
    assert numbers(given.verification.arrays) == list(range(16))


class Doubler:
    """Stands for a loaded PyTorch model."""

    name = "m"
    inputs = INPUTS

    def run(self, arrays: Arrays) -> list[np.ndarray]:
        return [arrays["x"] * 2]


def test_the_reference_is_named_after_the_outputs_of_the_export() -> None:
    source = TorchSource(Doubler())  # type: ignore[arg-type] # a stand-in
    onnx = Artifact(Format.ONNX, Path("m.onnx"), INPUTS, (replace(INPUTS[0], name="y"),))
    found = source.compute(onnx, numbered(3), lambda *_: {})
    np.testing.assert_array_equal(found["y"], numbered(3)["x"] * 2)
    with pytest.raises(ConversionError, match="2 outputs"):
        source.compute(replace(onnx, outputs=(*INPUTS, *INPUTS)), numbered(3), lambda *_: {})


@pytest.mark.parametrize(
    ("factor", "differ"), [(1.0, False), (3.0, False), (5.0, True), (0.2, True), (0.0, True)]
)
@pytest.mark.parametrize("quantize", ["int8", "int16x8", "none"])
def test_data_of_other_ranges_are_called_different(
    factor: float, differ: bool, quantize: str, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = np.random.default_rng(0).uniform(-1, 1, (40, 1, 2)).astype(np.float32)
    job = Job(
        "m",
        ConvertOptions(quantize=quantize),  # type: ignore[arg-type]
        calibration_data={"x": numbers},
        verify_data={"x": numbers * np.float32(factor)},
    )
    found = data_for(job, INPUTS)
    expected = differ and quantize != "none"
    assert bool(found.differences) is expected
    assert bool(found.to_dict()["differences"]) is expected
    text = "calibration and verification data differ: input x"
    assert (text in caplog.text) is expected


def test_an_offset_makes_data_different_and_indices_do_not() -> None:
    numbers = np.random.default_rng(0).uniform(-1, 1, (40, 1, 2)).astype(np.float32)
    options = ConvertOptions(quantize="int8")
    job = Job("m", options, calibration_data={"x": numbers}, verify_data={"x": numbers + 100})
    assert data_for(job, INPUTS).differences
    ids = (TensorSpec.plain("ids", (1, 2), "int64"),)
    first, second = (np.full((40, 1, 2), value) for value in (3, 30000))
    job = Job("m", options, calibration_data={"ids": first}, verify_data={"ids": second})
    assert not data_for(job, ids).differences
