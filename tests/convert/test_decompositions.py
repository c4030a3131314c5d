"""Operators that torch's exporter lacks, against torch: in the ONNX file, and in TFLite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from edgeconv.convert.torch.decompositions import _GROUPS
from edgeconv.convert.torch.export import export
from edgeconv.convert.torch.model import from_module
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.pipeline.run import convert

pytestmark = pytest.mark.filterwarnings("ignore:index_reduce.. is in beta:UserWarning")

Function = Callable[[Tensor], Any]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def whole(*shape: int) -> Tensor:
    return torch.randint(-9, 10, shape, generator=torch.Generator().manual_seed(len(shape)))


def with_gaps(*shape: int) -> Tensor:
    x = normal(*shape)
    return torch.where(x > 0.7, torch.nan, x)


A, K = normal(4, 5), whole(4, 5)
BORDERS = torch.tensor([-1.0, 0.0, 0.5])
ROWS = torch.tensor([2, 0, 2])


def put(x: Tensor, places: Any, value: Any) -> Tensor:
    y = x.clone()
    y[places] = value
    return y


def masked_columns(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, x[0] > 0] = 2.5
    y[0, x[0] > 1] = -1
    return y


def filled_diagonal(x: Tensor) -> Tensor:
    y = x * 2
    y.fill_diagonal_(0.5, wrap=x.dim() == 2 and x.shape[0] > 8)
    return y + 1


def diagonals(x: Tensor) -> Tensor:
    y = x.clone()
    y.diagonal().add_(1)
    return y


# Every row of the tables: its name, a function that uses it, an input.
CASES: list[tuple[str, Function, Tensor]] = [
    ("cumprod", lambda x: torch.cumprod(x, 1), A),
    ("cumprod", lambda x: torch.cumprod(x, 0), whole(7)),
    ("cumprod", lambda x: torch.cumprod(x, -1, dtype=torch.float32), whole(2, 1)),
    ("cummax", lambda x: torch.cummax(x, 1), normal(2, 9)),
    ("cummax", lambda x: torch.cummax(x, 0), whole(9, 2)),
    ("cummin", lambda x: torch.cummin(x, -1), normal(2, 3, 6)),
    ("kthvalue", lambda x: torch.kthvalue(x, 2, 0, keepdim=True), A),
    ("median", torch.median, A),
    ("median.dim", lambda x: torch.median(x, 0), A),
    ("nanmedian", torch.nanmedian, with_gaps(4, 5)),
    ("nanmedian.dim", lambda x: torch.nanmedian(x, 1).values, with_gaps(6, 5)),
    ("mode", lambda x: torch.mode(x, 1), whole(6, 9)),
    ("sort.stable", lambda x: torch.sort(x, dim=0, stable=True, descending=True), A),
    ("searchsorted.Tensor", lambda x: torch.searchsorted(BORDERS, x, right=True), A),
    ("searchsorted.Tensor", lambda x: torch.searchsorted(x.sort(1)[0], x.flip(0)), A),
    ("searchsorted.Scalar", lambda x: torch.searchsorted(x.sort(1)[0][0], 0.25), A),
    ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 3), normal(1, 2, 7, 8)),
    ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, (2, 5)), normal(1, 2, 8, 7)),
    ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool1d(x, 4), normal(1, 2, 9)),
    (
        "adaptive_max_pool2d",
        lambda x: F.adaptive_max_pool2d(x, (3, 2), return_indices=True),
        normal(2, 1, 7, 5),
    ),
    ("adaptive_max_pool3d", lambda x: F.adaptive_max_pool3d(x, 3), normal(1, 2, 7, 5, 4)),
    ("_adaptive_avg_pool3d", lambda x: F.adaptive_avg_pool3d(x, 3), normal(1, 2, 7, 5, 4)),
    ("hypot", lambda x: torch.hypot(x, x + 1), A),
    ("copysign.Tensor", lambda x: torch.copysign(x, x + 0.5), A),
    ("copysign.Scalar", lambda x: torch.copysign(x, -2.0), A),
    ("erfinv", lambda x: torch.erfinv(x.clamp(-0.999, 0.999)), A),
    ("i0", lambda x: torch.i0(4 * x), A),
    ("lgamma", lambda x: torch.lgamma(3 * x), A),
    ("__rshift__.Scalar", lambda x: x >> 2, K),
    ("__rshift__.Tensor", lambda x: x >> (x % 4), K),
    ("__lshift__.Scalar", lambda x: x << 3, K),
    ("__lshift__.Tensor", lambda x: x << (x % 4), K.int()),
    ("bitwise_right_shift.Tensor", lambda x: torch.bitwise_right_shift(x, x % 3), K.int()),
    ("bitwise_right_shift.Tensor_Scalar", lambda x: torch.bitwise_right_shift(x, 1), K),
    ("bitwise_right_shift.Scalar_Tensor", lambda x: torch.bitwise_right_shift(-99, x % 5), K),
    ("bitwise_left_shift.Tensor", lambda x: torch.bitwise_left_shift(x, x % 3), K),
    ("bitwise_left_shift.Tensor_Scalar", lambda x: torch.bitwise_left_shift(x, 1), K),
    ("bitwise_left_shift.Scalar_Tensor", lambda x: torch.bitwise_left_shift(3, x % 5), K),
    ("_cdist_forward", lambda x: torch.cdist(x, x.flip(0) + 0.5), A),
    ("_cdist_forward", lambda x: torch.cdist(x, x + 0.5, p=1.0), normal(2, 3, 4)),
    ("_cdist_forward", lambda x: torch.cdist(x, x + 0.5, p=float("inf")), A),
    ("_pdist_forward", F.pdist, A),
    (
        "scatter_reduce.two",
        lambda x: torch.scatter_reduce(x, 0, ROWS[:, None].expand(3, 5), x[:3], "mean"),
        A,
    ),
    (
        "scatter_reduce.two",
        lambda x: x.scatter_reduce(
            0, ROWS[:, None].expand(3, 5), x[:3], "mean", include_self=False
        ),
        A,
    ),
    (
        "scatter_reduce.two",
        lambda x: torch.scatter_reduce(x, 0, ROWS[:, None].expand(3, 5), x[:3], "amax"),
        A,
    ),
    ("index_reduce", lambda x: torch.index_reduce(x, 0, ROWS, x[:3], "prod"), A),
    ("index_put", lambda x: put(x, x < -0.5, 0.25), A),
    ("index_put", lambda x: put(x, x[:, 1] > 0, x[0]), A),
    ("index_put", lambda x: put(x, x.abs() > 4, 7), K),
    ("index_put", lambda x: x.index_put((x > 0,), torch.tensor(2.0), accumulate=True), A),
    ("index_put", lambda x: put(x, (slice(None), [3, 0]), x[:, :2] * 2), A),
    ("index_put", masked_columns, A),
    ("diagonal_scatter", lambda x: torch.diagonal_scatter(x, x[0, :3], 2), A),
    ("diagonal_scatter", lambda x: torch.diagonal_scatter(x, x[1, :3], -1), A),
    (
        "diagonal_scatter",
        lambda x: torch.diagonal_scatter(x, 2 * x[0, :, :3], 1, 0, 2),
        normal(3, 2, 4),
    ),
    ("diagonal_scatter", diagonals, A),
    ("as_strided_scatter", filled_diagonal, A),
    ("as_strided_scatter", filled_diagonal, normal(9, 3)),
    ("as_strided_scatter", filled_diagonal, normal(3, 3, 3)),
    ("as_strided_scatter", lambda x: torch.as_strided_scatter(x, x[:2, :2], (2, 2), (6, 2), 1), A),
    ("inverse", torch.inverse, normal(2, 3, 3)),
    ("linalg_inv_ex", lambda x: torch.linalg.inv_ex(x).inverse, normal(3, 3)),
    ("linalg_inv", torch.linalg.inv, normal(4, 4)),
    ("linalg_solve", lambda x: torch.linalg.solve(x, x[..., :1]), normal(2, 2)),
    ("_linalg_solve_ex", lambda x: torch.linalg.solve_ex(x, x[..., 0]).result, normal(2, 2)),
    ("linalg_inv", lambda x: torch.linalg.inv(x) @ x, normal(1, 1)),
]
PORTION = 13
"""Cases that one model has; an export takes seconds."""

RECURRENT: dict[str, tuple[nn.Module, Tensor]] = {
    "projected": (nn.LSTM(5, 6, proj_size=3, batch_first=True), normal(2, 4, 5)),
    "projected both ways": (nn.LSTM(5, 6, 2, proj_size=3, bidirectional=True), normal(4, 2, 5)),
    "projected, no bias": (nn.LSTM(5, 6, bias=False, proj_size=2), normal(4, 5)),
    "lstm": (nn.LSTM(5, 6, 2, bidirectional=True, batch_first=True), normal(2, 4, 5)),
    "lstm, no bias": (nn.LSTM(5, 6, bias=False), normal(4, 2, 5)),
    "gru": (nn.GRU(5, 6, 2, bidirectional=True, batch_first=True), normal(2, 4, 5)),
    "gru, no bias": (nn.GRU(5, 6, bias=False), normal(4, 5)),
    "rnn": (nn.RNN(5, 6, 2, nonlinearity="relu", bidirectional=True), normal(4, 2, 5)),
}


class Of(nn.Module):
    """Functions of one input, as a module."""

    def __init__(self, *functions: Function) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, *xs: Tensor) -> tuple[Any, ...]:
        """Apply each to its input."""
        return tuple(function(x) for function, x in zip(self.functions, xs, strict=True))


def check(module: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> None:
    """Compare the ONNX file with PyTorch; torch's own exporter must have made it."""
    model = from_module(module, inputs)
    warnings: list[str] = []
    artifact = export(model, folder / "model.onnx", warn=warnings.append)
    assert not warnings
    session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    feeds = {spec.name: x.numpy() for spec, x in zip(artifact.inputs, inputs, strict=True)}
    found = session.run(None, feeds)
    for number, (expected, value) in enumerate(zip(model.run_examples(), found, strict=True)):
        assert (expected.shape, expected.dtype) == (value.shape, value.dtype), number
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5, err_msg=str(number))


