"""An open batch stays open through every stage, and each size of it gives the right numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

import edgeconv
from edgeconv.convert.onnx.file import adopt
from edgeconv.convert.saved_model.to_tflite import convert
from edgeconv.convert.saved_model.translate import translate
from edgeconv.convert.torch.load import load_model
from edgeconv.core.artifacts import Array, Artifact
from edgeconv.core.errors import UnsupportedModel, UsageError

SIZES = (1, 3, 2)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.last = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = x + nn.functional.silu(self.deep(x))
        x = torch.cat([x, x * 2], 1)[:, 3:11]
        x = nn.functional.interpolate(self.up(x), scale_factor=2.0, mode="bilinear")
        logits: torch.Tensor = self.last(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))
        return logits


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 16), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x.reshape(x.shape[0], -1))).view(x.size(0) * 2, 8)
        shares: torch.Tensor = torch.softmax(self.second(y), -1)
        return torch.reshape(shares, (x.shape[0], 2, 3))


class Attention(nn.Module):
    """With a class token, which is expanded to the batch, as vision transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(16, 16)
        self.project = nn.Linear(16, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        batch, count, width = x.shape
        heads = self.project(self.norm(x)).reshape(batch, count, 3, 2, 8).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(*heads)
        result: torch.Tensor = self.out(y.transpose(1, 2).reshape(batch, count, width))
        return x + result


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.layer(x)[0]
        return hidden[:, -1]


CASES: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "convolutions": (Convolutions, (3, 16, 16)),
    "perceptron": (Perceptron, (2, 12)),
    "attention": (Attention, (5, 16)),
    "recurrent": (Recurrent, (5, 4)),
}


def module_of(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    kind, shape = CASES[name]
    return kind().eval(), torch.randn(2, *shape)


def save_program(name: str, path: Path, **limits: int) -> Path:
    module, example = module_of(name)
    batch = torch.export.Dim("batch", **limits)
    program = torch.export.export(module, (example,), dynamic_shapes={"x": {0: batch}})
    torch.export.save(program, path)
    return path


def run_litert(model: Artifact, batch: Array) -> Array:
    interpreter = Interpreter(model_path=str(model.path), num_threads=1)
    feed = model.inputs[0].store(batch)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, feed.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, feed)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return model.outputs[0].restore(found)


def run_tensorflow(model: Artifact, batch: Array) -> Array:
    signature = tf.saved_model.load(str(model.path)).signatures["serving_default"]
    feed = tf.constant(model.inputs[0].store(batch))
    found = signature(**{model.inputs[0].name: feed})[model.outputs[0].name]
    return model.outputs[0].restore(found.numpy())


def batches(shape: tuple[int, ...]) -> Iterator[Array]:
    rng = np.random.default_rng(0)
    for size in SIZES:
        yield rng.standard_normal((size, *shape), np.float32)


def converted(source: Path, folder: Path) -> tuple[Artifact, Artifact, Artifact]:
    """Return the ONNX file, the SavedModel and the TFLite file of an ONNX file."""
    model = load_model(source)
    assert isinstance(model, Artifact)
    onnx_model = adopt(model, folder / "adopted.onnx")
    saved = translate(onnx_model.to_dict(), str(folder / "saved_model"))
    lite = convert(saved, str(folder / "model.tflite"))
    return onnx_model, Artifact.from_dict(saved), Artifact.from_dict(lite)


def traced(module: nn.Module, example: torch.Tensor, folder: Path) -> Path:
    path = folder / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (example,), str(path), dynamo=False, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}}, opset_version=17,
        )  # fmt: skip
    return path


@pytest.mark.parametrize("name", CASES)
def test_files_of_the_torchscript_exporter_compute_with_the_shape(
    name: str, tmp_path: Path
) -> None:
    module, example = module_of(name)
    onnx_model, saved, lite = converted(traced(module, example, tmp_path), tmp_path)
    session = onnxruntime.InferenceSession(str(onnx_model.path))
    assert all(spec.shape[0] is None for spec in (*saved.inputs, *lite.inputs, *lite.outputs))
    for batch in batches(tuple(example.shape[1:])):
        expected = session.run(None, {"x": batch})[0]
        np.testing.assert_allclose(run_tensorflow(saved, batch), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(run_litert(lite, batch), expected, rtol=1e-4, atol=1e-5)


def test_memory_for_a_class_token_is_planned_ahead(tmp_path: Path) -> None:
    """Delegates refuse models in which the shape of a tensor is known only once it was computed."""
    module, example = module_of("attention")
    _, _, lite = converted(traced(module, example, tmp_path), tmp_path)
    interpreter = Interpreter(model_path=str(lite.path))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [3, 5, 16])
    interpreter.allocate_tensors()
    assert list(interpreter.get_output_details()[0]["shape"]) == [3, 6, 16]


