"""Reading and writing of .tflite files: whole, broken, and with weights outside."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.core.artifacts import Array
from edgeconv.core.errors import ConversionError, InvalidModel
from edgeconv.tflite import file as tflite


def _model(weight: Array, *, external: bool = False) -> Any:
    """Return a model of one dense layer, ``y = x @ weight.T``."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version, model.operatorCodes, model.buffers = 3, [], [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    model.subgraphs = [graph]
    rows, columns = weight.shape
    tflite.add_tensor(model, graph, "x", (1, columns), "float32")
    tflite.add_tensor(model, graph, "w", weight.shape, "float32", value=weight)
    tflite.add_tensor(model, graph, "y", (1, rows), "float32")
    operator = schema.OperatorT()
    operator.opcodeIndex = tflite.opcode_index(model, "FULLY_CONNECTED", 1)
    operator.inputs, operator.outputs = [0, 1, -1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators = [operator]
    graph.inputs, graph.outputs = [0], [2]
    return model


_WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def _run(content: bytes) -> Array:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    x = np.array([[1.0, -1.0, 0.5, 2.0]], np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    result: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return result


def test_what_is_saved_runs_and_loads_again(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    tflite.save(_model(_WEIGHT), path)
    expected = np.array([[1.0, -1.0, 0.5, 2.0]], np.float32) @ _WEIGHT.T
    np.testing.assert_allclose(_run(path.read_bytes()), expected)
    model = tflite.load(path)
    graph = model.subgraphs[0]
    assert [tflite.tensor_name(tensor) for tensor in graph.tensors] == ["x", "w", "y"]
    assert tflite.operator_name(model, graph.operators[0]) == "FULLY_CONNECTED"
    assert [tflite.dtype_of(tensor) for tensor in graph.tensors] == ["float32"] * 3
    assert [tflite.is_constant(model, tensor) for tensor in graph.tensors] == [False, True, False]
    np.testing.assert_array_equal(tflite.constant(model, graph.tensors[1]), _WEIGHT)


def test_a_model_in_place_is_the_same(tmp_path: Path) -> None:
    path, other = tmp_path / "m.tflite", tmp_path / "other.tflite"
    tflite.save(_model(_WEIGHT), path)
    tflite.save(tflite.load(path, in_place=True), other)
    assert other.read_bytes() == path.read_bytes()


def test_weights_are_aligned_to_sixteen_bytes(tmp_path: Path) -> None:
    for columns in range(1, 9):
        content = bytes(tflite.serialize(_model(np.full((3, columns), 1.5, np.float32))))
        data = np.full(3 * columns, 1.5, np.float32).tobytes()
        assert content.count(data) >= 1
        assert content.index(data) % 16 == 0


def test_weights_behind_the_flatbuffer_are_brought_in(tmp_path: Path) -> None:
    model = _model(_WEIGHT)
    data = model.buffers[1].data.tobytes()
    model.buffers[1].data = None
    model.buffers[1].offset, model.buffers[1].size = 1 << 20, len(data)
    start = (len(tflite.serialize(model)) + 15) // 16 * 16
    model.buffers[1].offset = start
    path = tmp_path / "outside.tflite"
    path.write_bytes(bytes(tflite.serialize(model)).ljust(start, b"\0") + data)
    loaded = tflite.load(path)
    np.testing.assert_array_equal(tflite.constant(loaded, loaded.subgraphs[0].tensors[1]), _WEIGHT)
    tflite.save(loaded, path)
    again = tflite.load(path)
    assert all(buffer.offset == 0 for buffer in again.buffers)
    np.testing.assert_array_equal(tflite.constant(again, again.subgraphs[0].tensors[1]), _WEIGHT)


def test_weights_that_lie_behind_the_end_are_refused() -> None:
    model = _model(_WEIGHT)
    model.buffers[1].data = None
    model.buffers[1].offset, model.buffers[1].size = 1 << 20, 48
    with pytest.raises(InvalidModel, match="corrupt"):
        tflite.parse(bytes(tflite.serialize(model)))


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\3\4 a zip file, not a model", b"\0" * 64])
def test_what_is_no_tflite_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    for in_place in (False, True):
        with pytest.raises(InvalidModel, match="not a TFLite model"):
            tflite.load(path, in_place=in_place)


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(InvalidModel, match="cannot be read"):
            tflite.load(path)


def test_every_truncation_is_refused() -> None:
    content = bytes(tflite.serialize(_model(_WEIGHT)))
    for size in range(len(content)):
        with pytest.raises(InvalidModel):
            tflite.parse(content[:size])


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_a_damaged_file_loads_or_is_refused(data: st.DataObject) -> None:
    content = bytearray(tflite.serialize(_model(_WEIGHT)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(8, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    try:
        model = tflite.parse(bytes(content))
    except InvalidModel:
        return
    tflite.serialize(model)


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m.subgraphs[0].operators[0].inputs.append(99),
        lambda m: m.subgraphs[0].outputs.append(-1),
        lambda m: setattr(m.subgraphs[0].operators[0], "opcodeIndex", 5),
        lambda m: setattr(m.subgraphs[0].tensors[1], "buffer", 77),
        lambda m: setattr(m.subgraphs[0].tensors[1], "shape", np.array([3, 5], np.int32)),
        lambda m: setattr(m.subgraphs[0].tensors[0], "shape", np.array([-3, 5], np.int32)),
        lambda m: setattr(m, "subgraphs", []),
    ],
)
def test_an_index_or_size_that_leads_nowhere_is_refused(damage: Any) -> None:
    model = _model(_WEIGHT)
    damage(model)
    with pytest.raises(InvalidModel, match="corrupt"):
        tflite.parse(bytes(tflite.serialize(model)))


def test_operator_codes_are_reused_by_name_and_version() -> None:
    model = _model(_WEIGHT)
    assert tflite.opcode_index(model, "FULLY_CONNECTED", 1) == 0
    assert tflite.opcode_index(model, "FULLY_CONNECTED", 4) == 1
    large = tflite.opcode_index(model, "GELU", 2)
    assert model.operatorCodes[large].deprecatedBuiltinCode == 127
    loaded = tflite.parse(bytes(tflite.serialize(model)))
    names = [tflite.builtin_name(code) for code in loaded.operatorCodes]
    assert names == ["FULLY_CONNECTED", "FULLY_CONNECTED", "GELU"]


def test_a_failing_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.tflite"
    tflite.save(_model(_WEIGHT), path)
    before = path.read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        tflite.save(_model(_WEIGHT + 1), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.tflite"]
    assert path.read_bytes() == before


def test_more_than_a_flatbuffer_holds_is_refused() -> None:
    model = _model(_WEIGHT)
    model.buffers += [model.buffers[1]] * 1
    model.buffers[1].data = np.broadcast_to(np.zeros(1, np.uint8), (1 << 31,))
    with pytest.raises(ConversionError, match="does not fit"):
        tflite.serialize(model)


def test_forty_megabytes_are_saved_and_loaded_in_under_two_seconds(tmp_path: Path) -> None:
    """In seconds of this process, so that a busy machine does not decide."""
    model = _model(np.ones((10_000, 1_100), np.float32))
    start = time.process_time()
    tflite.save(model, tmp_path / "m.tflite")
    tflite.load(tmp_path / "m.tflite")
    assert time.process_time() - start < 2


def _shared(graphs: int, tensors: int, name: int = 0) -> bytes:
    """Return a file whose vectors lead to one subgraph, and one tensor, again and again."""
    from ai_edge_litert import schema_py_generated as schema

    builder = flatbuffers.Builder(1 << 20)
    text = builder.CreateString("t" * name)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, text)
    tensor = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, tensors)
    for _ in range(tensors):
        builder.PrependUOffsetTRelative(tensor)
    vector = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, vector)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, graphs)
    for _ in range(graphs):
        builder.PrependUOffsetTRelative(graph)
    vector = builder.EndVector()
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    schema.ModelStartBuffersVector(builder, 1)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    schema.ModelStartOperatorCodesVector(builder, 0)
    codes = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, vector)
    schema.ModelAddBuffers(builder, buffers)
    schema.ModelAddOperatorCodes(builder, codes)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("graphs", "tensors", "name"), [(20_000, 20_000, 0), (1000, 1000, 0), (1, 9000, 10_000)]
)
def test_shared_tables_are_counted_before_they_are_unpacked(
    graphs: int, tensors: int, name: int
) -> None:
    began = time.process_time()
    with pytest.raises(InvalidModel, match="stands for more than it can hold"):
        tflite.parse(_shared(graphs, tensors, name))
    assert time.process_time() - began < 1


def test_some_shared_tables_are_read() -> None:
    model = tflite.parse(_shared(3, 5, 4))
    assert [len(graph.tensors) for graph in model.subgraphs] == [5, 5, 5]


def test_a_scale_alone_gets_zero_points() -> None:
    model = _model(_WEIGHT)
    for tensor, scales, zeros in zip(
        model.subgraphs[0].tensors, ([0.5], [1.0, 2.0, 3.0], [0.5]), (None, [4], [7]), strict=True
    ):
        tensor.quantization = tflite.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = scales, zeros
    tensors = tflite.parse(bytes(tflite.serialize(model))).subgraphs[0].tensors
    assert [list(tensor.quantization.zeroPoint) for tensor in tensors] == [[0], [4], [7]]
    model.subgraphs[0].tensors[1].quantization.zeroPoint = [1, 2]
    with pytest.raises(InvalidModel, match="3 scales and 2 zero points"):
        tflite.parse(bytes(tflite.serialize(model)))