def test_every_row_has_a_case() -> None:
    rows = {name for group in _GROUPS for name in group.TABLE}
    assert rows - {name for name, _, _ in CASES} == {"lstm.input"}
    for name in rows:
        packet, _, overload = name.partition(".")
        assert hasattr(getattr(torch.ops.aten, packet), overload or "default")


@pytest.mark.parametrize("first", range(0, len(CASES), PORTION))
def test_the_onnx_file_computes_what_torch_does(first: int, tmp_path: Path) -> None:
    cases = CASES[first : first + PORTION]
    functions = Of(*(function for _, function, _ in cases))
    check(functions, tuple(x for _, _, x in cases), tmp_path)


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name: str, tmp_path: Path) -> None:
    module, x = RECURRENT[name]
    check(module.eval(), (x,), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, len(CASES), PORTION))
def test_tflite_computes_what_torch_does(first: int, tmp_path: Path) -> None:
    cases = [case for case in CASES[first : first + PORTION] if not torch.isnan(case[2]).any()]
    module = Of(*(function for _, function, _ in cases))
    inputs = tuple(x for _, _, x in cases)
    verify = {f"xs_{number}": np.stack([x.numpy()] * 2) for number, x in enumerate(inputs)}
    job = Job(
        module, ConvertOptions(), example_inputs=inputs, verify_data=verify, output=tmp_path / "out"
    )
    result = convert(job)
    assert result.passed, [stage["reasons"] for stage in result.parity.to_dict()["stages"]]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "coral"])
@pytest.mark.parametrize("name", ["projected", "projected both ways", "gru, no bias"])
def test_recurrent_layers_in_int8(name: str, target: str, tmp_path: Path) -> None:
    module, x = RECURRENT[name]
    data = {"input": np.stack([normal(*x.shape).numpy() * scale for scale in (0.7, 1, 1.2)] * 4)}
    job = Job(
        module.eval(),
        ConvertOptions(quantize="int8", target=target),
        example_inputs=(x,),
        calibration_data=data,
        output=tmp_path / "out",
    )
    result = convert(job)
    assert result.passed, [stage["reasons"] for stage in result.parity.to_dict()["stages"]]