def graph(text: str, path: Path) -> Path:
    opset = '<ir_version: 8, opset_import: ["": 21]>'
    onnx.save(onnx.parser.parse_model(f"{opset} {text}"), path)
    return path


@pytest.mark.parametrize(
    "body",
    [
        """s = Shape(x) t = Gather(s, zero) u = Unsqueeze(t, at) n = Mul(u, two)
           v = Concat<axis = 0>(n, four) y = Reshape(x, v)""",
        "s = Shape<start = 0, end = 1>(x) v = Concat<axis = 0>(s, two, four) y = Expand(c, v)",
        "s = Shape(x) z = ConstantOfShape<value = float[1] {1.5}>(s) y = Add(x, z)",
        "y = Reshape(x, keep)",
        "n = Size(x) f = Unsqueeze(n, at) y = Reshape(x, f)",
    ],
)
def test_arithmetic_with_the_size_of_the_batch(body: str, tmp_path: Path) -> None:
    text = f"""g (float[batch, 2, 4] x) => (float[N, ...] y)
        <int64 zero = {{0}}, int64[1] at = {{0}}, int64[1] two = {{2}}, int64[1] four = {{4}},
         int64[2] keep = {{0, -1}}, float[1, 2, 1] c = {{3.0, 4.0}}> {{ {body} }}"""
    rank = 1 if "Size" in body else 2 if "Mul" in body or "keep" in body else 3
    text = text.replace("N, ...", ", ".join("NMK"[:rank]))
    onnx_model, saved, lite = converted(graph(text, tmp_path / "m.onnx"), tmp_path)
    session = onnxruntime.InferenceSession(str(onnx_model.path))
    for batch in batches((2, 4)):
        expected = session.run(None, {"x": batch})[0]
        np.testing.assert_array_equal(run_tensorflow(saved, batch), expected)
        np.testing.assert_array_equal(run_litert(lite, batch), expected)


