"""Decoding of compiled models: right on the compiler's files, typed errors on damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.core.errors import InvalidModel
from edgeconv.targets.coral.placement.package import (
    EXECUTION_ONLY,
    PARAMETER_CACHING,
    decode,
    packages,
)
from edgeconv.tflite import file as tflite
from edgeconv.tflite.flatbuffer import Damaged
from tests.targets.coral import pairs

_MODEL = tflite.load(pairs.SMALL / "compiled.tflite")
_OPTIONS = bytes(_MODEL.subgraphs[0].operators[0].customOptions)


@pytest.mark.parametrize("folder", pairs.folders(), ids=lambda folder: folder.name)
def test_packages_hold_what_the_truth_says(folder: Path) -> None:
    truth = pairs.truth(folder)
    ((_, package),) = packages(tflite.load(folder / "compiled.tflite"))
    assert package.cached_parameter_bytes == truth["cached_parameter_bytes"]
    assert package.streamed_parameter_bytes == truth["streamed_parameter_bytes"]
    assert package.min_runtime_version == truth["min_runtime_version"]
    assert sorted(item.type for item in package.executables) == [PARAMETER_CACHING, EXECUTION_ONLY]
    assert {item.chip for item in package.executables} == {"beagle"}
    assert package.instruction_bytes > 0
    assert package.caching_token > 0


def test_layers_are_read() -> None:
    package = decode(_OPTIONS)
    assert [(layer.name, layer.shape) for layer in package.inputs] == [
        ("input1", (8, 8, 3)),
        ("inputs/rnn1", (8, 8, 1)),
        ("inputs/rnn2", (8, 8, 2)),
    ]
    assert len(package.outputs) == 5
    assert package.inputs[0].scale == pytest.approx(1 / 128)
    assert package.inputs[0].zero_point == 128
    assert package.compiler_version == "cl/343520747"
    assert package.activation_bytes_per_tile == 832


def test_models_that_are_not_compiled_hold_none() -> None:
    assert packages(tflite.load(pairs.SMALL / "source.tflite")) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(_OPTIONS) - 1))
def test_cut_packages_are_refused(length: int) -> None:
    with pytest.raises(Damaged):
        decode(_OPTIONS[:length])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(_OPTIONS) - 1), st.integers(1, 255))
def test_damaged_packages_are_read_or_refused(place: int, flip: int) -> None:
    damaged = bytearray(_OPTIONS)
    damaged[place] ^= flip
    try:
        decode(bytes(damaged))
    except Damaged as error:
        assert str(error)


def test_an_error_names_the_operator() -> None:
    model = tflite.load(pairs.SMALL / "compiled.tflite")
    model.subgraphs[0].operators[0].customOptions = None
    with pytest.raises(InvalidModel, match=r"operator 0 \(edgetpu-custom-op\)"):
        packages(model)
