"""--preprocess fold: bytes go in, and what comes out is what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

import edgeconv
from edgeconv.core.artifacts import Array, TensorSpec
from edgeconv.core.errors import ConversionError, InvalidData, UsageError
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.core.roles import Kind, Role
from edgeconv.parity.bundle import VerifyOptions, verify_bundle
from edgeconv.samples.generate import generate_arrays
from edgeconv.sources.samples import data_for

IMAGE = TensorSpec.plain("x", (1, 3, 32, 32), "float32")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(count: int, seed: int = 0) -> Array:
    """Return pictures in bytes, ``[count, 1, 3, 32, 32]``."""
    role = Role(Kind.IMAGE, high=(255.0,))
    return generate_arrays([IMAGE], count, seed, {"x": role})["x"]


def normalised(raw: Array) -> Array:
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (MEAN, STD))
    return np.asarray((raw / 255 - mean) / std, np.float32)


def network() -> nn.Module:
    """A small MobileNet: its first convolution pads."""
    torch.manual_seed(3)

    def block(before: int, after: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False),
            nn.BatchNorm2d(before), nn.ReLU6(),
            nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU6(),
        ]  # fmt: skip

    first = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 6)]
    net = nn.Sequential(*first, *block(8, 16, 1), *block(16, 32, 2), *end)
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None
        net.train()(torch.from_numpy(normalised(pictures(32))[:, 0]))
    return net.eval()


def lowest_db(result: Any) -> float:
    stage = next(one for one in result.parity.to_dict()["stages"] if one["stage"] == "tflite_int8")
    return float(min(item["sqnr_db"] for item in stage["outputs"]))


def run_bytes(path: Path, raw: Array) -> Array:
    """Feed bytes by hand, as a camera does."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for image in raw:
        interpreter.set_tensor(given["index"], image.transpose(0, 2, 3, 1).astype(given["dtype"]))
        interpreter.invoke()
        rows.append(interpreter.get_tensor(made["index"]))
    scale, zero = made["quantization"]
    return (
        np.stack(rows).astype(np.float64) if not scale else (np.stack(rows) - float(zero)) * scale
    )


def sqnr(expected: Array, found: Array) -> float:
    noise = np.square(expected - found).sum()
    return float(10 * np.log10(np.square(expected).sum() / noise))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "coral"])
def test_bytes_fed_by_hand_give_what_floats_gave(tmp_path: Path, target: str) -> None:
    net, raw, unseen = network(), pictures(48), pictures(12, 9)
    example = torch.from_numpy(normalised(raw)[0])
    arguments: dict[str, Any] = {
        "quantize": "int8", "io_dtype": "uint8", "layers": False, "target": target,
        "calibration_data": normalised(raw), "verify_data": normalised(unseen),
    }  # fmt: skip
    plain = edgeconv.convert(net, example, output=tmp_path / "plain", **arguments)
    fold = edgeconv.convert(net, example, output=tmp_path / "f", preprocess="fold", **arguments)
    spec = fold.artifacts["tflite_int8"].inputs[0]
    assert spec.quantization is not None
    assert (spec.dtype, spec.quantization.scale, spec.quantization.zero_point) == ("uint8", 1.0, 0)
    assert fold.parity.to_dict()["verdict"] == "pass"
    with torch.no_grad():
        expected = net(torch.from_numpy(normalised(unseen)[:, 0])).numpy()[:, np.newaxis]
    found = run_bytes(fold.artifacts["tflite_int8"].path, unseen)
    by_hand = sqnr(expected, found)
    assert by_hand == pytest.approx(lowest_db(fold), abs=0.1)
    assert by_hand > lowest_db(plain) - 1.5
    floats = run_bytes(fold.artifacts["tflite_fp32"].path, unseen)
    assert sqnr(expected, floats) > 90
    vectors = np.load(fold.path / "vectors.npz")
    name = fold.manifest["inputs"][0]["name"]
    np.testing.assert_array_equal(vectors[f"input/{name}"], unseen)
    assert fold.manifest["data"]["preprocessing"][name]["mean"] == pytest.approx(MEAN)
    again = verify_bundle(fold.path, VerifyOptions(layers=False))
    assert again.parity.to_dict()["verdict"] == "pass"


def data(**more: Any) -> Any:
    return data_for(Job("m", ConvertOptions(preprocess="fold"), **more), (IMAGE,))


def test_samples_become_bytes_whatever_form_they_have(tmp_path: Path) -> None:
    raw = pictures(8)
    np.save(tmp_path / "bytes.npy", raw.astype(np.uint8))
    for source in (raw, normalised(raw), raw / np.float32(255), str(tmp_path / "bytes.npy")):
        given = {"image_mean": MEAN, "image_std": STD} if source is raw else {}
        if isinstance(source, str):
            given = {"image_mean": MEAN, "image_std": STD}
        found = data(calibration_data=source, **given)
        np.testing.assert_array_equal(found.calibration.arrays["x"], raw)
    assert data(calibration_data=normalised(raw)).preprocessing["x"].mean == pytest.approx(MEAN)
    generated = data(image_mean=MEAN, image_std=STD)
    assert generated.calibration.ranges["x"] == (0.0, 255.0)
    assert generated.preprocessing["x"].std == STD


def test_samples_that_are_no_bytes_are_refused() -> None:
    noise = np.random.default_rng(0).standard_normal((8, 1, 3, 32, 32)).astype(np.float32)
    with pytest.raises(UsageError, match="does not know how the samples were made"):
        data(calibration_data=noise)
    with pytest.raises(InvalidData, match="are not what the mean and standard deviation make"):
        data(calibration_data=noise, image_mean=MEAN, image_std=STD)
    with pytest.raises(UsageError, match="do not fit the input"):
        data(calibration_data=noise, image_mean=(0.5, 0.5), image_std=STD)


def test_a_model_that_cannot_take_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="cannot be folded"):
        edgeconv.convert(
            nn.Sigmoid(), torch.rand(1, 3, 8, 8), output=tmp_path / "m", preprocess="fold"
        )
