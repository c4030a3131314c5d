"""ONNX files: checked before anything is loaded, pinned, and written whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeconv.convert.onnx.file import adopt, describe_onnx
from edgeconv.convert.torch.load import load_model
from edgeconv.core.artifacts import Artifact, Format
from edgeconv.core.errors import InvalidModel, UsageError

OPEN = """
    <ir_version: 8, opset_import: ["": 17]>
    open (float[batch, 3, 4] x) => (float[batch, N] y)
    <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}, int64[2] shape = {0, -1}> {
        z = MatMul(x, w)
        y = Reshape(z, shape)
    }
"""


def write(path: Path, text: str = OPEN) -> Path:
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def load(path: Path, **shapes: tuple[int, ...]) -> Artifact:
    artifact = load_model(path, input_shapes=shapes)
    assert isinstance(artifact, Artifact)
    assert artifact.format is Format.ONNX
    return artifact


def test_an_open_batch_stays_open_unless_it_is_pinned(tmp_path: Path) -> None:
    source = write(tmp_path / "model.pt")
    artifact = adopt(load(source), tmp_path / "open.onnx")
    assert [spec.shape for spec in artifact.inputs] == [(None, 3, 4)]
    assert [spec.shape for spec in artifact.outputs] == [(None, 6)]
    fixed = load_model(source, open_batch=False)
    assert [spec.shape for spec in fixed.inputs] == [(1, 3, 4)]
    (tmp_path / "open.onnx").unlink()
    with pytest.raises(UsageError, match="expected batch,3,4, got 2,3,5"):
        load(source, x=(2, 3, 5))
    before = source.read_bytes()
    artifact = adopt(load(source, x=(2, 3, 4)), tmp_path / "pinned.onnx")
    assert source.read_bytes() == before
    assert [(spec.name, spec.shape) for spec in artifact.inputs] == [("x", (2, 3, 4))]
    assert [(spec.name, spec.shape) for spec in artifact.outputs] == [("y", (2, 6))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "pinned.onnx"]
    session = onnxruntime.InferenceSession(str(artifact.path))
    assert session.run(None, {"x": np.ones((2, 3, 4), np.float32)})[0].shape == (2, 6)


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ("float[batch, T, 4] x", r"'x' has open dimensions: batch,T,4(.|\n)*x=1,1,4"),
        ("float[2, T, 4] x", "'x' has open dimensions: 2,T,4"),
        ("float[batch, 3, 4] x, float[3, batch] y", "'x' has open dimensions: batch,3,4"),
        ("float[batch, 3, 4] x, float[rows, 3] y", "'x' has open dimensions: batch,3,4"),
    ],
)
def test_other_open_dimensions_are_asked_for(tmp_path: Path, shapes: str, told: str) -> None:
    text = f'<ir_version: 8, opset_import: ["": 17]> open ({shapes}) => (float[N, M, 4] z)'
    source = write(tmp_path / "model.onnx", text + " { z = Relu(x) }")
    with pytest.raises(UsageError, match=told):
        load(source)


def test_static_models_need_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "m", OPEN.replace("batch", "5"))
    artifact = load(source)
    assert artifact.inputs[0].shape == (5, 3, 4)
    assert adopt(artifact, tmp_path / "n").outputs[0].shape == (5, 6)
    assert describe_onnx(tmp_path / "n").inputs == artifact.inputs


def test_initializers_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(OPEN.replace("batch", "5"))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 2]))
    onnx.save(model, tmp_path / "m")
    assert [spec.name for spec in load(tmp_path / "m").inputs] == ["x"]


def test_inputs_that_are_no_tensors(tmp_path: Path) -> None:
    text = OPEN.replace("float[batch, 3, 4] x", "string[1] s, float[1, 3, 4] x")
    with pytest.raises(InvalidModel, match="'s' is a string"):
        load(write(tmp_path / "m", text))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_truncated(tmp_path: Path, part: float) -> None:
    source = write(tmp_path / "m", OPEN.replace("batch", "5"))
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InvalidModel, match=r"truncated|not a valid ONNX"):
        load(source)


def test_refused_by_the_checker(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(OPEN.replace("batch", "5"))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "m")
    with pytest.raises(InvalidModel, match=r"not a valid ONNX model.*NoSuchOperator"):
        load(tmp_path / "m")


def test_shapes_that_contradict_each_other(tmp_path: Path) -> None:
    source = write(tmp_path / "m", OPEN.replace("batch, 3, 4", "1, 3, 7").replace("batch", "1"))
    with pytest.raises(InvalidModel, match="contradict"):
        adopt(load(source), tmp_path / "n")
    assert not (tmp_path / "n").exists()


def external(path: Path, location: str, *, length: int = 32) -> Path:
    """Write the model with its weight in another file."""
    model = onnx.parser.parse_model(OPEN.replace("batch", "5"))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    array = numpy_helper.to_array(tensor)
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    path.parent.mkdir(exist_ok=True)
    target = path.parent / location
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(array.tobytes())
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("location", ["weights.bin", "data/weights.bin"])
def test_external_data_beside_the_model(tmp_path: Path, location: str) -> None:
    source = external(tmp_path / "model" / "m.onnx", location)
    artifact = adopt(load(source), tmp_path / "n.onnx")
    (value,) = onnxruntime.InferenceSession(str(artifact.path)).run(
        None, {"x": np.ones((5, 3, 4), np.float32)}
    )
    np.testing.assert_array_equal(value[0], [16, 20] * 3)


@pytest.mark.parametrize("where", ["../outside.bin", "absolute", "data/../../outside.bin"])
def test_external_data_outside(tmp_path: Path, where: str) -> None:
    location = str(tmp_path / "outside.bin") if where == "absolute" else where
    (tmp_path / "model" / "data").mkdir(parents=True)
    source = external(tmp_path / "model" / "m.onnx", location)
    with pytest.raises(InvalidModel, match=r"outside the model's directory"):
        load(source)


def test_external_data_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(32))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").symlink_to(tmp_path / "outside.bin")
    source = external(tmp_path / "model" / "m.onnx", "weights.bin")
    with pytest.raises(InvalidModel, match=r"outside the model's directory"):
        load(source)


def test_external_data_missing_or_short(tmp_path: Path) -> None:
    source = external(tmp_path / "m.onnx", "weights.bin")
    (tmp_path / "weights.bin").write_bytes(bytes(31))
    with pytest.raises(InvalidModel, match=r"truncated(.|\n)*needed are 32"):
        load(source)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InvalidModel, match="is missing"):
        load(source)
    source = external(tmp_path / "m.onnx", "weights.bin", length=-1)
    with pytest.raises(InvalidModel):
        load(source)


@pytest.mark.parametrize("length", [16, 64])
def test_external_data_of_another_length(tmp_path: Path, length: int) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    source = external(tmp_path / "m.onnx", "weights.bin", length=length)
    with pytest.raises(InvalidModel, match=rf"not the tensor's: {length} bytes .* has 32"):
        load(source)


def test_external_data_in_half_bytes(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[5] x) => (float[5] y) <int4[5] w = {1, 2, 3, 4, 5}> { c = Cast<to=1>(w)
        y = Add(x, c) }"""
    model = onnx.parser.parse_model(text)
    (tensor,) = model.graph.initializer
    tensor.ClearField("int32_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("length", "3")):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "w.bin").write_bytes(bytes(3))
    onnx.save(model, tmp_path / "m.onnx")
    load(tmp_path / "m.onnx")


@pytest.mark.parametrize("opset", [0, 99])
def test_an_opset_that_nobody_knows(tmp_path: Path, opset: int) -> None:
    source = write(tmp_path / "m", OPEN.replace("batch", "1"))
    model = onnx.load(source)
    model.opset_import[0].version = opset
    onnx.save(model, source)
    with pytest.raises(InvalidModel, match=f"opset {opset} is not known"):
        load(source)


def test_external_data_in_a_subgraph(tmp_path: Path) -> None:
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        g (bool c, float[2] x) => (float[2] y) {
            y = If (c) <
                then_branch = a () => (float[2] p) <float[2] k = {1, 2}> { p = Add(x, k) },
                else_branch = b () => (float[2] q) { q = Identity(x) }
            >
        }
    """
    model = onnx.parser.parse_model(text)
    branches = {attribute.name: attribute.g for attribute in model.graph.node[0].attribute}
    tensor = branches["then_branch"].initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    onnx.save(model, tmp_path / "m")
    with pytest.raises(InvalidModel, match=r"outside(.|\n)*/etc/passwd"):
        load(tmp_path / "m")


def test_large_models_keep_their_weights_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeconv.convert.onnx.file.MAX_INLINE", 10)
    monkeypatch.setattr("edgeconv.convert.onnx.file._INLINE_TENSOR", 20)
    source = external(tmp_path / "model" / "m.onnx", "weights.bin")
    artifact = adopt(load(source), tmp_path / "n.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "n.onnx", "n.onnx.data"]
    assert artifact.outputs[0].shape == (5, 6)
    onnxruntime.InferenceSession(str(artifact.path))
