"""Prepare one architecture for all converters; runs in a process of its own.

    python -m benchmarks.peers_prepare NAME DIRECTORY

Writes ``factory.py`` and ``weights.pt`` (the module), ``model.onnx`` (opset 14, by the TorchScript
exporter), ``shape.txt``, ``samples.npz`` with inputs and torch's outputs, and ``export.txt``: the
seconds that the export took, imports left out.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.architectures import find
from benchmarks.architectures.wrappers import FirstOutput

if TYPE_CHECKING:
    import torch

SAMPLES = 3
OPSET = 14


def prepare(name: str, directory: Path) -> None:
    """Write the files of one architecture to an existing directory."""
    import torch

    architecture = find(name)
    (shape,) = (entry.shape for entry in architecture.inputs)
    module = FirstOutput(architecture.build()).eval()
    torch.save(module.state_dict(), directory / "weights.pt")
    (directory / "factory.py").write_text(_FACTORY.format(name=name))
    (directory / "shape.txt").write_text(",".join(map(str, shape)))
    samples = [architecture.example(seed + 100)[0] for seed in range(SAMPLES)]
    with torch.no_grad():
        outputs = [module(sample).numpy() for sample in samples]
        started = time.perf_counter()
        _export(module, samples[0], directory / "model.onnx")
        (directory / "export.txt").write_text(f"{time.perf_counter() - started:.2f}")
    np.savez(directory / "samples.npz", inputs=np.stack(samples), outputs=np.stack(outputs))


def _export(module: torch.nn.Module, sample: torch.Tensor, path: Path) -> None:
    import torch

    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (sample,), str(path), dynamo=False, opset_version=OPSET, input_names=["input"]
        )


_FACTORY = '''"""The module, without its weights."""

from benchmarks.architectures import find
from benchmarks.architectures.wrappers import FirstOutput


def build():
    return FirstOutput(find("{name}").create())
'''


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]))
