"""Convert one prepared model with one converter; runs in that converter's environment.

python -m benchmarks.peers_convert CONVERTER MODEL_DIRECTORY OUTPUT_DIRECTORY
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def litert_torch(model: Path, output: Path) -> None:
    """From the module, as its documentation has it."""
    import torch

    sys.path.insert(0, str(model))
    module = importlib.import_module("factory").build()
    module.load_state_dict(torch.load(model / "weights.pt", weights_only=True))
    shape = [int(size) for size in (model / "shape.txt").read_text().split(",")]
    converter = importlib.import_module("litert_torch")
    converter.convert(module.eval(), (torch.zeros(shape),)).export(str(output / "model.tflite"))


def onnx_tf(model: Path, output: Path) -> None:
    """From ONNX to a SavedModel, and on with TensorFlow's converter."""
    onnx = importlib.import_module("onnx")
    backend = importlib.import_module("onnx_tf.backend")
    backend.prepare(onnx.load(model / "model.onnx")).export_graph(str(output / "saved_model"))
    lite = importlib.import_module("tensorflow").lite
    converter = lite.TFLiteConverter.from_saved_model(str(output / "saved_model"))
    (output / "model.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    {"litert_torch": litert_torch, "onnx_tf": onnx_tf}[sys.argv[1]](
        Path(sys.argv[2]), Path(sys.argv[3])
    )
