"""Samples as people see them: images as small pictures, class scores as bars."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeconv.core.artifacts import Array, Arrays
from edgeconv.reports.charts import score_chart

_MOST = 4
_BARS = 5
_SIDE = 128
_SMALLEST = 8
_COLOURS = (1, 3)


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture or a chart of one sample.

    Attributes:
        label: What it shows, ``"input image"``.
        caption: What is to be said of it.
        uri: The picture as a ``data:`` URI, ``""`` where it is a chart.
        chart: The chart as SVG, ``""`` where it is a picture.
        bad: Whether it shows a disagreement.
    """

    label: str
    caption: str = ""
    uri: str = ""
    chart: str = ""
    bad: bool = False


def sample_rows(
    inputs: Arrays, outputs: Arrays, found: Arrays, stage: str
) -> list[tuple[int, list[Figure]]]:
    """Return the first samples with what can be seen of them.

    An array ``[sample, 1, C, H, W]`` or ``[sample, 1, H, W, C]`` of one or three channels is an
    image, one ``[sample, 1, C]`` of real numbers are class scores. Other arrays are left out.

    Args:
        inputs: Samples by input name, ``[sample, ...]``, as the source model takes them.
        outputs: The reference's outputs for them.
        found: The outputs of a stage; empty where they are not known any more.
        stage: Name of the stage.

    Returns:
        Per sample its number and its figures; none where no array is an image or class scores.
    """
    count = min((len(array) for array in (*inputs.values(), *outputs.values())), default=0)
    rows = []
    for index in range(min(_MOST, count)):
        figures = [
            Figure(f"input {name}", uri=_uri(image, image))
            for name, array in inputs.items()
            if (image := _image(array, index)) is not None
        ]
        for name, array in outputs.items():
            figures += _of_output(name, array, found.get(name), index, stage)
        if figures:
            rows.append((index, figures))
    return rows


def _of_output(
    name: str, reference: Array, found: Array | None, index: int, stage: str
) -> list[Figure]:
    known = found if found is not None and found.shape == reference.shape else None
    image = _image(reference, index)
    if image is not None:
        other = None if known is None else _image(known, index)
        return _compared(name, image, other, stage)
    if reference.ndim == 3 and reference.shape[2] >= 2 and reference.dtype.kind == "f":
        return [_scores(name, reference[index], None if known is None else known[index], stage)]
    return []


def _compared(name: str, image: Array, other: Array | None, stage: str) -> list[Figure]:
    """Return an output's image, the stage's, both between the same ends, and their difference."""
    figures = [Figure(f"{name}, reference", uri=_uri(image, image))]
    if other is None:
        return figures
    difference = np.nan_to_num(np.abs(other.astype(np.float64) - image)).max(axis=-1, keepdims=True)
    ends = np.array([0.0, max(float(difference.max()), 1e-12)])
    return [
        *figures,
        Figure(f"{name}, {stage}", uri=_uri(other, image)),
        Figure(
            f"{name}, difference",
            f"white is {difference.max():.3g}; values span {np.ptp(image):.3g}",
            _uri(difference, ends),
        ),
    ]


def _scores(name: str, reference: Array, found: Array | None, stage: str) -> Figure:
    """Return the largest scores of the first row as bars."""
    first = np.nan_to_num(reference[0].astype(np.float64))
    shown: list[int] = np.argsort(-first, kind="stable")[:_BARS].tolist()
    top, caption = shown[0], f"reference: class {shown[0]}"
    if found is None:
        return Figure(name, caption, chart=score_chart(name, _bars(shown, first)))
    second = np.nan_to_num(found[0].astype(np.float64))
    ours = int(second.argmax())
    if ours not in shown:
        shown[-1] = ours
    caption += f", {stage}: class {ours}"
    return Figure(
        name, caption, chart=score_chart(name, _bars(shown, first, second)), bad=ours != top
    )


def _bars(classes: Sequence[int], *scores: Array) -> Mapping[str, Sequence[float]]:
    return {f"class {place}": [float(array[place]) for array in scores] for place in classes}


def _image(array: Array, index: int) -> Array | None:
    """Return a sample ``[H, W, C]`` where it is an image."""
    if array.ndim != 5 or array.dtype.kind != "f" or array.shape[1] != 1:
        return None
    one: Array = array[index, 0]
    if one.shape[0] in _COLOURS and min(one.shape[1:]) >= _SMALLEST:
        return np.moveaxis(one, 0, -1)
    if one.shape[2] in _COLOURS and min(one.shape[:2]) >= _SMALLEST:
        return one
    return None


def _uri(image: Array, ends: Array) -> str:
    """Return an image ``[H, W, C]`` as a PNG, from the darkest to the brightest of `ends`."""
    from PIL import Image

    low, high = (float(end(np.nan_to_num(ends.astype(np.float64)))) for end in (np.min, np.max))
    pixels = np.nan_to_num(image.astype(np.float64))
    share = ((pixels - low) / max(high - low, 1e-12)).clip(0, 1)
    scaled = np.rint(255 * share).astype(np.uint8)
    picture = Image.fromarray(scaled[..., 0] if scaled.shape[-1] == 1 else scaled)
    factor = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    kind = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BILINEAR
    buffer = io.BytesIO()
    picture.resize(size, kind).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
