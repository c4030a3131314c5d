"""What is too large for a .tflite file is refused before anything of it is read."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from edgeconv.convert.onnx import weight_limit
from edgeconv.convert.torch import load
from edgeconv.convert.torch.load import load_model
from edgeconv.convert.torch.pt2_inputs import float_bytes
from edgeconv.convert.torch.weight_limit import require_weights_fit
from edgeconv.core.errors import ConversionError

SIDE = 8192  # 256 MiB a matrix


def large(path: Path, count: int) -> Path:
    """Write a network of that many matrices, whose data is a hole in a file."""
    size = 4 * SIDE * SIDE
    weights, nodes = [], []
    for place in range(count):
        weight = onnx.TensorProto(name=f"w{place}", data_type=onnx.TensorProto.FLOAT)
        weight.dims.extend([SIDE, SIDE])
        weight.data_location = onnx.TensorProto.EXTERNAL
        place_of = {"location": "w.data", "offset": str(place * size), "length": str(size)}
        for key, value in place_of.items():
            weight.external_data.add(key=key, value=value)
        weights.append(weight)
        nodes.append(onnx.helper.make_node("MatMul", [f"x{place}", weight.name], [f"x{place + 1}"]))
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, SIDE])
        for name in ("x0", f"x{count}")
    ]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    opsets = [onnx.helper.make_opsetid("", 17)]
    path.write_bytes(
        onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    )
    with path.with_name("w.data").open("wb") as file:
        file.truncate(count * size)
    return path


def test_an_onnx_file_beyond_2_gib(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"2\.25 GiB as float32") as caught:
        load_model(large(tmp_path / "m.onnx", 9))
    assert "split the model" in str(caught.value)


def test_one_below_is_taken(tmp_path: Path) -> None:
    assert load_model(large(tmp_path / "m.onnx", 2)).inputs[0].shape == (1, SIDE)


def test_a_program_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(30, 40), torch.nn.Linear(40, 30)).eval()
    path = tmp_path / "m.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(1, 30),)), path)
    size = 4 * sum(weight.numel() for weight in module.parameters())
    assert float_bytes(path) == size
    monkeypatch.setattr(weight_limit, "_LIMIT", size)
    load_model(path)
    monkeypatch.setattr(weight_limit, "_LIMIT", size - 1)
    monkeypatch.setattr(load, "require_checksums", lambda path: pytest.fail("the file was read"))
    with pytest.raises(ConversionError, match="does not fit into one"):
        load_model(path)


def test_torch_weights_count_once_and_as_float32() -> None:
    half_gib = torch.empty(1 << 27, device="meta")
    require_weights_fit([half_gib] * 9, "m")  # one tensor, nine times
    vast = torch.empty(1 << 29, device="meta")
    with pytest.raises(ConversionError, match=r"m: the model does not fit"):
        require_weights_fit([vast], "m")
    doubles = torch.empty(1 << 28, device="meta", dtype=torch.float64)
    require_weights_fit([doubles], "m")
