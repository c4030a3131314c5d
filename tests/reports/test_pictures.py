"""Samples on the page: images beside each other, class scores as bars."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from edgeconv.core.artifacts import Array
from edgeconv.reports.html import render_html
from edgeconv.reports.pictures import sample_rows
from tests.reports.samples import reports_with_layers


def pixels(uri: str) -> Array:
    raw = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(raw)) as picture:
        return np.asarray(picture)


def images(count: int = 6) -> Array:
    return np.random.default_rng(0).random((count, 1, 3, 32, 24), np.float32)


def test_an_image_that_becomes_an_image_is_shown_four_times() -> None:
    source = images()
    found = source.copy()
    found[:, :, :, 8:16, 8:16] += 0.5
    rows = sample_rows({"x": source}, {"y": source}, {"y": found}, "tflite_int8")
    assert [index for index, _ in rows] == [0, 1, 2, 3]
    given, reference, ours, difference = rows[0][1]
    assert [figure.label for figure in rows[0][1]] == [
        "input x", "y, reference", "y, tflite_int8", "y, difference"
    ]  # fmt: skip
    assert given.uri == reference.uri != ours.uri
    assert pixels(reference.uri).shape == (128, 96, 3)
    shown = pixels(difference.uri).reshape(32, 4, 24, 4)[:, 0, :, 0]
    assert shown[8:16, 8:16].min() == 255
    assert np.count_nonzero(shown) == 64
    assert difference.caption.startswith("white is 0.5;")


def test_an_output_and_what_became_of_it_have_the_same_ends() -> None:
    source = np.zeros((1, 1, 1, 8, 8), np.float32)
    source[..., 4:] = 1
    figures = sample_rows({}, {"y": source}, {"y": source / 2}, "s")[0][1]
    assert pixels(figures[0].uri).max() == 255
    assert pixels(figures[1].uri).max() == 128


def test_channels_may_come_last() -> None:
    figures = sample_rows({"x": images().transpose(0, 1, 3, 4, 2)}, {}, {}, "")[0][1]
    assert pixels(figures[0].uri).shape == (128, 96, 3)


def test_class_scores_are_bars_and_a_changed_class_is_marked() -> None:
    scores = np.linspace(-1, 1, 10, dtype=np.float32).reshape(1, 1, 10)
    changed = scores.copy()
    changed[0, 0, 0] = 3
    same = sample_rows({}, {"y": scores}, {"y": scores}, "tflite_int8")[0][1][0]
    assert same.caption == "reference: class 9, tflite_int8: class 9"
    assert not same.bad
    assert same.chart.count("<rect") == 10
    other = sample_rows({}, {"y": scores}, {"y": changed}, "tflite_int8")[0][1][0]
    assert other.bad
    assert "class 0" in other.chart
    assert all(float(width) > 0 for width in re.findall(r'width="([\d.]+)"', other.chart))


def test_arrays_that_are_neither_are_left_out_and_nan_does_no_harm() -> None:
    assert sample_rows({"x": np.zeros((2, 1, 7))}, {"y": np.zeros((2, 1, 4, 9))}, {}, "") == []
    broken = np.full((1, 1, 3, 8, 8), np.nan, np.float32)
    assert len(sample_rows({}, {"y": images(1)[..., :8, :8]}, {"y": broken}, "s")[0][1]) == 4 - 1
    scores = np.array([[[np.nan, 1]]], np.float32)
    assert sample_rows({}, {"y": scores}, {}, "")[0][1][0].caption == "reference: class 1"


def test_the_page_shows_them() -> None:
    manifest, parity = reports_with_layers(3)
    source = images(2)
    page = render_html(manifest, parity, {"x": source}, {"y": source}, {"y": source})
    assert page.count("<img") == 8
    assert 'alt="y, difference, sample 1"' in page
    alone = render_html(manifest, parity, {"x": source}, {"y": source})
    assert alone.count("<img") == 4
