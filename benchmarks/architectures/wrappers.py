"""Modules that give models of other libraries plain tensors as inputs and outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Detector(nn.Module):
    """A torchvision detector for one image ``[1, 3, H, W]``."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes ``[N, 4]``, scores ``[N]`` and labels ``[N]``."""
        found = self.model([image[0]])[0]
        return found["boxes"], found["scores"], found["labels"]


class DetectorHeads(nn.Module):
    """A torchvision single-shot detector without its post-processing."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.head = model.head

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return class scores and box offsets of all anchors."""
        found = self.head(list(self.backbone(image).values()))
        return found["cls_logits"], found["bbox_regression"]


class TwoStageHeads(nn.Module):
    """A torchvision two-stage detector with boxes given, without its post-processing."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone, self.proposals = model.backbone, model.rpn.head
        self.heads = model.roi_heads

    def forward(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the anchors' objectness, and class scores and offsets of boxes ``[N, 4]``."""
        features = self.backbone(image)["0"]
        scores, _ = self.proposals([features])
        one, two = boxes.sigmoid().split(2, 1)
        corners = torch.cat([torch.minimum(one, two), torch.maximum(one, two)], 1)
        regions = torch.cat([torch.zeros_like(corners[:, :1]), corners * image.shape[3]], 1)
        scale = features.shape[3] / image.shape[3]
        crops = torch.ops.torchvision.roi_align(features, regions, scale, 7, 7, 2, False)  # noqa: FBT003
        found = self.heads.box_predictor(self.heads.box_head(crops))
        return scores[0], found[0], found[1]


class _Field(nn.Module):
    """A model whose result has several fields, of which one is wanted."""

    def __init__(self, model: Any, field: str, **fixed: Any) -> None:
        super().__init__()
        self.model = model
        self.field = field
        self.fixed = fixed

    def _get(self, **inputs: Tensor) -> Tensor:
        found: Tensor = self.model(**inputs, **self.fixed)[self.field]
        return found


class TextModel(_Field):
    """A language model with token numbers and a mask."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the wanted field; both inputs are ``[N, T]``."""
        return self._get(input_ids=input_ids, attention_mask=attention_mask)


class TokenModel(_Field):
    """A language model with token numbers alone."""

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the wanted field; the input is ``[N, T]``."""
        return self._get(input_ids=input_ids)


class ImageModel(_Field):
    """A vision model."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the wanted field; the input is ``[N, 3, H, W]``."""
        return self._get(pixel_values=pixel_values)


class AudioModel(_Field):
    """A model of waveforms or of features."""

    def forward(self, input_values: Tensor) -> Tensor:
        """Return the wanted field; the input is what the model takes first."""
        found: Tensor = self.model(input_values, **self.fixed)[self.field]
        return found


class CausalModel(_Field):
    """A decoder with token numbers, without a cache."""

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the wanted field; the input is ``[N, T]``."""
        positions = torch.arange(input_ids.shape[1])[None]
        return self._get(input_ids=input_ids, position_ids=positions)


class FirstOutput(nn.Module):
    """A model of one image that returns one tensor, also where it returned a dictionary."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Return the first output."""
        found = self.model(image)
        first: Tensor = next(iter(found.values())) if isinstance(found, dict) else found
        return first
