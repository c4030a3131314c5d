"""Models written by templates: read as those that the object API writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import (
    BuiltinOptions,
    FullyConnectedOptionsT,
    ModelT,
    OperatorT,
    QuantizationParametersT,
    ReshapeOptionsT,
    SubGraphT,
)

from edgeconv.tflite import file as tflite
from edgeconv.tflite.templates import Templates


def quantized(scale: float, zero_point: int) -> QuantizationParametersT:
    """Return one scale and zero point."""
    found = QuantizationParametersT()
    found.scale = np.array([scale], np.float32)
    found.zeroPoint = np.array([zero_point], np.int64)
    return found


def dense(seed: int, layers: int = 4) -> ModelT:
    """Return int8 layers whose weights, scales and names differ, and a RESHAPE behind them."""
    rng = np.random.default_rng(seed)
    model, graph = ModelT(), SubGraphT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], []
    model.buffers = []
    tflite.add_buffer(model, None)
    graph.tensors, graph.operators = [], []
    code = tflite.opcode_index(model, "FULLY_CONNECTED", 4)

    def activation(number: int) -> int:
        affine = quantized(float(rng.uniform(0.01, 0.1)), int(rng.integers(-9, 9)))
        return tflite.add_tensor(
            model, graph, f"layer/{'x' * number}", (1, 8), "int8", quantization=affine
        )

    source = activation(0)
    graph.inputs = [source]
    for number in range(layers):
        weight = tflite.add_tensor(
            model, graph, f"weight{number}", (8, 8), "int8",
            value=rng.integers(-127, 128, (8, 8)).astype(np.int8),
            quantization=quantized(float(rng.uniform(0.001, 0.01)), 0),
        )  # fmt: skip
        made = activation(number + 1)
        operator = OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = code, [source, weight, -1], [made]
        operator.builtinOptionsType = BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = FullyConnectedOptionsT()
        graph.operators.append(operator)
        source = made
    operator = OperatorT()
    operator.opcodeIndex = tflite.opcode_index(model, "RESHAPE", 1)
    affine = graph.tensors[source].quantization
    made = tflite.add_tensor(model, graph, "y", (2, 4), "int8", quantization=affine)
    operator.inputs, operator.outputs = [source], [made]
    operator.builtinOptionsType, operator.builtinOptions = (
        BuiltinOptions.ReshapeOptions, ReshapeOptionsT(),
    )  # fmt: skip
    operator.builtinOptions.newShape = [2, 4]
    graph.operators.append(operator)
    graph.outputs = [made]
    return model


def plain(value: Any) -> Any:
    """Return an object of the schema as values that can be compared."""
    if hasattr(value, "Pack"):
        return {name: plain(one) for name, one in vars(value).items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [plain(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("layers", [1, 4])
def test_it_reads_as_what_the_object_api_writes(layers: int) -> None:
    templates = Templates()
    for seed in range(3):  # templates of the first model serve the others
        model = dense(seed, layers)
        expected = plain(tflite.parse(bytes(tflite.serialize(model))))
        assert plain(tflite.parse(bytes(templates.serialize(model)))) == expected


def test_the_model_is_left_as_it_was() -> None:
    model = dense(0)
    before = bytes(tflite.serialize(model))
    Templates().serialize(model)
    assert bytes(tflite.serialize(model)) == before


def test_it_runs_alike() -> None:
    templates = Templates()
    for seed in range(2):
        model = dense(seed)
        outputs = []
        for content in (tflite.serialize(model), templates.serialize(model)):
            interpreter = Interpreter(model_content=bytes(content))
            interpreter.allocate_tensors()
            interpreter.set_tensor(
                interpreter.get_input_details()[0]["index"],
                np.arange(-32, 32, 8, dtype=np.int8)[None],
            )
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
        assert np.array_equal(*outputs)
        assert outputs[0].any()


def test_weights_are_aligned() -> None:
    model = dense(0)
    large = np.arange(9000, dtype=np.uint8)
    tflite.add_buffer(model, large)
    raw = bytes(Templates().serialize(model))
    for buffer in model.buffers[1:]:
        place = raw.index(buffer.data.tobytes())
        assert place % 16 == 0


def test_what_is_packed_once_is_not_packed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = []
    original = OperatorT.Pack

    def counted(self: OperatorT, builder: Any) -> Any:
        packed.append(self)
        return original(self, builder)

    monkeypatch.setattr(OperatorT, "Pack", counted)
    templates = Templates()
    templates.serialize(dense(0, 40))
    assert len(packed) == 2
    templates.serialize(dense(1, 40))
    assert len(packed) == 2
