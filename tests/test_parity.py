from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.core.artifacts import Array, Quantization, TensorSpec
from edgeconv.core.errors import UsageError
from edgeconv.core.gates import DEFAULT_GATES, gate_for, parse_gate
from edgeconv.metrics import parity
from edgeconv.metrics.parts import Anatomy, Part, Slice

RNG = np.random.default_rng(5)


def noisy(reference: Array, decibel: float) -> Array:
    """Add noise of exactly this SQNR."""
    noise = RNG.normal(size=reference.shape)
    noise *= np.sqrt((reference**2).sum() / (noise**2).sum()) * 10 ** (-decibel / 20)
    return reference + noise


def figures(reference: Array, candidate: Array) -> parity.OutputFigures:
    return parity.compare_output("y", np.asarray(reference), np.asarray(candidate))


@pytest.mark.parametrize("decibel", [-6.0, 0.0, 12.0, 90.0])
def test_sqnr_is_the_ratio_of_energies(decibel: float) -> None:
    reference = RNG.normal(size=(3, 1, 8, 8))
    assert figures(reference, noisy(reference, decibel)).sqnr_db == pytest.approx(decibel, abs=1e-6)


def test_figures_of_a_known_difference() -> None:
    found = figures(np.array([[1.0, -4.0], [2.0, 0.0]]), np.array([[1.5, -4.0], [2.0, 1.0]]))
    assert found.max_abs == 1.0
    assert found.mean_abs == pytest.approx(1.5 / 4)
    assert found.max_rel == pytest.approx(1.0 / (2.0 / 1000))
    assert found.peak_error == pytest.approx(0.25)
    assert found.sqnr_db == pytest.approx(10 * math.log10(21 / 1.25))
    assert found.exact is None


def test_samples_add_up_to_the_same_as_one_large_sample() -> None:
    reference = RNG.normal(size=(6, 1, 5)).astype(np.float32)
    candidate = reference + RNG.normal(size=(6, 1, 5), scale=1e-3).astype(np.float32)
    many = figures(reference, candidate)
    one = figures(reference.reshape(1, 6, 5), candidate.reshape(1, 6, 5))
    assert many.sqnr_db == pytest.approx(one.sqnr_db)
    assert many.cosine == pytest.approx(one.cosine)
    assert many.mean_abs == pytest.approx(one.mean_abs)


def test_equal_arrays_are_exact_and_the_figures_are_json() -> None:
    reference = RNG.normal(size=(2, 1, 3)).astype(np.float32)
    found = figures(reference, reference)
    assert (found.sqnr_db, found.max_abs, found.max_rel) == (parity.MAX_DB, 0.0, 0.0)
    assert found.cosine == pytest.approx(1.0)
    json.dumps(found.to_dict(), allow_nan=False)


def test_both_zero_is_exact() -> None:
    found = figures(np.zeros((2, 4)), np.zeros((2, 4)))
    assert (found.sqnr_db, found.cosine, found.peak_error) == (parity.MAX_DB, 1.0, 0.0)
    assert parity.failures(found, DEFAULT_GATES["onnx"]) == ()


def test_zero_reference_allows_float_noise_only() -> None:
    gate = DEFAULT_GATES["onnx"]
    assert parity.failures(figures(np.zeros((1, 4)), np.full((1, 4), 1e-8)), gate) == ()
    assert parity.failures(figures(np.zeros((1, 4)), np.full((1, 4), 1e-3)), gate)


def test_vanishing_reference_is_no_excuse() -> None:
    reference = RNG.normal(size=(2, 8)) * 1e-9
    assert parity.failures(figures(reference, reference[:, ::-1]), DEFAULT_GATES["onnx"])


