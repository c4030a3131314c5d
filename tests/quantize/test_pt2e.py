"""A program that PyTorch's PT2E flow has quantized: its scales are arguments of its operators.

``data/pt2e.pt2`` was written by torchao 0.18 with its XNNPACKQuantizer, per channel, from two
convolutions with a batch norm, a sum, a mean and a dense layer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeconv import convert
from edgeconv.convert.torch.files import load_exported_program
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_PROGRAM = Path(__file__).parent / "data" / "pt2e.pt2"


def _stated() -> tuple[set[tuple[float, int]], list[list[float]]]:
    """Return scale and zero point of each activation, and the scales of each weight."""
    program = load_exported_program(_PROGRAM, trust_pickle=False)
    buffers = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
    activations, weights = set(), []
    for node in program.graph.nodes:
        name = str(node.target)
        if name == "quantized_decomposed.quantize_per_tensor.default":
            activations.add((float(np.float32(node.args[1])), int(node.args[2])))
        elif name == "quantized_decomposed.dequantize_per_channel.default":
            weights.append(program.state_dict[buffers[node.args[1].name]].float().tolist())
    return activations, weights


@pytest.mark.slow
def test_a_program_of_pt2e_keeps_its_scales(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    data = {"x": torch.randn(16, 1, 3, 8, 8, generator=generator).numpy()}
    result = convert(
        _PROGRAM,
        quantize="int8",
        calibration_data=data,
        output=tmp_path / "out.edgeconv",
        gates={"tflite_int8": {"sqnr_db": 40.0}},
    )
    assert result.passed
    graph = Graph(tflite.load(result.model.path))
    edges = {*graph.inputs, *graph.outputs}
    activations, weights = _stated()
    found, stored = set(), []
    for index, tensor in enumerate(graph.tensors):
        scale = None if tensor.quantization is None else tensor.quantization.scale
        if scale is None:
            assert index in edges or graph.dtype(index) != "float32"
        elif graph.is_constant(index):
            stored.append(scale.tolist())
        else:
            found.add((float(scale[0]), int(tensor.quantization.zeroPoint[0])))
    assert len(activations) == 5
    assert found == activations
    assert len(weights) == 3
    assert all(scales in stored for scales in weights)
