"""Torchvision's families: one small variant each."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from benchmarks.architectures.model import Architecture, Input, image

if TYPE_CHECKING:
    import torch

# Family, variant, image size.
_CLASSIFIERS: tuple[tuple[str, str, int], ...] = (
    ("alexnet", "alexnet", 224),
    ("convnext", "convnext_tiny", 224),
    ("densenet", "densenet121", 160),
    ("efficientnet", "efficientnet_b0", 224),
    ("efficientnet_v2", "efficientnet_v2_s", 160),
    ("googlenet", "googlenet", 160),
    ("inception_v3", "inception_v3", 192),
    ("maxvit", "maxvit_t", 224),
    ("mnasnet", "mnasnet0_5", 160),
    ("mobilenet_v2", "mobilenet_v2", 224),
    ("mobilenet_v3_large", "mobilenet_v3_large", 160),
    ("mobilenet_v3_small", "mobilenet_v3_small", 224),
    ("regnet_x", "regnet_x_400mf", 160),
    ("regnet_y", "regnet_y_400mf", 160),
    ("resnet", "resnet18", 224),
    ("resnet_bottleneck", "resnet50", 160),
    ("resnext", "resnext50_32x4d", 160),
    ("shufflenet_v2", "shufflenet_v2_x1_0", 224),
    ("squeezenet", "squeezenet1_1", 160),
    ("swin", "swin_t", 224),
    ("swin_v2", "swin_v2_t", 256),
    ("vgg", "vgg11", 160),
    ("vgg_bn", "vgg11_bn", 160),
    ("vit", "vit_b_32", 224),
    ("wide_resnet", "wide_resnet50_2", 160),
)
_SEGMENTERS: tuple[tuple[str, str, int], ...] = (
    ("fcn", "fcn_resnet50", 160),
    ("deeplabv3", "deeplabv3_mobilenet_v3_large", 224),
    ("lraspp", "lraspp_mobilenet_v3_large", 320),
)
_DETECTORS: tuple[tuple[str, str, int], ...] = (
    ("ssdlite", "ssdlite320_mobilenet_v3_large", 320),
    ("faster_rcnn", "fasterrcnn_mobilenet_v3_large_320_fpn", 320),
)


def architectures() -> tuple[Architecture, ...]:
    """Return torchvision's architectures."""
    kinds = (
        (_CLASSIFIERS, "classifier"),
        (_SEGMENTERS, "segmenter"),
        (_DETECTORS, "detector"),
    )
    here = __name__
    found = [
        Architecture(
            name, "torchvision", family, f"{here}:{kind}", image(size), {"name": name},
            settle=kind != "detector",
        )
        for table, kind in kinds
        for family, name, size in table
    ]  # fmt: skip
    # The detectors without their post-processing, whose number of results depends on the data.
    boxes = Input((8, 4))
    found += [
        Architecture("ssdlite320_heads", "torchvision", "ssdlite_heads", f"{here}:ssdlite_heads",
                     image(320)),
        Architecture("fasterrcnn_heads", "torchvision", "faster_rcnn_heads",
                     f"{here}:fasterrcnn_heads", (*image(320), boxes)),
    ]  # fmt: skip
    return tuple(found)


def torchvision() -> ModuleType:
    """Import torchvision, also where its native operators do not fit the installed torch.

    PyPI's wheels for Linux are built for CUDA; next to a CPU build of torch their native library
    cannot be loaded. The operators that its Python part refers to are then declared here, and
    what the detectors need of them is implemented with torch's own operators.
    """
    import sys

    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    _declare()
    module = importlib.import_module("torchvision")
    # It asks whether the native library is there.
    module.ops.boxes._assert_has_ops = _nothing
    return module


def _nothing() -> None:
    """In place of a check; TorchScript compiles it."""


def _declare() -> None:
    import torch

    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", signature)
    align = (
        "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
        "SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor"
    )
    torch.library.define("torchvision::roi_align", align)
    torch.library.impl("torchvision::nms", "CPU", _nms)
    torch.library.impl("torchvision::roi_align", "CPU", _roi_align)


def _nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression: indices of the boxes kept, by falling score."""
    import torch

    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = scores.argsort(descending=True, stable=True)
    kept: list[int] = []
    while order.numel():
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[rest, :2])
        high = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = (high - low).clamp(min=0).prod(dim=1)
        order = rest[common <= iou_threshold * (area[best] + area[rest] - common)]
    return torch.tensor(kept, dtype=torch.int64)


def _roi_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    scale: float,
    height: int,
    width: int,
    samples: int,
    aligned: bool,
) -> torch.Tensor:
    """RoIAlign for regions inside the image: bilinear samples, averaged in each cell."""
    import torch
    from torch.nn import functional

    corners = rois[:, 1:] * scale - (0.5 if aligned else 0.0)
    start, size = corners[:, :2], corners[:, 2:] - corners[:, :2]
    size = size if aligned else size.clamp(min=1)
    axes = []
    for axis, (cells, length) in enumerate(
        ((width, features.shape[3]), (height, features.shape[2]))
    ):
        steps = (torch.arange(cells * samples) + 0.5) / (cells * samples)
        points = start[:, axis, None] + size[:, axis, None] * steps
        axes.append(points * 2 / (length - 1) - 1)
    shape = (len(rois), height * samples, width * samples)
    grid = torch.stack([axes[0][:, None].expand(shape), axes[1][:, :, None].expand(shape)], 3)
    sampled = functional.grid_sample(
        features[rois[:, 0].long()], grid, padding_mode="border", align_corners=True
    )
    return functional.avg_pool2d(sampled, samples)


def classifier(name: str) -> torch.nn.Module:
    """Build a classifier."""
    extra: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        extra = {"aux_logits": False, "init_weights": False}
    module: torch.nn.Module = torchvision().models.get_model(name, weights=None, **extra)
    return module


def segmenter(name: str) -> torch.nn.Module:
    """Build a segmentation model; it returns a dictionary with the entry ``out``."""
    module: torch.nn.Module = torchvision().models.get_model(
        name, weights=None, weights_backbone=None
    )
    return module


def detector(name: str) -> torch.nn.Module:
    """Build a whole detector, post-processing included, for one image."""
    from benchmarks.architectures.wrappers import Detector

    detector: Any = segmenter(name)
    if hasattr(detector, "roi_heads"):
        detector.roi_heads.score_thresh = 0.0  # random weights are never sure
    return Detector(detector)


def ssdlite_heads() -> torch.nn.Module:
    """Build SSDLite up to the raw scores and box offsets of its anchors."""
    from benchmarks.architectures.wrappers import DetectorHeads

    return DetectorHeads(segmenter("ssdlite320_mobilenet_v3_large"))


def fasterrcnn_heads() -> torch.nn.Module:
    """Build Faster R-CNN's parts with given boxes in place of the proposals that it chooses."""
    from benchmarks.architectures.wrappers import TwoStageHeads

    return TwoStageHeads(segmenter("fasterrcnn_mobilenet_v3_large_320_fpn"))
