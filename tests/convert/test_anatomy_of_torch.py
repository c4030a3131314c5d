"""What is known of the outputs of detectors as people write them in PyTorch, exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeconv.convert.onnx.parts import read_anatomy
from edgeconv.convert.torch.export import export
from edgeconv.convert.torch.model import from_module
from edgeconv.metrics.parts import Anatomy

IMAGE = torch.zeros(1, 3, 16, 16)


class Head(nn.Module):
    """Convolutions on two levels, and what is made of them."""

    def __init__(self, form: Callable[..., object], *channels: int) -> None:
        super().__init__()
        self.form = form
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.down = nn.Conv2d(8, 8, 3, 2, 1)
        self.heads = nn.ModuleList(nn.Conv2d(8, count, 1) for count in channels)

    def forward(self, x: torch.Tensor) -> object:
        fine = self.stem(x).relu()
        return self.form(self.heads, fine, self.down(fine).relu())


def last_axis(heads: nn.ModuleList, x: torch.Tensor, _: torch.Tensor) -> object:
    box, score = (head(x).flatten(2).transpose(1, 2) for head in heads)
    return torch.cat([box * 32, score.sigmoid()], -1)


def levels(heads: nn.ModuleList, x: torch.Tensor, y: torch.Tensor) -> object:
    all_ = torch.cat([torch.cat([head(z) for head in heads], 1).flatten(2) for z in (x, y)], 2)
    box, score = all_.split((4, 5), 1)
    near, far = (box * 4).exp().chunk(2, 1)
    return torch.cat([(near + far) / 2, far - near, score.sigmoid()], 1)


def anchors(heads: nn.ModuleList, x: torch.Tensor, y: torch.Tensor) -> object:
    """Boxes, confidence and classes of three anchors on each level, as YOLOv5 has them."""
    found = []
    for z, stride in ((x, 8.0), (y, 16.0)):
        raw = heads[0](z).view(1, 3, 9, -1).permute(0, 1, 3, 2).sigmoid()
        box, score = raw.split((4, 5), -1)
        found.append(torch.cat([(box * 2) ** 2 * stride, score], -1).view(1, -1, 9))
    return torch.cat(found, 1)


def pose(heads: nn.ModuleList, x: torch.Tensor, _: torch.Tensor) -> object:
    box, score, raw = (head(x).flatten(2) for head in heads)
    points = raw.view(1, 5, 3, -1)
    points = torch.cat([points[:, :, :2] * 32, points[:, :, 2:].sigmoid()], 2).view(1, 15, -1)
    return torch.cat([box * 32, score.sigmoid(), points], 1)


def written(heads: nn.ModuleList, x: torch.Tensor, _: torch.Tensor) -> object:
    points = heads[0](x).flatten(2).view(1, 5, 3, -1).clone()
    points[:, :, 2] = points[:, :, 2].sigmoid()
    return points.view(1, 15, -1)


def vector(heads: nn.ModuleList, x: torch.Tensor, _: torch.Tensor) -> object:
    size = torch.tensor([320.0] * 4 + [1.0] * 5)
    return heads[0](x).sigmoid().flatten(2) * size[:, None]


def stacked(heads: nn.ModuleList, x: torch.Tensor, _: torch.Tensor) -> object:
    first, second = (head(x).flatten(2) for head in heads)
    return torch.stack([first.tanh(), second * 100], 1)


CASES = {
    "last axis": (last_axis, (4, 6), ["columns 0 to 3", "columns 4 to 9 (sigmoid)"]),
    "levels": (levels, (4, 5), ["rows 0 to 1", "rows 2 to 3", "rows 4 to 8 (sigmoid)"]),
    "anchors": (
        anchors,
        (27,),
        ["rows 0 to 191", "rows 192 to 239", "columns 4 to 8 (sigmoid)"],  # boxes on each level
    ),
    "pose": (
        pose,
        (4, 1, 15),
        ["rows 0 to 3", "row 4 (sigmoid)", "rows 5 to 18 (2 of every 3)",
         "rows 7 to 19 (1 of every 3) (sigmoid)"],
    ),
    "written": (
        written,
        (15,),
        ["rows 0 to 13 (2 of every 3)", "rows 2 to 14 (1 of every 3) (sigmoid)"],
    ),
    "vector": (vector, (9,), ["rows 0 to 3 (sigmoid)", "rows 4 to 8 (sigmoid)"]),
    "stacked": (stacked, (4, 4), ["channel 0", "channel 1"]),
}  # fmt: skip


def anatomy(module: nn.Module, path: Path) -> Anatomy:
    onnx = export(from_module(module.eval(), (IMAGE,)), path / "model.onnx")
    return read_anatomy(onnx.path)


@pytest.mark.parametrize(("form", "channels", "expected"), CASES.values(), ids=CASES)
def test_boxes_and_scores_are_told_apart(
    form: Callable[..., object], channels: tuple[int, ...], expected: list[str], tmp_path: Path
) -> None:
    found = anatomy(Head(form, *channels), tmp_path)
    (parts,) = found.parts.values()
    words = [part.words(4 if form is stacked else 3) for part in parts]
    kinds = list(dict.fromkeys(name.split(", columns")[0].split(", rows")[0] for name in words))
    assert len(kinds) == len(expected), words
    for name, start in zip(kinds, expected, strict=True):
        assert name.startswith(start), words


class Decoder(nn.Module):
    """Queries chosen by their best score, as RT-DETR chooses them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.score = nn.Linear(8, 5)
        self.attention = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)
        self.box = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        memory = self.stem(x).flatten(2).transpose(1, 2)
        chosen = self.score(memory).max(-1).values.topk(12, 1).indices
        query = memory.gather(1, chosen[..., None].expand(-1, -1, 8))
        q, k, v = self.attention(query).view(1, 12, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
        query = self.norm(query + mixed.transpose(1, 2).reshape(1, 12, 8))
        return self.score(query), self.box(query).sigmoid()


class EndToEnd(Head):
    """Boxes, scores and classes of the best, in one output, as YOLOv10 has them."""

    def __init__(self) -> None:
        super().__init__(self.chosen, 4, 5)

    @staticmethod
    def chosen(heads: nn.ModuleList, x: torch.Tensor, _: torch.Tensor) -> object:
        box, score = (head(x).flatten(2).transpose(1, 2) for head in heads)
        best, index = score.sigmoid().flatten(1).topk(10, 1)
        row = index // 5
        box = box.gather(1, row[..., None].expand(-1, -1, 4))
        return torch.cat([box, best[..., None], (index % 5)[..., None].float()], -1)


@pytest.mark.parametrize("module", [Decoder, EndToEnd])
def test_rows_that_were_chosen_are_a_set(module: type[nn.Module], tmp_path: Path) -> None:
    (found,) = anatomy(module(), tmp_path).sets
    assert found.chosen_by == "TopK"
    assert [axis for _, axis in found.axes] == [1] * (2 if module is Decoder else 1)
