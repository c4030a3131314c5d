"""Parts of an output by range, and how they are named, measured and judged."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.core.artifacts import Array
from edgeconv.core.gates import DEFAULT_GATES
from edgeconv.metrics import parity
from edgeconv.metrics.parts import Anatomy, Part, Slice, divide

INT8 = DEFAULT_GATES["tflite_int8"]


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def scaled(factors: list[float], *, axis: int, rank: int, places: int = 40) -> Array:
    """Return noise ``[8, 1, ...]`` whose indices along one axis have these magnitudes."""
    shape = [8, 1] + [places] * (rank - 1)
    shape[axis + 1] = len(factors)
    along = np.reshape(factors, [-1 if at == axis + 1 else 1 for at in range(rank + 1)])
    noise: Array = (rng().uniform(-1, 1, shape) * along).astype(np.float32)
    return noise


def spans(parts: tuple[Part, ...]) -> list[tuple[int, ...]]:
    found = []
    for part in parts:
        (item,) = part.slices
        gaps = () if item.block == item.step else (item.block, item.step)
        found.append((item.axis, item.start, item.stop, *gaps))
    return found


def detector(scores: Array | None = None) -> Array:
    """Return boxes in pixels and scores in 0..1, ``[8, 1, 4 + 6, 50]``."""
    boxes = rng().uniform(0, 320, (8, 1, 4, 50))
    if scores is None:
        scores = rng().uniform(0, 1, (8, 1, 6, 50)) ** 4
    return np.concatenate([boxes, scores], axis=2).astype(np.float32)


@pytest.mark.parametrize(("axis", "rank"), [(1, 3), (2, 3), (1, 4), (3, 4)])
def test_channels_of_very_different_range_are_parts_on_any_axis(axis: int, rank: int) -> None:
    parts = divide(scaled([100.0] * 4 + [1.0] * 6, axis=axis, rank=rank))
    assert spans(parts) == [(axis, 0, 4), (axis, 4, 10)]


def test_ranges_that_are_alike_are_one() -> None:
    assert divide(scaled([7.0] * 4 + [1.0] * 6, axis=1, rank=3)) == ()
    assert divide(scaled([1.0, 2.0, 4.0, 7.0], axis=1, rank=3)) == ()


def test_what_is_in_0_to_1_is_of_one_unit() -> None:
    scores = np.full((8, 1, 6, 50), 0.9) * np.reshape([1, 1e-4, 1, 1e-5, 1, 1e-3], (6, 1))
    parts = divide(detector(scores * rng().uniform(0, 1, scores.shape)))
    assert spans(parts) == [(1, 0, 4), (1, 4, 10)]


def test_a_repeated_pattern_is_followed() -> None:
    keypoints = [320.0, 320.0, 1.0] * 5
    assert spans(divide(scaled(keypoints, axis=1, rank=3))) == [(1, 0, 14, 2, 3), (1, 2, 15, 1, 3)]
    pose = divide(scaled([300.0] * 4 + [0.9] + keypoints, axis=1, rank=3))
    reference = scaled([300.0] * 4 + [0.9] + keypoints, axis=1, rank=3)
    peaks = [np.abs(part.select(reference)).max(axis=(0, 1, 3)) for part in pose]
    assert all(peak.max() < 8 * peak.min() for peak in peaks)
    assert sum(peak.size for peak in peaks) == 20


@pytest.mark.parametrize(
    ("factors", "starts"),
    [([1.0, 3.0, 9.0, 27.0, 81.0], [0, 1, 3]), (np.logspace(-1, 1.5, 16).tolist(), [0, 4, 10])],
)
def test_few_indices_whose_ranges_climb_are_parts(factors: list[float], starts: list[int]) -> None:
    parts = divide(scaled(factors, axis=1, rank=3))
    assert [part.slices[0].start for part in parts] == starts
    many = np.repeat(factors, 20).tolist()
    assert divide(scaled(many, axis=1, rank=3)) == ()


def test_chance_makes_no_parts() -> None:
    few = scaled([100.0] * 4 + [1.0] * 6, axis=1, rank=2, places=1)
    assert divide(few) == ()  # eight values an index
    quiet = [5.0] * 30
    quiet[11] = 1e-3
    assert divide(scaled(quiet, axis=1, rank=4)) == ()
    scattered = [5.0 if index * 7 % 5 else 0.01 for index in range(30)]
    scattered[3:8] = [0.01] * 5
    assert divide(scaled(scattered, axis=1, rank=3)) == ()


def test_no_range_at_all_is_no_part() -> None:
    assert divide(scaled([3.0, 0.0, 3.0, 3.0], axis=1, rank=3)) == ()
    assert divide(np.zeros((8, 1, 4, 50), np.float32)) == ()
    assert divide(np.zeros((8, 1, 0, 50), np.float32)) == ()


def test_what_is_not_finite_is_left_out() -> None:
    reference = scaled([100.0] * 4 + [1.0] * 6, axis=1, rank=3)
    reference[0, 0, 7, 3] = np.inf
    reference[1, 0, 8, 3] = np.nan
    parts = divide(reference)
    assert spans(parts) == [(1, 0, 4), (1, 4, 10)]
    (figures,) = parity.compare({"y": reference}, {"y": reference})
    assert [part.sqnr_db for part in figures.parts] == [300.0, 300.0]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 3), st.integers(0, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 6)
)
def test_slices_hold_their_indices(
    axis: int, start: int, block: int, gap: int, repeats: int
) -> None:
    step = block + gap
    indices = [start + step * turn + place for turn in range(repeats) for place in range(block)]
    found = Slice.of(axis, indices)
    assert found is not None
    assert found.indices.tolist() == indices
    array = np.arange(100)
    np.testing.assert_array_equal(array[found.index()], array[indices])


def test_indices_without_a_pattern_are_no_slice() -> None:
    assert Slice.of(1, [0, 1, 3, 7]) is None


@pytest.mark.parametrize(
    ("slices", "rank", "words"),
    [
        ((Slice(1, 4, 84),), 3, "rows 4 to 83 (sigmoid)"),
        ((Slice(1, 4, 5),), 3, "row 4 (sigmoid)"),
        ((Slice(2, 0, 4),), 3, "columns 0 to 3 (sigmoid)"),
        ((Slice(1, 0, 4),), 4, "channels 0 to 3 (sigmoid)"),
        ((Slice(1, 0, 4),), 2, "values 0 to 3 (sigmoid)"),
        ((Slice(1, 7, 56, 1, 3),), 3, "rows 7 to 55 (1 of every 3) (sigmoid)"),
        ((Slice(1, 0, 4), Slice(2, 0, 9)), 3, "rows 0 to 3, columns 0 to 8 (sigmoid)"),
    ],
)
def test_parts_are_named_in_words(slices: tuple[Slice, ...], rank: int, words: str) -> None:
    assert Part(slices, "sigmoid").words(rank) == words


def test_a_dead_part_fails_whatever_the_whole_is() -> None:
    reference = detector()
    candidate = reference.copy()
    candidate[:, :, 4:] = 0
    (found,) = parity.compare({"y": reference}, {"y": candidate})
    assert found.sqnr_db is not None
    assert found.sqnr_db > 40
    assert found.worst_part.name == "rows 4 to 9"
    assert (found.worst_part.levels, found.worst_part.reference_levels) == (1, 2400)
    (reason,) = parity.reasons((found,), INT8)
    assert reason == "output y, rows 4 to 9: sqnr_db 0 is below 12, lost: 1 of 2,400 values"
    assert parity.worst_sqnr([found]) == 0.0


def test_a_part_of_a_few_values_is_lost_whatever_its_decibels() -> None:
    reference = detector()
    candidate = reference.copy()
    candidate[:, :, 4:] = np.rint(reference[:, :, 4:] * 6) / 6
    (found,) = parity.compare({"y": reference}, {"y": candidate})
    assert found.worst_part.sqnr_db is not None
    assert found.worst_part.sqnr_db > 12
    assert parity.reasons((found,), INT8) == ("output y, rows 4 to 9: lost: 7 of 2,400 values",)
    assert parity.reasons((found,), {}) == ()


def test_a_softmax_that_is_sure_of_itself_is_not_lost() -> None:
    scores = np.full((40, 1, 10), 1e-7) * rng().uniform(0.1, 1, (40, 1, 10))
    scores[np.arange(40), 0, rng().integers(0, 10, 40)] = 0.9999
    rounded = np.rint(scores * 256) / 256
    (found,) = parity.compare({"y": scores}, {"y": rounded})
    assert found.reference_levels is not None
    assert found.reference_levels > 64
    assert (found.levels, found.lost) == (2, False)


@pytest.mark.parametrize("value", [0.0, 1e-39, 0.25])
def test_a_part_without_a_scale_does_not_fail_for_that(value: float) -> None:
    pieces = (Part((Slice(1, 0, 4),)), Part((Slice(1, 4, 10),), "sigmoid"))
    anatomy = Anatomy({"y": pieces})
    reference = detector(np.full((8, 1, 6, 50), value))
    close, far = reference.copy(), reference.copy()
    close[:, :, 4:] += 0.5
    far[:, :, 4:] += 200.0
    (found,) = parity.compare({"y": reference}, {"y": close}, anatomy)
    assert found.parts[1].note == {0.0: "zero", 1e-39: "denormal"}.get(value, "constant")
    assert parity.reasons((found,), INT8) == ()
    assert parity.worst_sqnr([found]) == found.sqnr_db
    (found,) = parity.compare({"y": reference}, {"y": far}, anatomy)
    assert "rows 4 to 9 (sigmoid): sqnr_db" in parity.reasons((found,), INT8)[0]


def test_pieces_of_another_shape_are_not_believed() -> None:
    anatomy = Anatomy({"y": (Part((Slice(1, 0, 4),)), Part((Slice(1, 4, 84),)))})
    reference = detector()
    (found,) = parity.compare({"y": reference}, {"y": reference}, anatomy)
    assert [part.name for part in found.parts] == ["rows 0 to 3", "rows 4 to 9"]


def test_groups_are_found_within_the_pieces_of_the_graph() -> None:
    reference = np.concatenate([detector(), detector()], axis=2)
    pieces = (Part((Slice(1, 0, 10),), "a"), Part((Slice(1, 10, 20),), "b"))
    assert [part.words(3) for part in divide(reference, pieces)] == [
        "rows 0 to 3 (a)",
        "rows 4 to 9 (a)",
        "rows 10 to 13 (b)",
        "rows 14 to 19 (b)",
    ]


def test_the_worst_sample_is_told() -> None:
    reference = detector()
    candidate = reference.copy()
    candidate[5] *= 1.5
    (found,) = parity.compare({"y": reference}, {"y": candidate})
    assert found.worst_sample is not None
    assert found.worst_sample.index == 5
    assert found.worst_sample.sqnr_db == pytest.approx(20 * np.log10(2))


def test_figures_with_parts_are_json() -> None:
    (found,) = parity.compare({"y": detector()}, {"y": detector() + 0.25})
    data: dict[str, Any] = found.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["parts"][1]["slice"] == {"axis": 1, "start": 4, "stop": 10}
    assert data["parts"][1]["levels"] <= data["levels"] <= data["reference_levels"] == 4000


@pytest.mark.parametrize(
    ("value", "limit", "words"),
    [(11.999999, 12.0, "11.999999"), (7.742, 12.0, "7.742"), (12 - 1e-12, 12.0, "11.999999999999")],
)
def test_a_figure_is_told_from_its_limit(value: float, limit: float, words: str) -> None:
    figures = parity.OutputFigures("y", sqnr_db=value)
    assert parity.failures(figures, {"sqnr_db": limit}) == (f"sqnr_db {words} is below 12",)


def test_of_several_parts_that_fail_the_worst_is_named() -> None:
    reference = np.concatenate([detector(), detector()], axis=2)
    candidate = reference.copy()
    candidate[:, :, 4:10] = 0
    candidate[:, :, 14:] *= 0.5
    (found,) = parity.compare({"y": reference}, {"y": candidate})
    (reason,) = parity.reasons((found,), INT8)
    assert "rows 4 to 9: sqnr_db 0 is below 12" in reason
    assert reason.endswith("(and 1 other part)")
