"""Sampling at positions that the model computes: indices are the float model's, in int8 too.

Every way of sampling is converted from ONNX, quantized, and compared with the float model: where
operators take indices from, at most one in a hundred may differ, and the result must be within 3 dB
of the same model with all but the samples and what is made of them in float.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeconv.convert.ops import default_registry
from edgeconv.convert.saved_model.to_tflite import convert
from edgeconv.convert.saved_model.translate import build, load_graph
from edgeconv.core.artifacts import Array, Artifact
from edgeconv.quantize import engine
from edgeconv.quantize.islands import index_path
from edgeconv.quantize.islands.index_errors import INDEX_SLOTS
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

Feeds = list[dict[str, Array]]
Case = Callable[[], tuple[onnx.ModelProto, Feeds]]

SIZES = [(1, 9), (2, 3), (7, 5), (12, 12), (12, 16), (33, 17), (24, 24), (64, 64), (128, 96)]
SIZES += [(200, 320)]
WAYS = list(
    itertools.product(("linear", "nearest", "cubic"), ("zeros", "border", "reflection"), (0, 1))
)


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def _smooth(rng: np.random.Generator, channels: int, size: int) -> Array:
    """Return an image of soft shapes, [1, C, size, size]."""
    coarse = rng.random((1, channels, 6, 6))
    place = np.linspace(0, 4.999, size)
    low, share = place.astype(int), place % 1
    rows = coarse[:, :, low] * (1 - share)[:, None] + coarse[:, :, low + 1] * share[:, None]
    return np.asarray(rows[..., low] * (1 - share) + rows[..., low + 1] * share, np.float32)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int]],
    outputs: Sequence[str],
    constants: Mapping[str, Any],
) -> onnx.ModelProto:
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [
            numpy_helper.from_array(a.astype(np.float32) if a.dtype.kind == "f" else a, name)
            for name, a in arrays.items()
        ],
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def _grid_samples(height: int, width: int) -> tuple[onnx.ModelProto, Feeds]:
    """Sample one image in every way."""
    names = [f"{mode}_{padding}_{corners}" for mode, padding, corners in WAYS]
    nodes = [
        helper.make_node(
            "GridSample",
            ["x", "grid"],
            [name],
            mode=mode,
            padding_mode=padding,
            align_corners=corners,
        )
        for name, (mode, padding, corners) in zip(names, WAYS, strict=True)
    ]
    rng = _random()
    feeds = [
        {
            "x": rng.normal(size=(1, 3, height, width)).astype(np.float32),
            "grid": rng.uniform(-1.45, 1.45, (1, 11, 13, 2)).astype(np.float32),
        }
        for _ in range(8)
    ]
    shapes = {"x": (1, 3, height, width), "grid": (1, 11, 13, 2)}
    return _model(nodes, shapes, names, {}), feeds


def _affine_warp(size: int, way: tuple[str, str, int]) -> tuple[onnx.ModelProto, Feeds]:
    """Warp an image by a transform that a network makes of it."""
    rng, (mode, padding, corners) = _random(), way
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], strides=[2, 2]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"]),
        node("Relu", ["c2"], ["r2"]),
        node("GlobalAveragePool", ["r2"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "wf", "bf"], ["t"]),
        node("Reshape", ["t", "rows"], ["theta"]),
        node("AffineGrid", ["theta", "shape"], ["grid"], align_corners=corners),
        node(
            "GridSample",
            ["x", "grid"],
            ["y"],
            mode=mode,
            padding_mode=padding,
            align_corners=corners,
        ),
    ]
    constants = {
        "w1": rng.normal(size=(8, 3, 5, 5)) / 9,
        "w2": rng.normal(size=(8, 8, 3, 3)) / 9,
        "wf": 2 * rng.normal(size=(8, 6)),
        "bf": [1.0, 0, 0, 0, 1, 0],
        "rows": [1, 2, 3],
        "shape": [1, 3, size, size],
    }
    feeds: Feeds = [{"x": _smooth(rng, 3, size)} for _ in range(8)]
    return _model(nodes, {"x": (1, 3, size, size)}, ["y"], constants), feeds


def _flow_warp(size: int, channels: int, mode: str) -> tuple[onnx.ModelProto, Feeds]:
    """Warp an image by a field that a network makes of two."""
    rng, node = _random(), helper.make_node
    sides: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Concat", ["a", "b"], ["ab"], axis=1),
        node("Conv", ["ab", "w1"], ["c1"], **sides),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], **sides),
        node("Relu", ["c2"], ["r2"]),
        node("Conv", ["r2", "w3"], ["f"], **sides),
        node("Transpose", ["f"], ["t"], perm=[0, 2, 3, 1]),
        node("Add", ["t", "base"], ["grid"]),
        node("GridSample", ["b", "grid"], ["y"], mode=mode, padding_mode="border"),
    ]
    line = np.linspace(-1, 1, size)
    ys, xs = np.meshgrid(line, line, indexing="ij")
    spread = 3 * channels**0.5
    constants = {
        "w1": rng.normal(size=(channels, 6, 3, 3)) / 7,
        "w2": rng.normal(size=(channels, channels, 3, 3)) / spread,
        "w3": rng.normal(size=(2, channels, 3, 3)) / (10 * spread),
        "base": np.stack([xs, ys], -1)[None],
    }
    shape = (1, 3, size, size)
    feeds: Feeds = [{"a": _smooth(rng, 3, size), "b": _smooth(rng, 3, size)} for _ in range(6)]
    return _model(nodes, {"a": shape, "b": shape}, ["y"], constants), feeds


def _roi_align(size: int, coordinates: str, mode: str) -> tuple[onnx.ModelProto, Feeds]:
    """Cut regions that are inputs out of features."""
    rng = _random()
    options: dict[str, Any] = {
        "output_height": 5,
        "output_width": 4,
        "sampling_ratio": 2,
        "spatial_scale": 0.25,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["f"], pads=[1, 1, 1, 1]),
        helper.make_node(
            "RoiAlign",
            ["f", "rois", "batch"],
            ["y"],
            coordinate_transformation_mode=coordinates,
            mode=mode,
            **options,
        ),
    ]
    feeds: Feeds = []
    for _ in range(8):
        middle, half = rng.uniform(0, size * 4, (5, 2)), rng.uniform(2, size, (5, 2))
        rois = np.concatenate([middle - half, middle + half], 1).astype(np.float32)
        feeds.append({"x": _smooth(rng, 3, size), "rois": rois})
    constants = {"w": rng.normal(size=(8, 3, 3, 3)) / 5, "batch": np.zeros(5, np.int64)}
    return _model(nodes, {"x": (1, 3, size, size), "rois": (5, 4)}, ["y"], constants), feeds


def _deform_conv(size: int, channels: int) -> tuple[onnx.ModelProto, Feeds]:
    """Convolve where a network says."""
    rng, node = _random(), helper.make_node
    spread = 3 * channels**0.5
    sides: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["x", "w0"], ["c"], **sides),
        node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "wo", "bo"], ["offset"], **sides),
        node("Conv", ["r", "wm"], ["m"], **sides),
        node("Sigmoid", ["m"], ["mask"]),
        node("DeformConv", ["r", "w", "offset", "", "mask"], ["y"], kernel_shape=[3, 3], **sides),
    ]
    constants = {
        "w0": rng.normal(size=(channels, 3, 3, 3)) / 5,
        "wo": rng.normal(size=(18, channels, 3, 3)) / spread,
        "bo": rng.normal(size=18),
        "wm": rng.normal(size=(9, channels, 3, 3)) / spread,
        "w": rng.normal(size=(channels, channels, 3, 3)) / spread,
    }
    feeds: Feeds = [{"x": _smooth(rng, 3, size)} for _ in range(5)]
    return _model(nodes, {"x": (1, 3, size, size)}, ["y"], constants), feeds


def _nearest_code(codes: int) -> tuple[onnx.ModelProto, Feeds]:
    """Look up the code that is nearest to what a layer makes."""
    rng, node = _random(), helper.make_node
    table = rng.normal(size=(codes, 8))
    nodes = [
        node("MatMul", ["x", "w"], ["z"]),
        node("MatMul", ["z", "columns"], ["product"]),
        node("Mul", ["product", "minus_two"], ["twice"]),
        node("Add", ["twice", "squares"], ["distance"]),
        node("ArgMin", ["distance"], ["place"], axis=1, keepdims=0),
        node("Gather", ["table", "place"], ["y"]),
    ]
    constants = {
        "w": rng.normal(size=(16, 8)) / 4,
        "columns": table.T.copy(),
        "minus_two": -2.0,
        "squares": (table**2).sum(1),
        "table": table,
    }
    feeds = [{"x": rng.normal(size=(40, 16)).astype(np.float32)} for _ in range(8)]
    return _model(nodes, {"x": (40, 16)}, ["y"], constants), feeds


def _bucket() -> tuple[onnx.ModelProto, Feeds]:
    """Look up embeddings by rounded values."""
    rng, node = _random(), helper.make_node
    nodes = [
        node("Tanh", ["x"], ["h"]),
        node("Mul", ["h", "scale"], ["m"]),
        node("Add", ["m", "middle"], ["a"]),
        node("Clip", ["a", "first", "last"], ["c"]),
        node("Round", ["c"], ["r"]),
        node("Cast", ["r"], ["place"], to=7),
        node("Gather", ["table", "place"], ["y"]),
    ]
    constants = {
        "scale": 100.0,
        "middle": 99.5,
        "first": 0.0,
        "last": 199.0,
        "table": rng.normal(size=(200, 8)),
    }
    feeds = [{"x": rng.normal(size=(1, 60)).astype(np.float32)} for _ in range(8)]
    return _model(nodes, {"x": (1, 60)}, ["y"], constants), feeds


CASES: dict[str, Case] = {
    "bucket": _bucket,
    "codes": partial(_nearest_code, 16),
    "affine": partial(_affine_warp, 24, ("linear", "zeros", 0)),
    "roi": partial(_roi_align, 16, "half_pixel", "avg"),
}
SLOW: dict[str, Case] = {
    **{f"grid_{h}x{w}": partial(_grid_samples, h, w) for h, w in SIZES},
    "codes_512": partial(_nearest_code, 512),
    "affine_nearest": partial(_affine_warp, 64, ("nearest", "border", 1)),
    "affine_cubic": partial(_affine_warp, 64, ("cubic", "reflection", 0)),
    **{
        f"flow_{mode}_{size}": partial(_flow_warp, size, size // 2, mode)
        for mode in ("linear", "nearest")
        for size in (16, 64)
    },
    **{
        f"roi_{mode}_{place}": partial(_roi_align, 50, place, mode)
        for mode in ("avg", "max")
        for place in ("half_pixel", "output_half_pixel")
    },
    **{f"deform_{channels}": partial(_deform_conv, 2 * channels, channels) for channels in (8, 16)},
}


class Bench:
    """Converts a model, quantizes it in two ways, and compares both with the float model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def convert(self, proto: onnx.ModelProto) -> Artifact:
        path = self._folder / "model.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(proto), path)
        saved = build(load_graph(path), self._folder / "saved_model", "nhwc", default_registry())
        return Artifact.from_dict(convert(saved.to_dict(), str(self._folder / "model.tflite")))

    def quantize(self, artifact: Artifact, feeds: Feeds, mode: str, name: str) -> Path:
        samples, path = self._folder / "samples.npz", self._folder / f"{name}.tflite"
        columns = {key: np.stack([feed[key] for feed in feeds]) for key in feeds[0]}
        np.savez(samples, allow_pickle=False, **columns)
        engine.quantize(
            artifact.to_dict(), str(path), mode, samples=str(samples), disable_recovery=["all"]
        )
        return path


