"""An exported resize makes the elements that PyTorch makes, whatever the factor or the size."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from edgeconv.convert.torch.resizes import as_torch


class Wrapped(torch.nn.Module):
    def __init__(self, resizes: list[dict[str, Any]]) -> None:
        super().__init__()
        self.resizes = resizes

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(functional.interpolate(x, **resize) for resize in self.resizes)


def assert_as_torch(x: Tensor, *resizes: dict[str, Any]) -> list[str]:
    """Export, mend, run in onnxruntime, and compare; return the operators."""
    module = Wrapped(list(resizes)).eval()
    program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    assert program is not None
    assert program.exported_program is not None
    as_torch(program.model, program.exported_program)
    content = ir.to_proto(program.model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for resize, array, expected in zip(resizes, found, module(x), strict=True):
        np.testing.assert_allclose(
            array, expected.numpy(), 1e-4, 1e-3, strict=True, err_msg=str(resize)
        )
    return [node.op_type for node in program.model.graph]


def numbered(*shape: int) -> Tensor:
    return torch.arange(float(np.prod(shape))).reshape(1, 1, *shape)


def test_a_file_that_agrees_stays_as_it_is() -> None:
    operators = assert_as_torch(
        numbered(9, 11),
        {"scale_factor": 1.7, "mode": "nearest"},
        {"scale_factor": 2.0, "mode": "bilinear"},
        {"size": (13, 14), "mode": "bicubic"},
    )
    assert operators == ["Resize"] * 3


@pytest.mark.parametrize(
    ("shape", "resize", "operators"),
    [
        ((24, 24), {"size": (104, 104), "mode": "nearest"}, ["Gather", "Gather"]),
        ((31, 52), {"scale_factor": (2.3, 3.7), "mode": "nearest"}, ["Gather", "Gather"]),
        ((50,), {"scale_factor": 4.64, "mode": "nearest"}, ["Gather"]),
        ((50, 4), {"scale_factor": (4.64, 1.0), "mode": "bilinear"}, ["MatMul"]),
        ((9, 8), {"scale_factor": 0.37, "mode": "bilinear", "antialias": True}, ["MatMul"] * 2),
        ((3, 24, 24), {"size": (3, 104, 104), "mode": "nearest"}, ["Gather", "Gather"]),
        ((50, 3, 4), {"scale_factor": (4.64, 1.0, 1.0), "mode": "trilinear"},
         ["Transpose", "MatMul", "Transpose"]),
    ],
)  # fmt: skip
def test_what_differs_is_written_as_it_is(
    shape: tuple[int, ...], resize: dict[str, Any], operators: list[str]
) -> None:
    assert assert_as_torch(numbered(*shape), resize) == operators


_MODES = {1: ["nearest", "linear"], 2: ["nearest", "bilinear", "bicubic"], 3: ["nearest"]}


@st.composite
def _resize(draw: st.DrawFn, size: int, axes: int) -> dict[str, Any]:
    mode = draw(st.sampled_from(_MODES[axes]))
    how: dict[str, Any] = {"mode": mode}
    if mode != "nearest":
        how["align_corners"] = draw(st.booleans())
    if mode in ("bilinear", "bicubic"):
        how["antialias"] = draw(st.booleans())
    if draw(st.booleans()):
        # torch's exporter loses a resize to one element that is antialiased with aligned corners.
        least = 2 if how.get("align_corners") and how.get("antialias") else 1
        return {**how, "size": draw(st.integers(least, 90))}
    digits = draw(st.integers(1, 3))
    least = max(10**digits // size + 1, 10**digits // 5)
    return {**how, "scale_factor": draw(st.integers(least, 4 * 10**digits)) / 10**digits}


@pytest.mark.slow
@settings(max_examples=4, deadline=None, derandomize=True)
@example(1, 24, None)
@given(st.integers(1, 3), st.integers(1, 40), st.data())
def test_any_factor_and_size(axes: int, size: int, data: st.DataObject | None) -> None:
    """Each program has a dozen resizes, because an export takes a second."""
    if data is None:
        resizes = [{"mode": "nearest", "size": out} for out in range(1, 150, 3)]
    else:
        size = min(size, 12) if axes == 3 else size
        resizes = data.draw(st.lists(_resize(size, axes), min_size=12, max_size=12))
    assert_as_torch(numbered(*[size] * axes), *resizes)