def test_one_wrong_element_among_many_fails_a_float_stage() -> None:
    reference = RNG.normal(size=(1, 1000, 1000)).astype(np.float32)
    candidate = reference.copy()
    candidate[0, 0, 0] += 0.06
    found = figures(reference, candidate)
    assert found.sqnr_db is not None
    assert found.sqnr_db > 80
    assert "peak_error" in parity.failures(found, DEFAULT_GATES["tflite_fp32"])[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_fails(bad: float) -> None:
    candidate = np.ones((2, 3))
    candidate[1, 2] = bad
    found = figures(np.ones((2, 3)), candidate)
    assert "NaN or infinite" in found.reason
    assert found.sqnr_db is None
    assert parity.failures(found, {}) == (found.reason,)
    json.dumps(found.to_dict(), allow_nan=False)


def test_values_whose_squares_overflow_are_refused() -> None:
    assert "beyond" in figures(np.full((1, 2), 1e200), np.ones((1, 2))).reason


def test_values_that_the_reference_has_too_are_left_out() -> None:
    reference = np.array([[1.0, np.nan, -np.inf, 2.0]])
    assert figures(reference, reference).sqnr_db == parity.MAX_DB
    assert figures(reference, np.array([[1.0, 0.0, -np.inf, 2.0]])).reason
    assert figures(reference, np.array([[1.0, np.nan, np.inf, 2.0]])).reason


def test_shapes_dtypes_and_names_must_be_equal() -> None:
    image = RNG.normal(size=(1, 1, 3, 4, 4))
    assert "shape" in figures(image, image.transpose(0, 1, 3, 4, 2)).reason
    assert "dtype" in figures(np.ones((1, 2)), np.ones((1, 2), np.int64)).reason
    swapped = parity.compare({"a": image, "b": image}, {"b": image, "a": image})
    assert [item.name for item in swapped] == ["a", "b"]
    assert all("outputs are b, a" in item.reason for item in swapped)


def test_a_transposed_square_is_not_taken_for_the_original() -> None:
    image = RNG.normal(size=(1, 1, 4, 4, 4))
    found = figures(image, image.transpose(0, 1, 3, 4, 2))
    assert parity.failures(found, DEFAULT_GATES["onnx"])


def test_empty_outputs_pass() -> None:
    found = figures(np.ones((2, 0, 4)), np.ones((2, 0, 4)))
    assert (found.max_abs, found.mean_abs, found.top1_agreement) == (0.0, 0.0, None)
    assert parity.failures(found, DEFAULT_GATES["onnx"]) == ()


def test_integer_outputs_are_judged_by_exact_matches() -> None:
    reference = np.arange(10, dtype=np.int64).reshape(2, 5)
    candidate = reference.copy()
    candidate[0, 0] = 9
    found = figures(reference, candidate)
    assert found.exact == 0.9
    assert parity.failures(found, DEFAULT_GATES["tflite_int8"]) == ()
    assert "exact" in parity.failures(found, DEFAULT_GATES["tflite_fp32"])[0]


def test_boolean_outputs_are_judged_by_exact_matches() -> None:
    reference = np.array([[True, False]])
    assert figures(reference, reference).exact == 1.0
    assert figures(reference, ~reference).exact == 0.0


def test_top1_is_measured_for_class_scores_only() -> None:
    scores = np.array([[[0.1, 0.9]], [[0.8, 0.2]]])
    assert figures(scores, scores[:, :, ::-1]).top1_agreement == 0.0
    assert figures(scores, scores).top1_agreement == 1.0
    for shape in ((2, 1, 1), (2, 1, 4, 4), (2, 4)):
        assert figures(np.ones(shape), np.ones(shape)).top1_agreement is None


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=8), st.integers(0, 3)
)
def test_any_finite_arrays_give_finite_figures(values: list[float], shift: int) -> None:
    reference = np.array([values], dtype=np.float32)
    found = figures(reference, np.roll(reference, shift))
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()
    assert found.cosine is not None
    assert -1.0 <= found.cosine <= 1.0


def test_store_and_restore_undo_each_other() -> None:
    specs = (
        TensorSpec("a", (1, 4, 5, 3), "float32", (0, 2, 3, 1)),
        TensorSpec("b", (1, 7), "int8", (0, 1), Quantization(0.01, 3)),
    )
    arrays = {
        "a": RNG.normal(size=(2, 1, 3, 4, 5)).astype(np.float32),
        "b": RNG.uniform(-1, 1, size=(2, 1, 7)).astype(np.float32),
    }
    stored = parity.store(arrays, specs)
    assert stored["a"].shape == (2, 1, 4, 5, 3)
    assert stored["b"].dtype == np.int8
    back = parity.restore(stored, specs)
    np.testing.assert_array_equal(back["a"], arrays["a"])
    np.testing.assert_allclose(back["b"], arrays["b"], atol=0.0051)
    assert back["b"].dtype == np.float32


def test_gates_merge_defaults_with_overrides() -> None:
    overrides = {"all": {"cosine": 0.9, "sqnr_db": 50.0}, "onnx": {"sqnr_db": 60.0}}
    assert gate_for("onnx", overrides)["sqnr_db"] == 60.0
    assert gate_for("tflite_fp32", overrides)["sqnr_db"] == 50.0
    assert gate_for("tflite_fp32", overrides)["cosine"] == 0.9
    assert gate_for("edgetpu", {}) == DEFAULT_GATES["tflite_int8"]
    for pair in (("tflite_int8", "torch"), ("torch", "tflite_int8")):
        assert gate_for(pair[0], {}, reference=pair[1]) == DEFAULT_GATES["tflite_int8"]