def _values(path: Path, artifact: Artifact, feeds: Feeds) -> tuple[dict[str, Array], list[Array]]:
    """Return the indices that operators take, by name, and the outputs, over samples."""
    graph = Graph(tflite.load(path))
    computed = {
        graph.name(operator.inputs[slot]): operator.inputs[slot]
        for operator in graph.operators
        for slot in INDEX_SLOTS.get(graph.op(operator), ())
        if not graph.is_constant(operator.inputs[slot])
    }
    runner = Runner(graph, [*computed.values(), *graph.outputs])
    rows = [runner.run([spec.store(feed[spec.name]) for spec in artifact.inputs]) for feed in feeds]
    indices = {name: np.stack([row[i] for row in rows]) for name, i in computed.items()}
    return indices, [np.stack([row[index] for row in rows]) for index in graph.outputs]


def _in_float(graph: Graph, precisions: Any, base: Any, *_: Any) -> index_path.IndexPath:
    """Leave only the samples, and what is made of them, to integers."""
    made: set[int] = set()
    found: list[Any] = []
    for operator in graph.operators:
        picks = graph.op(operator) in INDEX_SLOTS and graph.is_float(operator.inputs[0])
        integer = (picks or made & set(operator.inputs)) and any(
            map(graph.is_float, operator.outputs)
        )
        made.update(operator.outputs if integer else ())
        found.append(base if integer else "float")
    return index_path.IndexPath(found)


