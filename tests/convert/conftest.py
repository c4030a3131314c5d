"""Run small ONNX models through the translator and compare with ONNX's own runtimes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from onnx.reference import ReferenceEvaluator

from edgeconv.convert.ops import default_registry
from edgeconv.convert.passes import run_passes
from edgeconv.convert.saved_model.to_tflite import convert
from edgeconv.convert.saved_model.translate import build, load_graph
from edgeconv.convert.saved_model.translator import Translator
from edgeconv.convert.translate.value import Value, arranged, channels_last
from edgeconv.core.artifacts import Array, Arrays, Artifact
from edgeconv.tflite import file as tflite
from tests.convert.invariants import watched

NEWEST_IR = 13
ORT_IR = 10  # what every onnxruntime in range reads


@dataclass(frozen=True)
class Parity:
    """What `assert_parity` found.

    Attributes:
        outputs: The reference's outputs by name.
        operators: Builtin names of the TFLite operators in order; empty if TFLite was left out.
    """

    outputs: Arrays
    operators: tuple[str, ...]

    def count(self, operator: str) -> int:
        """Return how many TFLite operators of a kind there are."""
        return self.operators.count(operator)


AssertParity = Callable[..., Parity]


@pytest.fixture
def assert_parity(tmp_path: Path) -> AssertParity:
    """Convert a model and assert that each stage computes what ONNX does.

    The function takes:
        model: A `ModelProto`, a whole model as text, or a graph as text
            (``g (float[2,3] x) => (float[2,3] y) { y = Abs(x) }``).
        feeds: Inputs by name in ONNX's layout; left out ones are drawn: normal floats, small
            integers.
        opset: For a graph given as text.
        reference: ``onnxruntime``, or ``onnx`` where onnxruntime lacks the operator or dtype.
        io_layout: ``nhwc`` or ``nchw``.
        tflite: False leaves the TFLite stage out.
        rtol, atol: Tolerances.
    """
    numbers = iter(range(1000))

    def check(
        model: onnx.ModelProto | str,
        feeds: Mapping[str, Any] | None = None,
        *,
        opset: int = 21,
        reference: str = "onnxruntime",
        io_layout: str = "nhwc",
        tflite: bool = True,
        rtol: float = 1e-5,
        atol: float = 1e-6,
    ) -> Parity:
        proto = _parse(model, opset, reference)
        arrays = _draw(proto, feeds or {})
        expected = _expected(proto, arrays, reference)
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        onnx.save(onnx.shape_inference.infer_shapes(proto), folder / "model.onnx")
        graph = load_graph(folder / "model.onnx")
        saved = build(graph, folder / "saved_model", io_layout, default_registry())
        _compare("SavedModel", saved, _run_tensorflow(saved, arrays), expected, rtol, atol)
        if not tflite:
            return Parity(expected, ())
        lite = Artifact.from_dict(convert(saved.to_dict(), str(folder / "model.tflite")))
        _compare("TFLite", lite, _run_litert(lite, arrays), expected, rtol, atol)
        return Parity(expected, _operators(lite.path))

    return check


@pytest.fixture
def assert_any_layout() -> Callable[..., None]:
    """Translate a model eagerly, its inputs stored in several axis orders, and compare.

    Much faster than `assert_parity`, whose arguments it takes: nothing is saved or converted.
    """

    def check(
        model: onnx.ModelProto | str,
        feeds: Mapping[str, Any] | None = None,
        *,
        opset: int = 21,
        reference: str = "onnxruntime",
        rtol: float = 1e-5,
        atol: float = 1e-6,
    ) -> None:
        proto = _parse(model, opset, reference)
        arrays = _draw(proto, feeds or {})
        expected = _expected(proto, arrays, reference)
        for layout in (_as_is, channels_last, _reversed):
            found = _run_eagerly(proto, arrays, layout)
            for name, array in expected.items():
                np.testing.assert_allclose(
                    found[name], array, rtol, atol, equal_nan=True, strict=True, err_msg=name
                )

    return check


@pytest.fixture(scope="module", autouse=True)
def _invariants() -> Iterator[None]:
    """Check layouts and shapes after every rewrite and translation that a test here runs."""
    with watched():
        yield


def _as_is(rank: int) -> tuple[int, ...]:
    return tuple(range(rank))


def _reversed(rank: int) -> tuple[int, ...]:
    return tuple(range(rank))[::-1]


def _run_eagerly(
    proto: onnx.ModelProto, arrays: Arrays, layout: Callable[[int], tuple[int, ...]]
) -> Arrays:
    model = ir.from_proto(proto)
    common_passes.InlinePass()(model)
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    run_passes(model.graph)
    inputs = {}
    for name, array in arrays.items():
        permutation = layout(array.ndim)
        inputs[name] = Value.of(tf.constant(array.transpose(permutation)), permutation)
    values = Translator(model, default_registry()).run(inputs)
    return {name: np.asarray(arranged(value, range(value.rank))) for name, value in values.items()}


def _parse(model: onnx.ModelProto | str, opset: int, reference: str) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    if model.lstrip().startswith("<"):
        return onnx.parser.parse_model(model)
    ir_version = ORT_IR if reference == "onnxruntime" else NEWEST_IR
    header = f'<ir_version: {ir_version}, opset_import: ["": {opset}]>'
    return onnx.parser.parse_model(header + model)


def _draw(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> Arrays:
    random = np.random.default_rng(0)
    known = {initializer.name for initializer in model.graph.initializer}
    arrays: Arrays = {}
    for info in model.graph.input:
        if info.name in known:
            continue
        kind = info.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = [dimension.dim_value for dimension in kind.shape.dim]
        if info.name in feeds:
            arrays[info.name] = np.asarray(feeds[info.name], dtype)
        elif np.issubdtype(dtype, np.floating):
            arrays[info.name] = random.standard_normal(shape).astype(dtype)
        elif dtype == np.bool_:
            arrays[info.name] = random.integers(0, 2, shape).astype(np.bool_)
        else:
            low = 0 if np.issubdtype(dtype, np.unsignedinteger) else -9
            arrays[info.name] = random.integers(low, 10, shape).astype(dtype)
    return arrays


def _expected(model: onnx.ModelProto, arrays: Arrays, reference: str) -> Arrays:
    names = [output.name for output in model.graph.output]
    if reference == "onnx":
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(model).run(None, dict(arrays))
    else:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        found = session.run(None, dict(arrays))
    # The reference evaluator lets numpy widen the sums of small integers.
    dtypes = [
        onnx.helper.tensor_dtype_to_np_dtype(output.type.tensor_type.elem_type)
        for output in model.graph.output
    ]
    return {
        name: np.asarray(array, dtype or None)
        for name, array, dtype in zip(names, found, dtypes, strict=True)
    }


def _run_tensorflow(saved: Artifact, arrays: Arrays) -> Arrays:
    loaded = tf.saved_model.load(str(saved.path))
    function = loaded.signatures["serving_default"]
    feeds = {spec.name: tf.constant(spec.store(arrays[spec.name])) for spec in saved.inputs}
    return {name: value.numpy() for name, value in function(**feeds).items()}


def _run_litert(lite: Artifact, arrays: Arrays) -> Arrays:
    interpreter = Interpreter(model_path=str(lite.path), num_threads=1)
    interpreter.allocate_tensors()
    for spec, detail in zip(lite.inputs, interpreter.get_input_details(), strict=True):
        interpreter.set_tensor(detail["index"], spec.store(arrays[spec.name]))
    interpreter.invoke()
    details = interpreter.get_output_details()
    return {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in details}


def _compare(
    stage: str, artifact: Artifact, found: Arrays, expected: Arrays, rtol: float, atol: float
) -> None:
    assert [spec.name for spec in artifact.outputs] == list(expected)
    for spec in artifact.outputs:
        array: Array = expected[spec.name]
        other = spec.restore(found[spec.name])
        assert other.dtype == array.dtype, f"{stage} {spec.name}"
        np.testing.assert_allclose(
            other, array, rtol, atol, equal_nan=True, strict=True, err_msg=f"{stage} {spec.name}"
        )


def _operators(path: Path) -> tuple[str, ...]:
    model = tflite.load(path)
    return tuple(tflite.operator_name(model, op) for op in model.subgraphs[0].operators)
