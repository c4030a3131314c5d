"""Mean and standard deviation go into the first layer, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeconv.convert.onnx.file import describe_onnx
from edgeconv.convert.onnx.fold_input import fold_input
from edgeconv.core.artifacts import Array
from edgeconv.core.errors import ConversionError
from edgeconv.core.preprocess import Preprocessing

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET = Preprocessing(_MEAN, _STD, 1, "")


def exported(
    network: nn.Module, path: Path, shape: tuple[int, ...], *, batch: bool = False
) -> Path:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    dynamic = ({0: torch.export.Dim("batch")},) if batch else None
    example = torch.rand(2 if batch else shape[0], *shape[1:])
    torch.onnx.export(
        network.eval(), (example,), str(path), dynamo=True, dynamic_shapes=dynamic, verbose=False,
        input_names=["x"],
    )  # fmt: skip
    proto = onnx.load(str(path))
    onnx.save(onnx.shape_inference.infer_shapes(proto), str(path))
    return path


def run(path: Path, array: Array) -> Array:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: array})[0])


def check(path: Path, shape: tuple[int, ...], preprocessing: Preprocessing) -> onnx.ModelProto:
    """Fold, and compare what bytes give with what they gave preprocessed."""
    raw = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    expected = run(path, preprocessing.normalised(raw[np.newaxis])[0])
    fold_input(describe_onnx(path), {"x": preprocessing})
    found = run(path, raw)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4 * np.abs(expected).max())
    return onnx.load(str(path))


class Focus(nn.Module):
    """Every second pixel into channels of its own, as YOLOv5 begins."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]
        return torch.as_tensor(self.conv(torch.cat(parts, 1)))


class Branches(nn.Module):
    """Two layers that read the image, one of them pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(
            self.one(x)[..., ::2, ::2] + self.two(nn.functional.avg_pool2d(x, 2))
        )


class Patches(nn.Module):
    """Rows of patches into a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(48, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, 3, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 4, 48)
        return torch.as_tensor(self.dense(rows))


class OwnScale(nn.Module):
    """A model that scales its input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(
            self.conv((1.5 - x) * 2.0 / torch.tensor([1.0, 2, 3])[:, None, None])
        )


@pytest.mark.slow
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    "network",
    [
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(3, 4, 3, padding=1, stride=2),
        nn.Conv2d(3, 4, (3, 5), padding=(0, 2), bias=False),
        nn.Conv2d(3, 6, 3, padding=2, dilation=2, groups=3),
        nn.Sequential(nn.ZeroPad2d((0, 1, 1, 2)), nn.Conv2d(3, 4, 3)),
        nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(3, 4, 3)),
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)),
        nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, padding=1)),
        nn.Sequential(nn.Upsample(scale_factor=2.0, mode="bilinear"), nn.Conv2d(3, 4, 3)),
        nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 3, padding=1)),
        nn.Sequential(nn.Flatten(), nn.Linear(192, 7)),
        Focus(),
        Branches(),
        Patches(),
        OwnScale(),
    ],
)
def test_bytes_give_what_they_gave_preprocessed(
    tmp_path: Path, network: nn.Module, batch: bool
) -> None:
    path = exported(network, tmp_path / "m.onnx", (1, 3, 8, 8), batch=batch)
    check(path, (1, 3, 8, 8), _IMAGENET)


@pytest.mark.parametrize("preprocessing", [
    Preprocessing((0.5,), (0.5,), 1, ""), Preprocessing((0.0,), (1.0,), 1, ""), _IMAGENET,
])  # fmt: skip
def test_no_operator_is_left_of_it(tmp_path: Path, preprocessing: Preprocessing) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    path = graph(tmp_path, "{ y = Conv<pads=[1,1,1,1]>(x, w) }", weight=weight)
    model = check(path, (1, 3, 8, 8), preprocessing)
    kinds = [node.op_type for node in model.graph.node]
    if not any(preprocessing.mean):
        assert kinds == ["Conv"]
    elif len(preprocessing.mean) == 1:
        assert kinds == ["Pad", "Conv"]
    else:
        assert kinds == ["Concat", "Concat", "Conv"]


def graph(
    tmp_path: Path,
    body: str,
    extra: str = "",
    shape: tuple[int, ...] = (1, 3, 8, 8),
    weight: Array | None = None,
) -> Path:
    dims = ",".join(map(str, shape))
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
        g (float[{dims}] x{extra}) => (float[a,b,c,d] y) {body}"""
    model = onnx.parser.parse_model(text)
    if weight is not None:
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(onnx.shape_inference.infer_shapes(model), str(tmp_path / "m.onnx"))
    return tmp_path / "m.onnx"


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    stride=st.integers(1, 3), dilation=st.integers(1, 2), channels=st.sampled_from([1, 3, 4]),
    size=st.tuples(st.integers(7, 12), st.integers(7, 12)), uniform=st.booleans(),
)  # fmt: skip
def test_any_convolution(
    tmp_path_factory: pytest.TempPathFactory,
    kernel: tuple[int, int],
    padding: list[int],
    stride: int,
    dilation: int,
    channels: int,
    size: tuple[int, int],
    uniform: bool,
) -> None:
    attributes = f"pads={padding}, strides=[{stride},{stride}], dilations=[{dilation},{dilation}]"
    body = f"{{ y = Conv<{attributes}>(x, w) }}"
    shape, random = (1, channels, *size), np.random.default_rng(1)
    weight = random.standard_normal((3, channels, *kernel)).astype(np.float32)
    path = graph(tmp_path_factory.mktemp("conv"), body, shape=shape, weight=weight)
    count = 1 if uniform else channels
    means, stds = random.uniform(0, 1, count), random.uniform(0.1, 1, count)
    check(path, shape, Preprocessing(tuple(means), tuple(stds), 1, ""))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{ y = Sigmoid(x) }", "Sigmoid"),
        ("{ y = Identity(x) }", "what the input is made of"),
        ("{ y = Add(x, x) }", "none that mean"),
        ("{ a = Relu(x) y = Concat<axis=1>(a, x) }", "Relu"),
        ("{ y = Conv(x, w) }", "known at run time only"),
    ],
)
def test_what_cannot_be_folded_is_refused(tmp_path: Path, body: str, message: str) -> None:
    path = graph(tmp_path, body, ", float[4,3,3,3] w" if "w" in body else "")
    before = path.read_bytes()
    with pytest.raises(ConversionError, match="cannot be folded") as caught:
        fold_input(describe_onnx(path), {"x": _IMAGENET})
    assert message in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding(tmp_path: Path, pad: str) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3, 4, 3)).astype(np.float32)
    body = f'{{ y = Conv<auto_pad="{pad}", strides=[2,2]>(x, w) }}'
    check(graph(tmp_path, body, weight=weight), (1, 3, 8, 8), _IMAGENET)
