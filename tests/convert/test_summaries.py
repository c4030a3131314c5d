"""What `inspect` says of files that hold numbers nobody has a name for."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgeconv.inspection.summaries import onnx_summary, saved_model_summary


def test_an_element_type_without_a_name(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Neg(x) }'
    )
    graph = model.graph
    # The checker looks at the types of inputs only where an operator has to take them.
    graph.output[0].type.tensor_type.elem_type = 128
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert onnx_summary(str(path))["outputs"][0]["dtype"] == "type 128"


def test_a_dtype_without_a_name(tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    signature = model.meta_graphs.add().signature_def["serving_default"]
    signature.inputs["x"].dtype = 999
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    (found,) = saved_model_summary(str(tmp_path))["signatures"]
    assert found["inputs"][0]["dtype"] == "type 999"
