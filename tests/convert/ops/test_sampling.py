"""Sampling at points computed at run time equals onnxruntime's or torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgeconv.core.errors import UnsupportedModel

MODES = ["linear", "nearest", "cubic"]
PADDINGS = ["zeros", "border", "reflection"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("corners", [0, 1])
def test_grids(assert_any_layout: Any, mode: str, padding: str, corners: int) -> None:
    grid = np.random.default_rng(1).uniform(-1.6, 1.6, (2, 3, 5, 2))
    assert_any_layout(
        f"""g (float[2,3,4,6] x, float[2,3,5,2] grid) => (float[2,3,3,5] y) {{
        y = GridSample <mode = "{mode}", padding_mode = "{padding}", align_corners = {corners}>
            (x, grid) }}""",
        {"grid": grid},
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("mode", MODES)
def test_grids_in_tflite(assert_parity: Any, mode: str) -> None:
    grid = np.random.default_rng(1).uniform(-1.6, 1.6, (1, 3, 5, 2))
    assert_parity(
        f"""g (float[1,3,4,6] x, float[1,3,5,2] grid) => (float[1,3,3,5] y) {{
        y = GridSample <mode = "{mode}"> (x, grid) }}""",
        {"grid": grid},
        rtol=1e-4,
        atol=1e-4,
    )


def test_volumes(assert_any_layout: Any) -> None:
    grid = np.random.default_rng(1).uniform(-1.4, 1.4, (1, 2, 3, 2, 3))
    assert_any_layout(
        """g (float[1,2,3,4,5] x, float[1,2,3,2,3] grid) => (float[1,2,2,3,2] y) {
        y = GridSample <align_corners = 1> (x, grid) }""",
        {"grid": grid},
        rtol=1e-4,
        atol=1e-4,
    )


def test_axes_of_one_element(assert_any_layout: Any) -> None:
    assert_any_layout(
        """g (float[1,2,1,5] x, float[1,2,3,2] grid) => (float[1,2,2,3] y) {
        y = GridSample <align_corners = 1, padding_mode = "border"> (x, grid) }""",
    )


def test_affine_grid(assert_parity: Any) -> None:
    parity = assert_parity("""g (float[2,2,3] theta) => (float[2,3,4,2] y)
        <int64[4] size = {2, 1, 3, 4}> { y = AffineGrid(theta, size) }""")
    theta = np.random.default_rng(0).standard_normal((2, 2, 3)).astype(np.float32)
    expected = torch.nn.functional.affine_grid(
        torch.from_numpy(theta), [2, 1, 3, 4], align_corners=False
    )
    np.testing.assert_allclose(parity.outputs["y"], expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("groups", "offset_groups"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_deformable_convolution(assert_any_layout: Any, groups: int, offset_groups: int) -> None:
    text = f"""g (float[2,4,5,6] x, float[6,{4 // groups},3,2] w,
        float[2,{offset_groups * 12},3,5] offset, float[6] b, float[2,{offset_groups * 6},3,5] m)
        => (float[2,6,3,5] y) {{
        y = DeformConv <group = {groups}, offset_group = {offset_groups}, strides = [2, 1],
            pads = [1, 0, 1, 0], dilations = [1, 1]> (x, w, offset, b, m) }}"""
    assert_any_layout(text, opset=19, reference="onnx", rtol=1e-3, atol=1e-4)


def test_deformable_convolution_in_tflite(assert_parity: Any) -> None:
    text = """g (float[1,2,5,5] x, float[1,18,3,3] offset) => (float[1,2,3,3] y)
        <float[2,2,3,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8, 7, 6, 5, 4,
         3, 2, 1, 9, 8, 7, 6, 5, 4, 3, 2, 1}> { y = DeformConv(x, w, offset) }"""
    assert_parity(text, opset=19, reference="onnx", rtol=1e-4, atol=1e-4)


ROIS = [[0, 0, 5, 4], [1.5, 2.5, 9, 7], [-2, -1, 3, 3], [4, 4, 4.2, 4.1]]


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transform", ["half_pixel", "output_half_pixel"])
def test_regions(assert_any_layout: Any, mode: str, transform: str) -> None:
    assert_any_layout(
        f"""g (float[2,3,8,9] x, float[4,4] r, int64[4] b) => (float[4,3,2,3] y) {{
        y = RoiAlign <mode = "{mode}", coordinate_transformation_mode = "{transform}",
            output_height = 2, output_width = 3, sampling_ratio = 2, spatial_scale = 0.9>
            (x, r, b) }}""",
        {"r": ROIS, "b": [0, 1, 1, 0]},
        reference="onnx",
        rtol=1e-4,
        atol=1e-4,
    )


def test_regions_in_tflite(assert_parity: Any) -> None:
    text = """g (float[2,3,8,9] x, float[4,4] r, int64[4] b) => (float[4,3,2,3] y) {
        y = RoiAlign <output_height = 2, output_width = 3, sampling_ratio = 2> (x, r, b) }"""
    assert_parity(text, {"r": ROIS, "b": [0, 1, 1, 0]}, rtol=1e-4, atol=1e-4)


def test_adaptive_sampling_is_refused(assert_parity: Any) -> None:
    text = "g (float[1,1,8,9] x, float[1,4] r, int64[1] b) => (float[1,1,1,1] y) "
    with pytest.raises(UnsupportedModel, match="sampling_ratio=0"):
        assert_parity(text + "{ y = RoiAlign(x, r, b) }", {"b": [0]})


@pytest.mark.parametrize("centered", [0, 1])
def test_suppression_has_a_run_time_length(assert_parity: Any, centered: int) -> None:
    random = np.random.default_rng(3)
    corner, extent = random.uniform(0, 5, (2, 8, 2)), random.uniform(1, 4, (2, 8, 2))
    boxes = np.concatenate([corner, extent if centered else corner + extent], axis=2)
    assert_parity(
        f"""g (float[2,8,4] boxes, float[2,3,8] scores) => (int64[n,3] y)
        <int64[1] most = {{4}}, float[1] iou = {{0.3}}, float[1] least = {{0.2}}> {{
        y = NonMaxSuppression <center_point_box = {centered}>
            (boxes, scores, most, iou, least) }}""",
        {"boxes": boxes, "scores": random.uniform(0, 1, (2, 3, 8))},
    )
