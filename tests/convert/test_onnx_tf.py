from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import pytest

from edgeconv.convert.saved_model.onnx_tf import at_known_opset, rename_ends
from edgeconv.core.errors import ConversionError

X = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)


def _model(text: str, opset: int) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')


def _evaluate(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnx.reference.ReferenceEvaluator(model)
    return list(session.run(None, {session.input_names[0]: X}))


def test_newer_opsets_are_brought_down_and_compute_the_same() -> None:
    text = """g (float[1,2,3,4] x.0) => (float[1,2] y.0) {
        axes = Constant<value = int64[2] {2, 3}>()
        y.0 = ReduceMean<keepdims = 0, noop_with_empty_axes = 0>(x.0, axes)
    }"""
    old = at_known_opset(_model(text.replace("x.0", "x").replace("y.0", "y"), 18))
    assert [entry.version for entry in old.opset_import] == [15]
    assert old.ir_version <= 8
    onnx.checker.check_model(old)
    np.testing.assert_allclose(_evaluate(old)[0], X.mean(axis=(2, 3)))


def test_what_the_version_converter_cannot_do_is_an_error() -> None:
    text = "g (float[1,2,3,4] x) => (float[1,2,3,4] y) { y = Gelu(x) }"
    with pytest.raises(ConversionError) as caught:
        at_known_opset(_model(text, 20))
    assert "opset 20" in str(caught.value)
    assert 'converter="native"' in caught.value.hint


def test_names_of_inputs_and_outputs_become_identifiers() -> None:
    model = _model("g (float[1,2,3,4] x) => (float[1,2,3,4] y) { y = Relu(x) z = Neg(y) }", 13)
    model.graph.output.append(onnx.helper.make_tensor_value_info("x", 1, [1, 2, 3, 4]))
    before = _evaluate(model)
    names = rename_ends(model)
    onnx.checker.check_model(model)
    assert [item.name for item in model.graph.input] == ["edgeconv_input_0"]
    assert [names[item.name] for item in model.graph.output] == ["y", "x"]
    for first, second in zip(before, _evaluate(model), strict=True):
        np.testing.assert_array_equal(first, second)
