"""What is advised for open dimensions is a shape that the program takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export import Dim

from edgeconv.convert.torch.load import load_model
from edgeconv.core.errors import UsageError
from edgeconv.core.input_shapes import parse_input_shapes


class Half(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, image: torch.Tensor) -> Any:
        return self.conv(image)


class Shorter(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> Any:
        return a[:, 3:] + b


HEIGHT, COUNT = Dim("h", min=64, max=512), Dim("n", min=2, max=16)
IMAGE = (torch.ones(2, 3, 96, 96),)
CASES: dict[str, tuple[torch.nn.Module, Any, Any, str, str]] = {
    "range": (Half(), IMAGE, {"image": {2: HEIGHT}}, "image=2,3,64,96", "takes 64 to 512"),
    "open_batch": (
        Half(),
        IMAGE,
        {"image": {0: Dim("b", max=8), 2: HEIGHT}},
        "image=1,3,64,96",
        "takes 64 to 512",
    ),
    "multiples": (
        Half(),
        IMAGE,
        {"image": {2: 32 * COUNT, 3: 32 * COUNT}},
        "image=2,3,64,64",
        "takes 64 to 512 in multiples of 32",
    ),
    "no_end": (Half(), IMAGE, {"image": {3: Dim("w", min=9)}}, "image=2,3,96,9", "9 or more"),
    "derived": (
        Shorter(),
        (torch.ones(2, 9), torch.ones(2, 6)),
        {"a": {1: COUNT + 3}, "b": {1: COUNT}},
        "a=2,5 input_shapes b=2,2",
        "takes 5 to 19",
    ),
}


def save(path: Path, case: str) -> Path:
    module, example, sizes, _, _ = CASES[case]
    torch.export.save(torch.export.export(module.eval(), example, dynamic_shapes=sizes), path)
    return path


def advised(message: str) -> Any:
    return parse_input_shapes(re.findall(r"input_shapes (\S+=\S+)", message))


@pytest.mark.parametrize("case", CASES)
def test_the_advice_can_be_followed(tmp_path: Path, case: str) -> None:
    file = save(tmp_path / "m.pt2", case)
    with pytest.raises(UsageError, match="open dimensions") as caught:
        load_model(file)
    message = str(caught.value)
    assert f"input_shapes {CASES[case][3]}" in message
    assert CASES[case][4] in message
    model = load_model(file, input_shapes=advised(message))
    assert all(None not in spec.shape for spec in model.inputs)


@pytest.mark.parametrize("height", [48, 520])
def test_a_shape_outside_the_range(tmp_path: Path, height: int) -> None:
    file = save(tmp_path / "m.pt2", "range")
    with pytest.raises(UsageError, match="does not take") as caught:
        load_model(file, input_shapes=((2, 3, height, 96),))
    message = str(caught.value)
    assert CASES["range"][4] in message
    assert load_model(file, input_shapes=advised(message)).inputs


def test_the_advice_follows_what_was_given(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt2", "derived")
    with pytest.raises(UsageError, match=r"input_shapes a=2,10 input_shapes b=2,7$"):
        load_model(file, input_shapes={"b": (2, 7)})