def _check(
    case: tuple[onnx.ModelProto, Feeds],
    mode: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proto, feeds = case
    bench = Bench(folder)
    artifact = bench.convert(proto)
    path = bench.quantize(artifact, feeds, mode, "quantized")
    monkeypatch.setattr(index_path, "find", _in_float)
    best = bench.quantize(artifact, feeds, mode, "best")
    expected, reference = _values(artifact.path, artifact, feeds)
    found, outputs = _values(path, artifact, feeds)
    _, closest = _values(best, artifact, feeds)
    assert expected.keys() == found.keys()
    for name, indices in expected.items():
        assert np.mean(indices != found[name]) <= 0.01, name
    for exact, output, other in zip(reference, outputs, closest, strict=True):
        noise, least = (np.square(exact - one.astype(np.float64)).sum() for one in (output, other))
        assert noise <= 2 * least + 1e-12 * np.square(exact).sum()


@pytest.mark.parametrize("name", CASES)
def test_positions_select_what_the_float_model_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _check(CASES[name](), "int8", tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_all_ways_of_sampling_select_what_the_float_model_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _check(SLOW[name](), "int8", tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["affine", "codes", "bucket"])
def test_sixteen_bits_select_what_the_float_model_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _check(CASES[name](), "int16x8", tmp_path, monkeypatch)
