"""What the benchmark of detectors measures: the parts of an output, and detections that agree."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import ultralytics


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        ("yolov8n", 84, {"boxes": 4, "scores": 80}),
        ("trained", 22, {"boxes": 4, "scores": 18}),
        ("yolo11n-seg", 116, {"boxes": 4, "scores": 80, "masks": 32}),
    ],
)
def test_parts_are_found_by_the_number_of_channels(
    name: str, channels: int, expected: dict[str, int]
) -> None:
    parts = ultralytics.parts_of(name, np.zeros((2, 1, channels, 7), np.float32))
    assert {key: part.shape[2] for key, part in parts.items()} == expected


def test_a_pose_has_one_class_and_its_points() -> None:
    parts = ultralytics.parts_of("yolo11n-pose", np.zeros((2, 1, 56, 7), np.float32))
    assert parts["scores"].shape == (2, 1, 1, 7)
    assert parts["keypoints"].shape == (2, 1, 17, 2, 7)


def test_detections_agree_by_class_and_overlap() -> None:
    output = np.zeros((1, 1, 6, 3), np.float32)
    output[0, 0, :4] = np.array([[50, 50, 20, 20], [52, 50, 20, 20], [90, 90, 10, 10]]).T
    output[0, 0, 4, :2], output[0, 0, 5, 2] = (0.9, 0.8), 0.6
    found = ultralytics.detections(ultralytics.parts_of("any", output), 0)
    assert [number for number, _, _ in found] == [0, 1]  # the second box is the first one's
    moved = [(number, score, box + 1) for number, score, box in found]
    assert ultralytics.agreement(found, moved) == (4, 4)
    other = [(1 - number, score, box) for number, score, box in found]
    assert ultralytics.agreement(found, other) == (0, 4)