@pytest.mark.parametrize(
    "body",
    [
        "s = Shape<start = 0, end = 1>(x) f = Cast<to = 1>(s) y = Mul(x, f)",
        "s = Shape<start = 0, end = 1>(x) v = Concat<axis = 0>(s, s, four) y = Expand(three, v)",
        "t = Concat<axis = 0>(x, x) s = Shape(t) y = Expand(c, s)",
        "t = Concat<axis = 0>(x, c) s = Shape(t) y = Expand(c, s)",
        "t = Tile(x, twice) s = Shape(t) y = Expand(c, s)",
    ],
)
def test_computing_with_the_size_itself_is_refused(body: str, tmp_path: Path) -> None:
    text = f"""g (float[batch, 2, 4] x) => (float[N, M, K] y)
        <int64[1] four = {{4}}, int64[3] twice = {{2, 1, 1}},
         float[1, 1, 1] three = {{3.0}}, float[1, 2, 4] c = {{1., 2., 3., 4., 5., 6., 7., 8.}}>
        {{ {body} }}"""
    with pytest.raises(UnsupportedModel, match=r"(batch|run time)(.|\n)*input_shapes"):
        converted(graph(text, tmp_path / "m.onnx"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolutions", "perceptron", "attention"])
def test_programs_become_int8_models_of_an_open_batch(name: str, tmp_path: Path) -> None:
    program = save_program(name, tmp_path / "m.pt2", min=1, max=16)
    shape = tuple(module_of(name)[1].shape[1:])
    result = edgeconv.convert(
        program,
        quantize="int8",
        output=tmp_path / "b",
        layers=False,
        calibration_data=np.concatenate([*batches(shape)])[:, None],
    )
    assert result.passed
    module, example = module_of(name)
    lite = result.artifacts["tflite_fp32"]
    assert result.model.inputs[0].shape[0] is None
    for batch in batches(tuple(example.shape[1:])):
        with torch.no_grad():
            expected = module(torch.from_numpy(batch)).numpy()
        np.testing.assert_allclose(run_litert(lite, batch), expected, rtol=1e-4, atol=1e-5)
        found = run_litert(result.model, batch)
        error = np.square(found - expected).sum() / np.square(expected).sum()
        assert 10 * np.log10(error) < -20


@pytest.mark.slow
def test_a_coral_takes_a_batch_of_one_and_the_report_says_so(tmp_path: Path) -> None:
    program = save_program("perceptron", tmp_path / "m.pt2", min=1, max=16)
    result = edgeconv.convert(
        program, target="coral", output=tmp_path / "b", layers=False, verify=False
    )
    assert result.model.inputs[0].shape[0] == 1
    assert any("batch is set to 1" in warning for warning in result.manifest["warnings"])


def test_other_open_dimensions_of_a_program_are_asked_for(tmp_path: Path) -> None:
    example = module_of("recurrent")[1]
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("steps")}
    program = torch.export.export(torch.nn.Linear(4, 2), (example,), dynamic_shapes=(sizes,))
    torch.export.save(program, tmp_path / "m.pt2")
    with pytest.raises(UsageError, match=r"open dimensions(.|\n)*input_shapes input=1,1,4"):
        load_model(tmp_path / "m.pt2")


def test_a_batch_that_is_pinned_is_exported_again(tmp_path: Path) -> None:
    program = save_program("perceptron", tmp_path / "m.pt2")
    model = load_model(program, input_shapes=((5, 2, 12),))
    assert model.inputs[0].shape == (5, 2, 12)


@pytest.mark.parametrize(
    ("body", "rank"),
    [
        ("y = Concat<axis = 0>(x, x)", 3),
        ("t = Concat<axis = 0>(x, x) y = Reshape(t, rows)", 2),
        ("t = Concat<axis = 0>(x, c) y = Relu(t)", 3),
        ("t = Concat<axis = 0>(x, c) y = Reshape(t, rows)", 2),
        ("t = Concat<axis = 1>(x, x) s = Shape(t) y = Reshape(t, s)", 3),
        ("y = Tile(x, twice)", 3),
        ("t = Tile(x, twice) y = Reshape(t, rows)", 2),
        ("t = Tile(x, twice) s, u = Split<axis = 1, num_outputs = 2>(t) y = Add(s, u)", 3),
    ],
)
def test_the_batch_grows(body: str, rank: int, tmp_path: Path) -> None:
    text = f"""g (float[batch, 2, 4] x) => (float[{", ".join("NMK"[:rank])}] y)
        <int64[2] rows = {{-1, 8}}, int64[3] twice = {{2, 1, 1}},
         float[1, 2, 4] c = {{1., 2., 3., 4., 5., 6., 7., 8.}}> {{ {body} }}"""
    onnx_model, saved, lite = converted(graph(text, tmp_path / "m.onnx"), tmp_path)
    session = onnxruntime.InferenceSession(str(onnx_model.path))
    for batch in batches((2, 4)):
        expected = session.run(None, {"x": batch})[0]
        np.testing.assert_array_equal(run_tensorflow(saved, batch), expected)
        np.testing.assert_array_equal(run_litert(lite, batch), expected)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("op", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_losses_over_the_batch(op: str, reduction: str, tmp_path: Path) -> None:
    shape = "[N, M]" if reduction == "none" else ""
    text = f"""g (float[batch, 3, 4] x) => (float{shape} y) {{
        t = ArgMax<axis = 1, keepdims = 0>(x)
        y = {op}<reduction = "{reduction}">(x, t) }}"""
    onnx_model, saved, lite = converted(graph(text, tmp_path / "m.onnx"), tmp_path)
    session = onnxruntime.InferenceSession(str(onnx_model.path))
    for batch in batches((3, 4)):
        expected = session.run(None, {"x": batch})[0]
        np.testing.assert_allclose(run_tensorflow(saved, batch), expected, rtol=1e-5)
        np.testing.assert_allclose(run_litert(lite, batch), expected, rtol=1e-5)
