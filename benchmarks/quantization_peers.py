"""Quantize one float model with one other quantizer; runs in that quantizer's environment.

python -m benchmarks.quantization_peers QUANTIZER FLOAT_TFLITE SAVED_MODEL SAMPLES OUTPUT

SAMPLES is an ``.npz`` of the inputs by name, as the model stores them, with a leading sample axis.
Prints the seconds that calibration and quantization took, without imports.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def _feeds(samples: Path) -> Iterator[dict[str, Any]]:
    with np.load(samples, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for count in range(len(next(iter(arrays.values())))):
        yield {name: array[count] for name, array in arrays.items()}


def _ai_edge(model: Path, samples: Path, output: Path, *, true_ranges: bool) -> float:
    """Static int8 of ai-edge-quantizer: moving averages, its default, or minimum and maximum."""
    package = "ai_edge_quantizer"
    quantizer = importlib.import_module(f"{package}.quantizer")
    recipe = importlib.import_module(f"{package}.recipe").static_wi8_ai8()
    calibrator = importlib.import_module(f"{package}.calibrator")
    updates = importlib.import_module(f"{package}.utils.qsv_utils")
    started = time.perf_counter()
    engine = quantizer.Quantizer(str(model), recipe)
    data = {"serving_default": list(_feeds(samples))}
    if true_ranges:
        mode = calibrator.CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS
        watcher = calibrator.Calibrator(
            str(model), mode=mode, qsv_update_func=updates.min_max_update
        )
        watcher.calibrate(data, engine._recipe_manager)
        ranges = watcher.get_model_qsvs()
    else:
        ranges = engine.calibrate(data)
    engine.quantize(ranges).export_model(str(output), overwrite=True)
    return time.perf_counter() - started


def ai_edge_default(model: Path, _saved: Path, samples: Path, output: Path) -> float:
    """Quantize as its documentation has it."""
    return _ai_edge(model, samples, output, true_ranges=False)


def ai_edge_true_ranges(model: Path, _saved: Path, samples: Path, output: Path) -> float:
    """The same with the true minimum and maximum of every tensor."""
    return _ai_edge(model, samples, output, true_ranges=True)


def tensorflow(_model: Path, saved: Path, samples: Path, output: Path) -> float:
    """Post-training quantization of TensorFlow's converter, which starts from the SavedModel."""
    tf = importlib.import_module("tensorflow")
    started = time.perf_counter()
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _feeds(samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    output.write_bytes(converter.convert())
    return time.perf_counter() - started


if __name__ == "__main__":
    work = {"ai_edge_default": ai_edge_default, "ai_edge_true_ranges": ai_edge_true_ranges,
            "tensorflow": tensorflow}[sys.argv[1]]  # fmt: skip
    sys.stdout.write(f"{work(*map(Path, sys.argv[2:6])):.2f}\n")
