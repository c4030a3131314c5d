"""Operators of object detectors. Source of the semantics: ONNX operator spec of each."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.interpolate_at import Bounds, linear_taps, pixels_at, weighted_sum
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged
from edgeconv.convert.translate.view import DYNAMIC
from edgeconv.core.wording import named


@op("RoiAlign", since=10)
def roi_align_from_corners(
    g: Context,
    x: Value,
    rois: Value,
    batch_indices: Value,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Value:
    """RoiAlign up to opset 15: coordinates count from the first pixel's centre."""
    return roi_align(
        g, x, rois, batch_indices, coordinate_transformation_mode="output_half_pixel", mode=mode,
        output_height=output_height, output_width=output_width, sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )  # fmt: skip


@op("RoiAlign", since=16)
def roi_align(
    g: Context,
    x: Value,
    rois: Value,
    batch_indices: Value,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Value:
    """RoiAlign: x [N, C, H, W], rois [R, 4] as x1, y1, x2, y2."""
    if DYNAMIC in x.shape or DYNAMIC in rois.shape:
        raise Unsupported("a shape known at run time only", f"give {named('input_shapes')}")
    if sampling_ratio <= 0:
        raise Unsupported(
            "sampling_ratio=0 samples each region as its size demands, which is known at run time",
            "set sampling_ratio, 2 is usual",
        )
    aligned = coordinate_transformation_mode == "half_pixel"
    count, (height, width) = rois.shape[0], x.shape[2:]
    corners = tf.reshape(arranged(rois, (0, 1)), (count, 2, 2)) * np.float32(spatial_scale)
    corners = corners - np.float32(0.5) if aligned else corners
    extent = corners[:, 1] - corners[:, 0]
    extent = extent if aligned else tf.maximum(extent, np.float32(1))
    grid = _sample_grid(output_height, output_width, sampling_ratio)
    points = tf.reverse(corners[:, :1], [2]) + tf.reverse(extent, [1])[:, None] * grid
    sizes = np.array([height, width], np.float32)
    inside = tf.reduce_all((points >= -1) & (points <= sizes), axis=2, keepdims=True)
    bounds = Bounds.of((height, width), zeros=False)
    base = tf.cast(arranged(batch_indices, (0,), (count, 1, 1)), tf.int32) * (height * width)
    pixels, weight = pixels_at(arranged(x, (0, 2, 3, 1)), linear_taps(points, bounds), base, bounds)
    weight = weight * tf.cast(inside, tf.float32)
    y = (
        weighted_sum(pixels, weight)
        if mode == "avg"
        else tf.reduce_max(pixels * weight[..., None], axis=2)
    )
    ratio = sampling_ratio
    samples = tf.reshape(y, (count, output_height * ratio, output_width * ratio, x.shape[1]))
    pool = tf.nn.avg_pool2d if mode == "avg" else tf.nn.max_pool2d
    result = pool(samples, ratio, ratio, "VALID") if ratio > 1 else samples
    return Value.of(result, (0, 2, 3, 1))


def _sample_grid(height: int, width: int, ratio: int) -> Tensor:
    """Return where samples lie in a region whose sides are 1, [1, samples, (y, x)]."""
    rows, columns = ((np.arange(size * ratio) + 0.5) / (size * ratio) for size in (height, width))
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    return grid.reshape(1, -1, 2).astype(np.float32)


@op("MaxRoiPool")
def max_roi_pool(
    g: Context, x: Value, rois: Value, *, pooled_shape: tuple[int, int], spatial_scale: float = 1.0
) -> Value:
    """MaxRoiPool: refused, the windows' sizes are known at run time only."""
    raise Unsupported(
        "the size of each window is known at run time only", "use RoiAlign with a sampling ratio"
    )


@op("NonMaxSuppression", since=10)
def non_max_suppression(
    g: Context,
    boxes: Value,
    scores: Value,
    max_output_boxes_per_class: Value | None = None,
    iou_threshold: Value | None = None,
    score_threshold: Value | None = None,
    *,
    center_point_box: int = 0,
) -> Value:
    """NonMaxSuppression: boxes [N, B, 4], scores [N, classes, B]; rows of batch, class, box.

    How many rows there are is known at run time only, which TFLite allows.
    """
    most = (
        0
        if max_output_boxes_per_class is None
        else g.integers(max_output_boxes_per_class, "max_output_boxes_per_class")[0]
    )
    overlap = 0.0 if iou_threshold is None else g.constant(iou_threshold, "iou_threshold").item()
    least = (
        -np.inf
        if score_threshold is None
        else float(g.constant(score_threshold, "score_threshold").item())
    )
    batch, classes, count = scores.shape
    corners = arranged(boxes, (0, 1, 2))
    if center_point_box:
        middle, half = corners[..., :2], corners[..., 2:] / 2
        corners = tf.concat([middle - half, middle + half], axis=2)
    table = arranged(scores, (0, 1, 2))
    rows = [
        _selected(corners[n], table[n, c], (n, c), (min(most, count), overlap, least))
        for n in range(batch)
        for c in range(classes)
    ]
    y = rows[0] if len(rows) == 1 else tf.concat(rows, axis=0)
    return Value(y, Value.of(y).view, nonnegative=True)


def _selected(
    boxes: Tensor, scores: Tensor, place: tuple[int, int], limits: tuple[int, float, float]
) -> Tensor:
    """Return the rows of one class of one image."""
    most, overlap, least = limits
    # ONNX suppresses above the threshold, LiteRT from it on: the next number does for both.
    above = min(np.nextafter(np.float32(overlap), np.float32(2)), np.float32(1))
    chosen, valid = tf.raw_ops.NonMaxSuppressionV4(
        boxes=boxes,
        scores=scores,
        max_output_size=most,
        iou_threshold=above,
        score_threshold=max(least, float(np.finfo(np.float32).min)),
        pad_to_max_output_size=True,
    )
    head = np.broadcast_to(np.array(place, np.int64), (most, 2))
    rows = tf.concat([head, tf.cast(chosen, tf.int64)[:, None]], axis=1)
    return rows[:valid]
