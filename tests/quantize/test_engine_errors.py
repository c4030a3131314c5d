"""What the engine refuses, in which words, and that it leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from edgeconv.core.errors import InvalidData, InvalidModel, UnsupportedModel, UsageError
from edgeconv.quantize.engine import quantize
from edgeconv.quantize.rewrite import check
from edgeconv.quantize.rewrite.lower import LOWERED, lower
from edgeconv.quantize.rules.table import RULES
from edgeconv.tflite.file import BUILTIN_CODES
from edgeconv.toolchain.worker.process import Worker

_ROWS = [[np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)]]


def _relu(lab: Any) -> Any:
    model = lab.model()
    return lab.save(model, model.op("RELU", model.input(1, 8)))


def test_operators_without_an_int8_form_are_listed_together(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 8)
    options = {"exclusive": False, "reverse": False}
    total = model.op("CUMSUM", x, model.constant(1, "int32"), **options)
    angle = model.op("ATAN2", x, total)
    artifact = lab.save(model, total, model.op("RELU", angle), model.op("POW", x, x))
    with pytest.raises(UnsupportedModel) as caught:
        lab.quantize(artifact, _ROWS, mixed=False)
    assert {node.op for node in caught.value.nodes} == {"CUMSUM", "ATAN2", "POW"}
    assert all(node.node for node in caught.value.nodes)
    assert not (lab.folder / "int8.tflite").exists()


@pytest.mark.parametrize("builtin", sorted({*BUILTIN_CODES} - {*RULES, *LOWERED}))
def test_no_other_operator_stays_float_in_silence(lab: Any, builtin: str) -> None:
    graph = lab.model().graph
    x, y = (graph.add_activation(name, (1, 8), "float32") for name in "xy")
    graph.subgraph.inputs, graph.subgraph.outputs = [x], [y]
    graph.operators.append(graph.operator(builtin, 1, (x,), (y,)))
    assert lower(graph, ["int8"]) == ["int8"]
    with pytest.raises(UnsupportedModel, match="y") as caught:
        check.supported(graph, ["int8"])
    assert [node.op for node in caught.value.nodes] == [builtin]


def test_integer_parts_need_no_rule(lab: Any) -> None:
    model = lab.model()
    numbers = model.input(1, 8, dtype="int32")
    options = {"exclusive": False, "reverse": False}
    total = model.op("CUMSUM", numbers, model.constant(1, "int32"), dtypes=("int32",), **options)
    artifact = lab.save(model, total, model.op("RELU", model.input(1, 8)))
    quantized = lab.quantize(artifact, [[np.ones((1, 8), np.int32), *_ROWS[0]]])
    assert [spec.dtype for spec in quantized.outputs] == ["int32", "float32"]


@pytest.mark.parametrize("mode", ["int8", "dynamic", "fp16"])
def test_a_quantized_model_is_refused(lab: Any, mode: str) -> None:
    quantized = lab.quantize(_relu(lab), _ROWS)
    with pytest.raises(InvalidModel, match="quantized already"):
        lab.quantize(quantized, _ROWS, mode=mode)


def test_a_model_without_float_tensors_is_refused(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 8, dtype="int32")
    artifact = lab.save(model, model.op("ADD", x, x, dtypes=("int32",)))
    with pytest.raises(InvalidModel, match="nothing to quantize"):
        lab.quantize(artifact, [[np.ones((1, 8), np.int32)]])


def test_a_dynamic_shape_is_refused(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 8)
    model.graph.tensors[x].shapeSignature = np.array([1, -1], np.int32)
    artifact = lab.save(model, model.op("RELU", x))
    with pytest.raises(InvalidModel, match=r"x0 has no fixed shape.*\[1, -1\](.|\n)*input_shapes"):
        lab.quantize(artifact, _ROWS)


def test_a_variable_is_refused(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, model.op("RELU", model.input(1, 8)))
    model.graph.tensors[-1].isVariable = True
    artifact = lab.save(model, *model.graph.outputs)
    with pytest.raises(UnsupportedModel, match="state"):
        lab.quantize(artifact, _ROWS)


@pytest.mark.parametrize("calibrator", ["minmax", "mse"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_number_in_the_samples_names_the_input(lab: Any, calibrator: str, bad: float) -> None:
    row = _ROWS[0][0].copy()
    row[0, 3] = bad
    with pytest.raises(InvalidData, match=r"x0: .*NaN or infinite"):
        lab.quantize(_relu(lab), [[row], *_ROWS], calibrator=calibrator)


@pytest.mark.parametrize("calibrator", ["minmax", "mse"])
def test_a_bad_number_inside_names_the_tensor(lab: Any, calibrator: str) -> None:
    model = lab.model()
    logs = model.op("LOG", model.input(1, 8))
    model.graph.tensors[logs].name = "the_logs"
    artifact = lab.save(model, model.op("RELU", logs))
    with pytest.raises(InvalidData, match="the_logs"):
        lab.quantize(artifact, _ROWS, calibrator=calibrator)


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e-38, 1e-42])
def test_samples_that_are_all_the_same_number(lab: Any, value: float, mode: str) -> None:
    rng = np.random.default_rng(0)
    m = lab.model()
    weight, bias = m.constant(rng.normal(size=(6, 3, 3, 3))), m.constant(rng.normal(size=6))
    x = m.op("CONV_2D", m.input(1, 4, 4, 3), weight, bias, strideH=1, strideW=1)
    total = m.op("ADD", m.op("LOGISTIC", x), m.op("RELU", x))
    artifact = lab.save(m, m.op("MEAN", total, m.constant([1, 2], "int32")))
    rows = [[np.full((1, 4, 4, 3), value, np.float32)]] * 3
    quantized = lab.quantize(artifact, rows, mode)
    assert lab.sqnr(lab.run(artifact.path, rows)[0], lab.run(quantized.path, rows)[0]) > 35


def test_values_beyond_float32_name_the_tensor(lab: Any) -> None:
    m = lab.model()
    large = m.op("MUL", m.input(1, 8), m.constant(1e30))
    m.graph.tensors[large].name = "the_product"
    artifact = lab.save(m, m.op("RELU", large))
    with pytest.raises(InvalidData, match="the_product"):
        lab.quantize(artifact, [[np.full((1, 8), 1e20, np.float32)]])


_QLINEAR = """<ir_version: 8, opset_import: ["": 17]>
g (float[1,4] x) => (float[1,3] y)
<float s = {0.02}, uint8 z = {128}, uint8[4,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}> {
  q = QuantizeLinear(x, s, z)
  p = QLinearMatMul(q, s, z, w, s, z, s, z)
  y = DequantizeLinear(p, s, z)
}"""


def test_onnx_that_computes_in_integers_is_refused(lab: Any) -> None:
    onnx_file = lab.folder / "integers.onnx"
    onnx.save(onnx.parser.parse_model(_QLINEAR), onnx_file)
    for mode in ("int8", "int16x8"):
        said = r"^integers.onnx: .* quantized already: .*QLinearMatMul(.|\n)*QDQ"
        with pytest.raises(InvalidModel, match=said):
            lab.quantize(_relu(lab), _ROWS, mode, onnx=str(onnx_file))
    lab.quantize(_relu(lab), mode="fp16", onnx=str(onnx_file))


def test_a_bad_weight_is_refused(lab: Any) -> None:
    model = lab.model()
    weight = np.full((3, 8), np.nan, np.float32)
    dense = model.op("FULLY_CONNECTED", model.input(1, 8), model.constant(weight), -1, version=6)
    artifact = lab.save(model, dense)
    with pytest.raises((InvalidModel, InvalidData), match="NaN"):
        lab.quantize(artifact, _ROWS)


def test_samples_that_tell_nothing_of_ranges_are_named(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, model.op("RELU", model.input(1, 8)))
    for value, zeros in ((0.5, False), (-2.0, True)):
        samples = lab.samples(artifact, [[np.full((1, 8), value, np.float32)]] * 8)
        path = lab.folder / "constant.tflite"
        answer = quantize(artifact.to_dict(), str(path), "int8", samples=samples)
        assert f"input x0 is {value:g} in all calibration samples" in answer["notes"][0]
        assert zeros == any("activations are zero in all" in note for note in answer["notes"])
        lab.run(path, [[np.full((1, 8), value, np.float32)]])


def test_samples_must_fit(lab: Any) -> None:
    artifact = _relu(lab)
    with pytest.raises(InvalidData, match="x0"):
        lab.quantize(artifact, [[np.zeros((1, 9), np.float32)]])
    with pytest.raises(InvalidData, match="at least one sample"):
        empty = lab.folder / "empty.npz"
        np.savez(empty, x0=np.zeros((0, 1, 8), np.float32))
        quantize(artifact.to_dict(), str(lab.folder / "out"), "int8", samples=str(empty))
    with pytest.raises(InvalidData, match="lack inputs"):
        other = lab.folder / "other.npz"
        np.savez(other, y=np.zeros((1, 1, 8), np.float32))
        quantize(artifact.to_dict(), str(lab.folder / "out"), "int8", samples=str(other))


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "int4"},
        {"mode": "int8", "io_dtype": "float16"},
        {"mode": "int8", "calibrator": "best"},
        {"mode": "int8"},
        {"mode": "fp16", "io_dtype": "int8"},
    ],
)
def test_wrong_arguments(lab: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        quantize(_relu(lab).to_dict(), str(lab.folder / "out"), **arguments)


def test_a_missing_model_file(lab: Any) -> None:
    artifact = _relu(lab)
    artifact.path.unlink()
    with pytest.raises(InvalidModel, match="cannot be read"):
        lab.quantize(artifact, _ROWS)


def test_progress_counts_the_samples(lab: Any) -> None:
    seen: list[tuple[int, int]] = []
    options = {"progress": lambda *counts: seen.append(counts), "disable_recovery": ["all"]}
    lab.quantize(_relu(lab), _ROWS * 3, **options)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_progress_counts_all_samples_where_recovery_keeps_nothing(lab: Any) -> None:
    seen: list[tuple[int, int]] = []
    lab.quantize(_relu(lab), _ROWS * 6, progress=lambda *counts: seen.append(counts))
    assert seen == [(count, 6) for count in range(1, 7)]


def test_the_engine_runs_in_a_worker(lab: Any, tmp_path: Path) -> None:
    artifact = _relu(lab)
    with Worker("quantization") as worker:
        result = worker.call(
            "edgeconv.quantize.engine:quantize",
            model=artifact.to_dict(),
            path=str(tmp_path / "worker.tflite"),
            mode="int8",
            samples=lab.samples(artifact, _ROWS),
        )
    assert result["format"] == "tflite"
    assert Path(result["path"]).exists()


def test_a_refusal_names_what_can_be_done(lab: Any) -> None:
    model = lab.model()
    y = model.op("CUMSUM", model.input(2, 3), model.constant(1, "int32"))
    rows = [[np.ones((2, 3), np.float32)]]
    with pytest.raises(UnsupportedModel) as caught:
        lab.quantize(lab.save(model, y), rows, mixed=False)
    assert "with cut NODE" in str(caught.value)