def test_gates_are_parsed() -> None:
    assert parse_gate("sqnr_db=20") == ("all", "sqnr_db", 20.0)
    assert parse_gate("sqnr=20") == ("all", "sqnr_db", 20.0)
    assert parse_gate("tflite_int8:top1_agreement=0.9") == ("tflite_int8", "top1_agreement", 0.9)


@pytest.mark.parametrize(
    "text",
    ["sqnr_db", "sqnr_db=", "sqnr_db=x", "snr=3", "nowhere:sqnr_db=3", ":sqnr_db=3", "a=nan"],
)
def test_gates_that_would_never_be_looked_at_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="gates"):
        parse_gate(text)


LOSSY = ("fp16", "dynamic", "weight-only", "int16x8", "int8", "approximated")


@pytest.mark.parametrize("stage", [*(f"tflite_{name}" for name in LOSSY), "edgetpu"])
def test_classes_must_agree_where_a_stage_loses_accuracy(stage: str) -> None:
    scores = RNG.normal(size=(16, 1, 10))
    candidate = scores.copy()
    for row in range(2):
        first, second = np.argsort(scores[row, 0])[:-3:-1]
        candidate[row, 0, [first, second]] = scores[row, 0, [second, first]]
    gate = {**gate_for(stage, {}), "sqnr_db": 0.0}
    (reason,) = parity.failures(figures(scores, candidate), gate)
    assert reason.startswith("top1_agreement 0.875 is below 0.9; --gate top1=")
    known = Anatomy(no_scores={"y": "it is bounded by Tanh"})
    (found,) = parity.compare({"y": scores}, {"y": candidate}, known)
    assert parity.failures(found, gate) == ()
    assert found.top1_agreement == 0.875
    assert found.to_dict()["no_scores"] == "it is bounded by Tanh"


def test_labels_are_class_scores_to_who_asks_for_the_top_class() -> None:
    labels = RNG.uniform(0, 1, (16, 1, 10))
    candidate = labels.copy()
    candidate[:, 0, 9] = labels.max(axis=(1, 2)) + 0.01
    known, gate = Anatomy(labels=frozenset({"y"})), gate_for("tflite_int8", {})
    (found,) = parity.compare({"y": labels}, {"y": candidate}, known.asked([{"sqnr_db": 20.0}]))
    assert found.top1_agreement is not None
    assert found.top1_agreement < 0.9
    assert not any("top1" in text for text in parity.failures(found, gate))
    (found,) = parity.compare({"y": labels}, {"y": candidate}, known.asked([{"top1_agreement": 1}]))
    assert any("top1" in text for text in parity.failures(found, gate))


def test_a_tie_in_the_reference_may_go_either_way() -> None:
    scores = np.array([[[1.0, 1.0, 0.0]]])
    assert figures(scores, np.array([[[0.9, 1.1, 0.0]]])).top1_agreement == 1.0
    assert figures(scores, np.array([[[0.9, 0.8, 1.0]]])).top1_agreement == 0.0


def test_scores_that_are_joined_with_others_are_judged_alone() -> None:
    scores, boxes = RNG.uniform(0, 1, (16, 1, 6)), RNG.uniform(0, 300, (16, 1, 4))
    parts = (Part((Slice(1, 0, 4),), "gemm"), Part((Slice(1, 4, 10),), "softmax", one_unit=True))
    reference = np.concatenate([boxes, scores], axis=2)
    candidate = np.concatenate([boxes, scores[..., ::-1]], axis=2)
    (found,) = parity.compare({"y": reference}, {"y": candidate}, Anatomy({"y": parts}))
    assert (found.top1_agreement, found.parts[0].top1_agreement) == (1.0, None)
    reason = parity.reasons((found,), {"top1_agreement": 0.9})[0]
    assert reason.startswith("output y, values 4 to 9 (softmax): top1_agreement 0")


def test_a_single_row_that_the_graph_shows_to_be_scores_is_judged() -> None:
    scores = RNG.uniform(0, 1, (16, 6))
    anatomy = Anatomy(scores=frozenset({"y"}))
    (found,) = parity.compare({"y": scores}, {"y": scores[:, ::-1]}, anatomy)
    assert found.top1_agreement == 0.0
    (found,) = parity.compare({"y": scores}, {"y": scores[:, ::-1]})
    assert found.top1_agreement is None
