"""A model of a thousand layers, through the pipeline: memory and the size of its page."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgeconv
from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.bundle import MANIFEST, VECTORS, describe_file

LAYERS = 1000
VECTORS_KEPT = (10, 100)

# Runs a command, then says what the largest of its processes, workers included, held: in bytes.
_PEAK = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "edgeconv", *sys.argv[1:]], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(done.returncode)
"""


def chain(path: Path) -> None:
    """Write a network of convolutions and activations, one after the other."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for number in range(LAYERS // 2):
        weight = rng.normal(size=(8, 8, 1, 1)).astype(np.float32) / 2
        weights.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("Conv", [value, f"w{number}"], [f"c{number}"]))
        nodes.append(helper.make_node("Tanh", [f"c{number}"], [f"t{number}"]))
        value = f"t{number}"
    ends = (helper.make_tensor_value_info(name, 1, [1, 8, 8, 8]) for name in ("x", value))
    first, last = ends
    graph = helper.make_graph(nodes, "chain", [first], [last], weights)
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def with_vectors(bundle: Path, count: int, directory: Path) -> Path:
    """Return a copy of a bundle with the first of its vectors only."""
    copy = Path(shutil.copytree(bundle, directory / f"first_{count}.edgeconv"))
    arrays = read_npz(copy / VECTORS)
    write_npz(copy / VECTORS, {name: array[:count] for name, array in arrays.items()})
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"] = [
        describe_file(copy / VECTORS, copy) if entry["file"] == VECTORS else entry
        for entry in manifest["files"]
    ]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    return copy


@pytest.mark.slow
def test_a_thousand_layers_and_a_hundred_vectors(tmp_path: Path) -> None:
    chain(tmp_path / "m.onnx")
    samples = np.random.default_rng(1).normal(size=(max(VECTORS_KEPT), 1, 8, 8, 8))
    np.savez(tmp_path / "x.npz", x=samples.astype(np.float32))
    result = edgeconv.convert(
        tmp_path / "m.onnx",
        output=tmp_path / "m.edgeconv",
        verify_data=str(tmp_path / "x.npz"),
        parity_samples=max(VECTORS_KEPT),
        verify=False,
    )
    peaks = []
    for count in VECTORS_KEPT:
        bundle = with_vectors(result.path, count, tmp_path)
        page = tmp_path / f"{count}.html"
        command = [sys.executable, "-c", _PEAK, "verify", str(bundle), "--html", str(page)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        text = page.read_text()
        assert f"on {count}" in text
        assert text.count('class="here') == 2 * LAYERS
        assert len(text.encode()) < 3_000_000
        peaks.append(int(done.stdout))
    # The values of all layers take 2 MB for each vector; what is left is noise.
    assert peaks[1] < peaks[0] + 40e6, peaks
