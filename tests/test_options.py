from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeconv.core.errors import UsageError
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int3"}, "none, fp16, dynamic, weight-only, int8, int16x8"),
        ({"io_dtype": "int8"}, 'quantize="int8"'),
        ({"io_dtype": "int16", "quantize": "int8"}, 'quantize="int16x8"'),
        ({"keep_float": ("ADD",)}, "keep_float needs a model that is quantized"),
        ({"keep_int16": "ADD", "quantize": "int8"}, "a list of texts"),
        ({"recipe": "r.toml"}, "recipe needs a model that is quantized"),
        ({"max_drop": "3dB", "quantize": "fp16"}, 'max_drop needs quantize="int8"'),
        ({"max_drop": "3", "quantize": "int8"}, "3dB"),
        ({"input_range": "0,1"}, "input_range needs a model with integer"),
        ({"input_range": "1,0", "quantize": "int8"}, "0,1 or image=-1,1"),
        ({"input_range": "0,inf", "quantize": "int8"}, "lowest and the highest"),
        ({"io_layout": "nwhc"}, "nhwc, nchw"),
        ({"calibration_samples": 0}, "at least 1"),
        ({"seed": -1}, "at least 0"),
        ({"timeout": float("inf")}, "timeout"),
        ({"gates": {"onnx": {"psnr": 3.0}}}, "psnr"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ConvertOptions(**options)


def test_options_are_json() -> None:
    options = ConvertOptions(
        quantize="int8",
        io_dtype="uint8",
        keep_float=("ADD",),
        input_range=("image=-1,1",),
        gates={"all": {"cosine": 0.9}},
    )
    data = json.loads(json.dumps(options.to_dict()))
    assert ConvertOptions(**data) == options


@pytest.mark.parametrize(
    ("source", "factory", "name"),
    [
        ("some/dir/net.v2.pt2", None, "net.v2"),
        (Path("net"), None, "net"),
        ("my model.onnx", None, "my_model"),
        (None, "package.module:make_net", "make_net"),
        (object(), None, "object"),
        ("état.pt2", None, "état"),
    ],
)
def test_models_are_named_after_what_they_come_from(
    source: Any, factory: str | None, name: str
) -> None:
    job = Job(source, factory=factory)
    assert job.name == name
    assert job.target == Path(f"{name}.edgeconv")
