"""Write one Ultralytics model as a program, with samples; runs in an environment that has it.

python ultralytics_export.py NAME SIZE FOLDER

There are no trained weights without a network, so a model is built from its YAML and given what a
trained one has: batch-norm statistics of images, and heads whose boxes lie in the image and whose
scores are mostly small, some above 0.25. Writes ``NAME.pt2``, ``NAME.npz`` for calibration and
``NAME_unseen.npz``, inputs ``[sample, 1, 3, SIZE, SIZE]`` in 0..1.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

_OFFLINE = {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
}

# Middle of what the last convolution of each head makes, and how far from it the highest one in a
# thousand is. Middle and far end, for random networks have few very large values.
_HEADS = {
    "cls": (-6.0, 5.5),
    "box": (0.0, 6.0),
    "plain_box": (3.0, 2.5),
    "kpts": (0.0, 6.0),
    "masks": (0.0, 3.0),
}


def images(count: int, size: int, seed: int) -> torch.Tensor:
    """Return ``[sample, 1, 3, size, size]``: smooth grounds with rectangles and discs, in 0..1."""
    rng = np.random.default_rng(seed)
    found = np.empty((count, 1, 3, size, size), np.float32)
    rows, columns = np.mgrid[:size, :size]
    for image in found[:, 0]:
        ground = torch.from_numpy(rng.random((1, 3, 6, 6), np.float32))
        smooth = nn.functional.interpolate(ground, (size, size), mode="bicubic")
        image[:] = smooth[0].clamp(0, 1).numpy()
        for _ in range(rng.integers(3, 12)):
            y, x = rng.integers(0, size, 2)
            half = rng.integers(size // 40, size // 5, 2)
            inside = (abs(rows - y) < half[0]) & (abs(columns - x) < half[1])
            if rng.random() < 0.5:
                inside = (rows - y) ** 2 + (columns - x) ** 2 < half[0] ** 2
            image[:, inside] = rng.random((3, 1))
    found += rng.normal(0, 0.02, found.shape)
    rounded: torch.Tensor = torch.from_numpy(np.rint(found.clip(0, 1) * 255) / 255).float()
    return rounded


def package() -> Any:
    """Return Ultralytics' class YOLO; nothing is fetched or installed by it."""
    os.environ.update(_OFFLINE)
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [path for path in sys.path if path != here]  # benchmarks/ultralytics.py is there
    for name in ("nms", "qnms"):
        # A torchvision without its compiled part asks for these when it is imported.
        torch.library.define(
            f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    return importlib.import_module("ultralytics").YOLO


def built(name: str, size: int) -> nn.Module:
    """Return a model in export mode, with statistics and heads as described above."""
    torch.manual_seed(0)
    model: Any = package()(f"{name}.yaml").model
    if "26" in name:
        model.end2end = True
    data = images(16, size, 7)[:, 0]
    _settle_statistics(model, data)
    head = model.model[-1]
    for kind, convolutions in _convolutions(head).items():
        for convolution in convolutions:
            _spread(model, convolution, data, *_HEADS[kind])
    head.export, head.format = True, "torchscript"
    return _Exported(model).eval()


class _Exported(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        found = self.model(images)
        return tuple(found) if isinstance(found, list | tuple) else found


def _settle_statistics(model: nn.Module, data: torch.Tensor) -> None:
    """Let every batch norm average over the data, layer by layer as they are reached."""
    norms = [one for one in model.modules() if isinstance(one, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a true average
        # Random affine parts, so that channels differ as trained ones do.
        nn.init.uniform_(norm.weight, 0.6, 1.4)
        nn.init.normal_(norm.bias, 0.0, 0.3)
    model.train()
    with torch.no_grad():
        for part in data.split(8):
            model(part)
    model.eval()


def _convolutions(head: Any) -> dict[str, list[nn.Conv2d]]:
    """Return the last convolutions of a head's branches, those that its export uses."""
    one2one = "one2one_" if getattr(head, "end2end", False) else ""
    names = {"cv2": "box" if head.reg_max > 1 else "plain_box", "cv3": "cls"}
    if hasattr(head, "cv4"):
        names["cv4"] = "kpts" if hasattr(head, "kpt_shape") else "masks"
    found: dict[str, list[nn.Conv2d]] = {}
    for name, kind in names.items():
        branches = getattr(head, one2one + name)
        found[kind] = [branch[-1] for branch in branches]
    return found


def _spread(
    model: nn.Module, convolution: nn.Conv2d, data: torch.Tensor, middle: float, far: float
) -> None:
    """Scale a convolution so that its outputs lie around a value, as far as that from it."""
    seen: list[torch.Tensor] = []
    handle = convolution.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    with torch.no_grad():
        nn.init.normal_(convolution.weight)
        model(data[:8])
        handle.remove()
        values = torch.cat([one.flatten(2) for one in seen], 2).transpose(0, 1).flatten(1)
        medians = values.median(1).values
        ordered = (values - medians[:, None]).flatten().sort().values
        gain = far / ordered[int(0.999 * len(ordered))]
        convolution.weight *= gain
        assert convolution.bias is not None
        convolution.bias.copy_(middle + gain * (convolution.bias - medians))


def main(name: str, size: int, folder: Path) -> None:
    """Write the files."""
    model = built(name, size)
    known, unseen = images(48, size, 1), images(16, size, 2)
    with torch.no_grad():
        model(known[0].clone())  # makes the anchors
        program = torch.export.export(model, (known[0].clone(),))
    torch.export.save(program, folder / f"{name}.pt2")
    np.savez(folder / f"{name}.npz", allow_pickle=False, images=known.numpy())
    np.savez(folder / f"{name}_unseen.npz", allow_pickle=False, images=unseen.numpy())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
