"""What `--target coral` refuses and sets, and its way through the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeconv import convert, targets
from edgeconv.core import bundle
from edgeconv.core.artifacts import Array
from edgeconv.core.errors import UsageError
from edgeconv.core.options import ConvertOptions
from edgeconv.reports.text import render_text
from edgeconv.targets.options import options_of
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph
from tests.quantize.conftest import Lab

CORAL = targets.find("coral")


class Network(torch.nn.Module):
    """What PyTorch models have that the Edge TPU does not take as it is."""

    def __init__(self) -> None:
        super().__init__()
        conv = torch.nn.Conv2d
        self.first = conv(3, 8, 3, padding=1, padding_mode="reflect")
        self.grouped = conv(8, 8, 3, padding=1, groups=2)
        self.shuffle = torch.nn.ChannelShuffle(2)
        self.after = conv(8, 8, 1)
        self.prelu = torch.nn.PReLU(8)
        self.up = torch.nn.ConvTranspose2d(8, 16, 2, stride=2)
        self.pixels = torch.nn.PixelShuffle(2)
        self.pool = torch.nn.MaxPool2d(3, 2, padding=1)
        self.rows = torch.nn.Linear(4, 8)
        self.last = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = torch.nn.functional
        x = f.hardswish(self.first(x))
        x = f.gelu(self.after(self.shuffle(self.grouped(x))), approximate="tanh")
        x = self.prelu(x) + f.leaky_relu(x, 0.1) + f.elu(x) + f.silu(x) * f.hardsigmoid(x)
        x = self.pool(self.pixels(torch.relu(self.up(x)))[:, :, ::2, ::2])
        x = f.interpolate(x, scale_factor=2.0, mode="bilinear")
        x = f.interpolate(x, scale_factor=3.0) - x.abs().mean(1, keepdim=True).repeat(1, 1, 3, 3)
        y: torch.Tensor = self.last(torch.relu(self.rows(x.flatten(2).mT)).mean(1))
        return y


def _samples() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {"x": rng.normal(size=(12, 1, 3, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize(
    "options", [{"keep_float": ("ADD",)}, {"keep_int16": ("ADD",)}, {"recipe": "rules.toml"}]
)
def test_other_precisions_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r'target="coral" takes no (keep|recipe)'):
        CORAL.adapt(ConvertOptions(quantize="int8", **options))
    assert not CORAL.mixed_precision


@pytest.mark.parametrize("quantize", ["fp16", "dynamic", "weight-only", "int16x8"])
def test_float_models_are_refused(quantize: Any) -> None:
    with pytest.raises(UsageError, match="needs an int8 model"):
        CORAL.adapt(ConvertOptions(quantize=quantize))


def test_images_channels_first_are_refused() -> None:
    with pytest.raises(UsageError, match='needs io_layout="nhwc"'):
        CORAL.adapt(ConvertOptions(quantize="int8", io_layout="nchw"))


def test_defaults_become_integers_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    adapted = CORAL.adapt(ConvertOptions())
    assert (adapted.quantize, adapted.io_dtype) == ("int8", "int8")
    assert "--quantize int8 is used" in caplog.text
    assert "--io-dtype int8 is used" in caplog.text


def test_integer_options_stay_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    options = ConvertOptions(quantize="int8", io_dtype="uint8")
    assert CORAL.adapt(options) == options
    assert not caplog.text


def test_real_numbers_that_are_asked_for_stay(caplog: pytest.LogCaptureFixture) -> None:
    options = ConvertOptions(quantize="int8", io_dtype="float32")
    assert CORAL.adapt(options).io_dtype == "float32"
    assert not caplog.text


@pytest.mark.slow
def test_a_model_is_legalised_and_quantized_with_parity(tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = convert(
        Network().eval(),
        (torch.rand(1, 3, 8, 8),),
        target="coral",
        quantize="int8",
        calibration_data=_samples(),
        output=tmp_path / "out",
    )
    assert result.passed
    names = [stage["stage"] for stage in result.parity.to_dict()["stages"]]
    assert names == ["onnx", "saved_model", "tflite_fp32", "tflite_legalised", "tflite_int8"]
    assert result.model.inputs[0].dtype == "int8"
    entry = next(e for e in result.manifest["stages"] if e["name"] == "tflite_legalised")
    rewrites = {rewrite["name"] for rewrite in entry["rewrites"]}
    assert rewrites >= {
        "hard-swish", "grouped-convolution", "gelu-tanh", "mirror-padding",
        "pixel-shuffle", "leaky-relu", "elu", "linear-over-rows", "stepped-slice",
        "transposed-convolution-activation", "nearest-by-copies", "absolute-value",
    }  # fmt: skip
    text = " ".join(render_text(result.manifest, result.parity).split())
    assert "rewritten for the Edge TPU: 1 x absolute-value" in text
    assert "operators map to the Edge TPU, with 100.0 % of the multiplications" in text
    assert result.manifest["target"]["on_cpu"] == 0
    assert result.manifest["target"]["macs_share"] == 1
    assert not _kinds(result.model.path) & {"GELU", "HARD_SWISH", "DEQUANTIZE"}


class Detector(torch.nn.Module):
    """A backbone, a head whose boxes are decoded, and a class map."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.boxes = torch.nn.Conv2d(8, 4, 1)
        self.classes = torch.nn.Conv2d(8, 5, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        features = torch.relu(self.features(x))
        boxes, classes = self.boxes(features), self.classes(features)
        return torch.exp(boxes) * 2 + x[:, :1], classes.argmax(1), torch.sigmoid(classes)


@pytest.mark.slow
def test_the_end_is_cut_off_and_checked_with_the_rest(tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = convert(
        Detector().eval(),
        (torch.rand(1, 3, 8, 8),),
        target="coral",
        cut=("auto",),
        calibration_data=_samples(),
        output=tmp_path / "out",
        gates={"tflite_int8": {"exact": 0.5}},
    )
    assert result.passed, [stage["reasons"] for stage in result.parity.to_dict()["stages"]]
    tail = result.model.tail
    assert tail is not None
    assert tail.path.exists()
    assert {spec.dtype for spec in result.model.outputs} == {"int8"}
    kinds = {
        name: _kinds(path) for name, path in (("head", result.model.path), ("tail", tail.path))
    }
    assert {"EXP", "ARG_MAX"} <= kinds["tail"]
    assert not {"EXP", "ARG_MAX", "CAST", "GATHER"} & kinds["head"]
    assert "CONV_2D" not in kinds["tail"]
    names = [spec.name for spec in result.artifacts["tflite_fp32"].outputs]
    assert [spec.name for spec in result.model.results] == names
    last = result.parity.to_dict()["stages"][-1]
    assert len(last["outputs"]) == 3
    assert "left to the CPU as a model of its own" in " ".join(
        result.manifest["stages"][3]["notes"]
    )
    assert bundle.open_bundle(result.path).artifacts["tflite_int8"] == result.model


def test_a_cut_needs_a_target() -> None:
    with pytest.raises(UsageError, match="cut needs a target other than cpu"):
        options_of({"cut": ("x",)})


def _kinds(path: Path) -> set[str]:
    graph = Graph(tflite.load(path))
    return {graph.op(operator) for operator in graph.operators}


def test_what_does_not_map_is_told_with_the_next_step(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    model = lab.model()
    x = model.op("GELU", model.op("LEAKY_RELU", model.input(1, 4, 4, 4)))
    for _ in range(2):
        x = model.op("RELU", model.op("LEAKY_RELU", x))
    artifact = lab.save(model, x)
    rows = [[np.random.default_rng(seed).random((1, 4, 4, 4), np.float32) / 9] for seed in range(4)]
    notes = CORAL.assess(lab.quantize(artifact, rows, io_dtype="int8")).notes
    assert notes[0].startswith("predicted: 0 of 6 operators map")
    assert "the compiler would refuse the model: 1 x GELU" in notes[1]
    assert "--allow-approximate" in notes[1]
    model = lab.model()
    artifact = lab.save(
        model, model.op("RELU", model.op("LEAKY_RELU", model.op("RELU", model.input(1, 4, 4, 4))))
    )
    assessed = CORAL.assess(lab.quantize(artifact, rows, io_dtype="int8"))
    assert assessed.data["on_cpu"] == 2
    assert "not mapped: 1 x LEAKY_RELU" in assessed.notes[1]
    assert "strands 1 others" in assessed.notes[1]
