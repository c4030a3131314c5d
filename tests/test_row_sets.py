"""Rows that an operator chose, compared whatever their order."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest

from edgeconv.core.artifacts import Arrays
from edgeconv.core.gates import DEFAULT_GATES
from edgeconv.metrics import parity
from edgeconv.metrics.judging import row_tolerance
from edgeconv.metrics.parts import Anatomy, Part, RowSet, Slice

FLOAT, INT8 = DEFAULT_GATES["tflite_fp32"], DEFAULT_GATES["tflite_int8"]
CHOSEN = Anatomy(sets=(RowSet("TopK", (("score", 1), ("label", 1), ("box", 1))),))


def detections(samples: int = 6, rows: int = 10) -> Arrays:
    """Return scores that fall, labels and boxes."""
    rng = np.random.default_rng(11)
    scores = np.sort(rng.uniform(0.1, 1, (samples, 1, rows)).astype(np.float32))[..., ::-1]
    return {
        "score": np.ascontiguousarray(scores),
        "label": rng.integers(0, 20, (samples, 1, rows)),
        "box": rng.uniform(0, 320, (samples, 1, rows, 4)).astype(np.float32),
    }


def in_order(arrays: Arrays, order: list[int], sample: int = 0) -> Arrays:
    """Return the arrays with the rows of one sample in another order."""
    found = {name: array.copy() for name, array in arrays.items()}
    for name, array in found.items():
        array[sample, 0] = arrays[name][sample, 0, order]
    return found


def reasons(reference: Arrays, candidate: Arrays, gate: Mapping[str, float] | None = None) -> str:
    chosen = FLOAT if gate is None else gate
    figures = parity.Reference(reference, CHOSEN).compare(candidate, row_tolerance(chosen))
    for item in figures:
        json.dumps(item.to_dict(), allow_nan=False)
    return "\n".join(parity.reasons(figures, chosen))


def test_the_order_of_rows_does_not_matter() -> None:
    reference = detections()
    candidate = in_order(reference, [1, 0, 2, 4, 3, 5, 9, 7, 8, 6])
    figures = parity.Reference(reference, CHOSEN).compare(candidate)
    for item in figures:
        assert item.as_set is not None
        assert (item.as_set.rows, item.as_set.chosen_by) == (1.0, "TopK")
    score, label, box = figures
    assert (box.as_set and box.as_set.sqnr_db, box.sqnr_db and box.sqnr_db < 20) == (300.0, True)
    assert label.exact is not None
    assert (label.as_set and label.as_set.exact, label.exact < 0.95) == (1.0, True)
    assert score.as_set is not None
    assert score.as_set.together == ("label", "box")
    assert reasons(reference, candidate) == ""
    assert parity.worst_sqnr(figures) == 300.0


def test_noise_within_the_rows_is_judged_as_ever() -> None:
    reference = detections()
    candidate = in_order(reference, [1, 0, 2, 3, 4, 5, 6, 7, 8, 9])
    candidate["box"] = candidate["box"] + np.float32(1e-5)
    assert reasons(reference, candidate) == ""
    candidate["box"] = candidate["box"] + np.float32(0.1)
    assert "output box, with score, label, rows of TopK as a set: sqnr_db" in reasons(
        reference, candidate
    )


@pytest.mark.parametrize("gate", [FLOAT, INT8], ids=["float", "int8"])
@pytest.mark.parametrize("name", ["score", "label", "box"])
def test_a_wrong_row_fails(gate: Mapping[str, float], name: str) -> None:
    reference = detections(samples=1, rows=4)
    candidate = in_order(reference, [0, 1, 2, 3])
    wrong = {"score": 0.11, "label": 77, "box": -300.0}[name]
    candidate[name][0, 0, 0] = wrong
    assert "rows 0." in reasons(reference, candidate, gate)


def test_boxes_that_lie_elsewhere_are_others_even_in_8_bits() -> None:
    """A shift of 24 of 320 pixels leaves a box of 60 too little for a detection to be the same."""
    reference = detections()
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 260, (*reference["box"].shape[:3], 2))
    reference["box"] = np.concatenate([corner, corner + 60], axis=3).astype(np.float32)
    candidate = {name: array.copy() for name, array in reference.items()}
    candidate["box"] += np.float32(6)
    assert reasons(reference, candidate, INT8) == ""
    candidate["box"] += np.float32(18)
    assert "rows" in reasons(reference, candidate, INT8)


def test_a_row_that_is_there_twice_is_one_that_is_lost() -> None:
    reference = detections(samples=1, rows=4)
    assert "rows 0.75 is below 0.999" in reasons(reference, in_order(reference, [1, 1, 2, 3]))


def test_another_row_at_the_cut_off_is_excused_in_8_bits_only_by_as_much_as_they_move() -> None:
    reference = detections()
    candidate = in_order(reference, list(range(10)))
    candidate["label"][0, 0, 9] = 99
    candidate["box"][0, 0, 9] = 1.0
    assert reasons(reference, candidate, INT8) == ""
    assert reasons(reference, candidate) == ""
    candidate["score"][0, 0, 9] = 0.99
    assert "rows" in reasons(reference, candidate, {**INT8, "rows": 0.999})


def test_ties_may_be_in_any_order() -> None:
    reference = detections()
    reference["score"][:] = 1.0
    candidate = in_order(reference, [5, 6, 7, 8, 9, 0, 1, 2, 3, 4])
    assert reasons(reference, candidate) == ""


def test_each_of_a_batch_has_rows_of_its_own() -> None:
    one = detections()
    reference = {name: array.reshape(2, 3, *array.shape[2:]) for name, array in one.items()}
    candidate = {name: array.copy() for name, array in reference.items()}
    for name, array in candidate.items():
        array[1, 0], array[1, 2] = reference[name][1, 0][::-1], reference[name][1, 2][::-1]
    assert reasons(reference, candidate) == ""
    across = {name: array[:, ::-1] for name, array in reference.items()}
    assert "rows" in reasons(reference, across)


def test_rows_on_another_axis_and_parts_within_them() -> None:
    plain = detections()
    joined = np.concatenate(
        [plain["box"], plain["score"][..., None], plain["label"][..., None]], axis=3
    ).astype(np.float32)
    reference = {"y": joined.transpose(0, 1, 3, 2)}
    candidate = {"y": joined[:, :, ::-1].transpose(0, 1, 3, 2).copy()}
    parts = (Part((Slice(1, 0, 4),), "box"), Part((Slice(1, 4, 5),), "score"))
    anatomy = Anatomy({"y": parts}, (RowSet("TopK", (("y", 2),)),))
    known = parity.Reference(reference, anatomy)
    assert parity.reasons(known.compare(candidate), FLOAT) == ()
    candidate["y"][:, :, 4] = 0.5
    (found,) = known.compare(candidate, 0.5)
    assert found.as_set is not None
    assert [part.name for part in found.as_set.parts] == ["rows 0 to 3 (box)", "row 4 (score)"]
    assert "row 4 (score)" in "".join(parity.reasons((found,), INT8))


def test_rows_that_cannot_be_matched_are_compared_in_order() -> None:
    reference = detections()
    for other in (
        {**reference, "box": reference["box"][:, :, :9]},
        {**reference, "score": np.where(reference["score"] > 0.5, np.nan, reference["score"])},
    ):
        figures = parity.Reference(reference, CHOSEN).compare(other)
        assert all(item.as_set is None for item in figures)
        assert parity.reasons(figures, FLOAT)
