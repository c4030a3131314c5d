"""Print the top-1 accuracy of the digits network as trained, as float TFLite and as int8 TFLite.

The labelled images were held out of training and calibration. The TFLite files come from the
bundle that ``edgeconv torch2tflite`` wrote: ``python examples/digits/evaluate.py digits.edgeconv``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Array, Artifact
from edgeconv.core.bundle import open_bundle
from edgeconv.metrics import parity
from edgeconv.toolchain.runtimes import RUNTIMES
from edgeconv.toolchain.worker.pool import WorkerPool

HERE = Path(__file__).resolve().parent


def torch_logits(images: Array) -> Array:
    """Run the trained network on ``(N, 1, 32, 32)`` images; return ``(N, 10)`` logits."""
    network = torch.export.load(HERE / "digits.pt2").module()
    with torch.no_grad():
        return np.concatenate([network(image[None]).numpy() for image in torch.from_numpy(images)])


def tflite_logits(artifact: Artifact, images: Array, workers: WorkerPool) -> Array:
    """Run a TFLite artifact on the same images.

    The artifact's specs say how it stores its inputs and outputs: channels last, and integers with
    their scale and zero point if it was converted with ``--io-dtype int8``.
    """
    samples = {artifact.inputs[0].name: images[:, np.newaxis]}
    worker, function = RUNTIMES[artifact.format]
    with tempfile.TemporaryDirectory() as folder:
        feeds, results = Path(folder, "feeds.npz"), Path(folder, "results.npz")
        write_npz(feeds, parity.store(samples, artifact.inputs))
        workers.call(
            worker, function, artifact=artifact.to_dict(), feeds=str(feeds), results=str(results)
        )
        outputs = parity.restore(read_npz(results), artifact.outputs)
    return np.concatenate(list(outputs[artifact.outputs[0].name]))


def evaluate(bundle: Path) -> dict[str, float]:
    """Return the share of held-out images that each form of the network gets right."""
    held_out = read_npz(HERE / "test.npz")
    images, labels = held_out["image"], held_out["label"]
    logits = {"torch": torch_logits(images)}
    artifacts = open_bundle(bundle).artifacts
    with WorkerPool() as workers:
        for name, stage in (("float TFLite", "tflite_fp32"), ("int8 TFLite", "tflite_int8")):
            logits[name] = tflite_logits(artifacts[stage], images, workers)
    return {name: float(np.mean(rows.argmax(1) == labels)) for name, rows in logits.items()}


def main() -> None:
    """Evaluate the bundle named on the command line, by default the one in this directory."""
    torch.set_num_threads(1)  # images are small: a second thread would mostly wait
    bundle = Path(sys.argv[1] if len(sys.argv) > 1 else "digits.edgeconv")
    for name, accuracy in evaluate(bundle).items():
        print(f"{name:>12}  top-1 {accuracy:.2%}")


if __name__ == "__main__":
    main()
