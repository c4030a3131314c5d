"""What would be refused is known before anything is converted."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgeconv.convert.saved_model.preflight import preflight
from edgeconv.core.errors import InvalidModel

HEADER = '<ir_version: 10, opset_import: ["": 21, "nowhere": 1]>'
UNSUPPORTED = """g (float[1,2,6,5] x) => (float[1,2,6,5] y)
<float ratio = {0.5}, bool training = {1}>
{ a = nowhere.Strange(x)
  b = Dropout(x, ratio, training)
  y = Add(a, b) }"""


def save(text: str, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(HEADER + text), path)
    return path


def test_a_supported_model_has_nothing_to_report(tmp_path: Path) -> None:
    path = save("g (float[1,2,6,5] x) => (float[1,2,6,5] y) { y = Relu(x) }", tmp_path)
    assert preflight(str(path)) == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_all_that_would_be_refused_is_listed_with_its_origin(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(HEADER + UNSUPPORTED)
    model.graph.node[0].metadata_props.add(
        key="pkg.torch.onnx.name_scopes", value="['', 'head', 'head.strange', 'op']"
    )
    model.graph.node[0].metadata_props.add(
        key="pkg.torch.onnx.stack_trace", value='File "/home/me/net.py", line 7, in forward'
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    nodes = {node["op"].partition("-")[0]: node for node in preflight(str(path))}
    assert set(nodes) == {"nowhere::Strange", "Dropout"}
    assert nodes["nowhere::Strange"]["module"] == "head.strange"
    assert nodes["nowhere::Strange"]["source"] == "net.py:7"
    assert "training_mode" in nodes["Dropout"]["reason"]


def test_open_dimensions_are_taken_as_one_unless_given(tmp_path: Path) -> None:
    path = save("g (float[N,4] x) => (float[N,4] y) { y = Softmax<axis=1>(x) }", tmp_path)
    assert preflight(str(path)) == []
    assert preflight(str(path), {"x": (3, 4)}) == []


def test_damage_is_an_error(tmp_path: Path) -> None:
    path = save("g (float[2] x) => (float[2] y) { y = Relu(x) }", tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidModel):
        preflight(str(path))


def test_the_file_is_not_changed(tmp_path: Path) -> None:
    path = save("g (float[2] x) => (float[2] y) { y = Relu(x) }", tmp_path)
    before = path.read_bytes()
    preflight(str(path))
    assert path.read_bytes() == before
