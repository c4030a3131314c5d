"""Full-integer quantization of graphs: scales, joins, constants, edges, and accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array, Artifact
from edgeconv.quantize.engine import quantize
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_LOWEST = np.finfo(np.float32).min


def _rows(*shapes: tuple[int, ...], count: int = 8, scale: float = 1.0) -> list[list[Array]]:
    rng = np.random.default_rng(3)
    return [
        [(rng.normal(size=shape) * scale).astype(np.float32) for shape in shapes]
        for _ in range(count)
    ]


def _graph(artifact: Artifact) -> Graph:
    return Graph(tflite.load(artifact.path))


def _ops(artifact: Artifact) -> list[str]:
    graph = _graph(artifact)
    return [graph.op(operator) for operator in graph.operators]


def _inner_ops(artifact: Artifact) -> list[str]:
    """Return the operators between the first QUANTIZE and the last DEQUANTIZE."""
    return _ops(artifact)[1:-1]


def _scale(graph: Graph, index: int) -> float:
    return float(graph.tensors[index].quantization.scale[0])


def _weights(*shape: int, seed: int = 1, scale: float = 1.0) -> Array:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def _conv(m: Any, x: int, weight: Array, bias: Array, **options: Any) -> int:
    options = {"strideH": 1, "strideW": 1, **options}
    index: int = m.op("CONV_2D", x, m.constant(weight), m.constant(bias), **options)
    return index


def _close(lab: Any, artifact: Artifact, quantized: Artifact, rows: Any, floor: float) -> None:
    expected = lab.run(artifact.path, rows)
    for delegate in (False, True):
        found = lab.run(quantized.path, rows, delegate=delegate)
        for reference, result in zip(expected, found, strict=True):
            assert lab.sqnr(reference, result) >= floor


def _residual_net(m: Any) -> int:
    """Inverted residual blocks with ReLU6, a global mean and a dense layer."""
    relu6 = {"fusedActivationFunction": 3}
    x = _conv(m, m.input(1, 16, 16, 3), _weights(8, 3, 3, 3), _weights(8), **relu6)
    for seed in (2, 3):
        wide = _conv(
            m,
            x,
            _weights(24, 1, 1, 8, seed=seed, scale=0.4),
            _weights(24, seed=seed),
            **relu6,
        )
        deep = m.op(
            "DEPTHWISE_CONV_2D",
            wide,
            m.constant(_weights(1, 3, 3, 24, seed=seed, scale=0.4)),
            m.constant(_weights(24, seed=seed + 9)),
            strideH=1,
            strideW=1,
            depthMultiplier=1,
            **relu6,
        )
        narrow = _conv(
            m, deep, _weights(8, 1, 1, 24, seed=seed + 5, scale=0.3), _weights(8, seed=seed)
        )
        x = m.op("ADD", x, narrow)
    pooled = m.op("MEAN", x, m.constant([1, 2], "int32"))
    dense: int = m.op(
        "FULLY_CONNECTED", pooled, m.constant(_weights(10, 8)), m.constant(_weights(10))
    )
    return dense


@pytest.mark.parametrize("calibrator", ["minmax", "mse"])
def test_a_residual_convolutional_net_keeps_its_outputs(lab: Any, calibrator: str) -> None:
    model = lab.model()
    artifact = lab.save(model, _residual_net(model))
    rows = _rows((1, 16, 16, 3), count=16)
    quantized = lab.quantize(artifact, rows, calibrator=calibrator)
    _close(lab, artifact, quantized, rows, 30.0)


def test_weights_are_symmetric_per_channel_and_biases_int32(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, _residual_net(model))
    graph = _graph(lab.quantize(artifact, _rows((1, 16, 16, 3))))
    axes = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
    checked = 0
    for operator in graph.operators:
        if graph.op(operator) not in axes:
            continue
        source, weight, bias = (graph.tensors[index] for index in operator.inputs)
        stored = graph.value(operator.inputs[1])
        assert stored.dtype == np.int8
        assert np.abs(stored.astype(int)).max() == 127
        assert weight.quantization.quantizedDimension == axes[graph.op(operator)]
        assert not np.any(weight.quantization.zeroPoint)
        assert graph.value(operator.inputs[2]).dtype == np.int32
        products = source.quantization.scale[0] * weight.quantization.scale
        np.testing.assert_allclose(bias.quantization.scale, products, rtol=1e-6)
        checked += 1
    assert checked == 8


def test_operator_versions_are_those_of_int8_or_of_the_float_model(lab: Any) -> None:
    model = lab.model()
    x = _conv(model, model.input(1, 5, 5, 4), _weights(4, 3, 3, 4), _weights(4))
    x = _conv(model, x, _weights(4, 1, 1, 2), _weights(4), version=6)
    x = model.op("RESHAPE", model.op("LOGISTIC", x), model.constant([1, 100], "int32"))
    artifact = lab.save(model, x)
    graph = _graph(lab.quantize(artifact, _rows((1, 5, 5, 4))))
    versions = [(graph.op(operator), graph.version(operator)) for operator in graph.operators]
    assert versions == [
        ("QUANTIZE", 1),
        ("CONV_2D", 3),
        ("CONV_2D", 6),
        ("LOGISTIC", 2),
        ("RESHAPE", 1),
        ("DEQUANTIZE", 2),
    ]


def test_a_product_larger_than_its_output_scale_has_the_version_that_can_enlarge(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, model.op("MUL", model.input(4), model.constant(2000.0)))
    rows = [[np.array([1e-3, 0, 5e-4, -1e-3], np.float32)], [np.zeros(4, np.float32)]]
    quantized = lab.quantize(artifact, rows)
    graph = _graph(quantized)
    assert {graph.version(op) for op in graph.operators if graph.op(op) == "MUL"} <= {2, 3}
    _close(lab, artifact, quantized, rows, 35.0)


def _two_branches(m: Any, left: float, right: float) -> tuple[int, int, int]:
    x = m.input(1, 6, 6, 4)
    small = _conv(m, x, _weights(4, 1, 1, 4, scale=left), _weights(4, scale=left))
    large = _conv(m, x, _weights(4, 1, 1, 4, scale=right, seed=2), _weights(4, scale=right))
    return small, large, m.op("CONCATENATION", small, large, axis=3)


def test_joined_branches_take_the_joint_scale_without_requantization(lab: Any) -> None:
    model = lab.model()
    *_, joined = _two_branches(model, 1.0, 5.0)
    artifact = lab.save(model, joined)
    quantized = lab.quantize(artifact, _rows((1, 6, 6, 4)), disable_recovery=("all",))
    assert _inner_ops(quantized) == ["CONV_2D", "CONV_2D", "CONCATENATION"]


def test_a_branch_that_is_also_read_elsewhere_keeps_its_own_scale(lab: Any) -> None:
    model = lab.model()
    small, _, joined = _two_branches(model, 1.0, 5.0)
    other = model.op("MUL", small, small)
    artifact = lab.save(model, joined, other)
    rows = _rows((1, 6, 6, 4))
    quantized = lab.quantize(artifact, rows, disable_recovery=("all",))
    assert _ops(quantized).count("QUANTIZE") == 2
    _close(lab, artifact, quantized, rows, 30.0)


def test_a_prescribed_scale_is_requantized_where_it_is_joined(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 6, 6, 4)
    joined = model.op("CONCATENATION", model.op("LOGISTIC", x), x, axis=3)
    artifact = lab.save(model, joined)
    rows = _rows((1, 6, 6, 4), scale=0.6)
    quantized = lab.quantize(artifact, rows, disable_recovery=("all",))
    assert _inner_ops(quantized) == ["LOGISTIC", "QUANTIZE", "CONCATENATION"]
    _close(lab, artifact, quantized, rows, 30.0)


def test_a_tensor_joined_with_itself(lab: Any) -> None:
    model = lab.model()
    x = model.op("ABS", model.input(1, 4, 4, 2))
    artifact = lab.save(model, model.op("CONCATENATION", x, x, axis=3), model.op("MUL", x, x))
    rows = _rows((1, 4, 4, 2))
    _close(lab, artifact, lab.quantize(artifact, rows), rows, 30.0)


def test_a_join_that_needs_less_does_not_cut_what_another_needs(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 6, 6, 4)
    above = model.op("MAXIMUM", x, model.constant(0.5))
    artifact = lab.save(model, model.op("CONCATENATION", x, above, axis=3))
    rows = _rows((1, 6, 6, 4))
    _close(lab, artifact, lab.quantize(artifact, rows), rows, 35.0)


def test_a_dense_block_joins_every_feature_with_all_before(lab: Any) -> None:
    model = lab.model()
    features = [model.input(1, 6, 6, 4)]
    for seed, scale in enumerate((0.2, 2.0, 0.05)):
        joined = model.op("CONCATENATION", *features, axis=3) if len(features) > 1 else features[0]
        weight = _weights(4, 1, 1, 4 * len(features), seed=seed, scale=scale)
        features.append(_conv(model, joined, weight, _weights(4, seed=seed, scale=scale)))
    artifact = lab.save(model, model.op("CONCATENATION", *features, axis=3), features[-1])
    rows = _rows((1, 6, 6, 4))
    _close(lab, artifact, lab.quantize(artifact, rows), rows, 30.0)


def test_one_constant_with_two_roles_is_stored_twice(lab: Any) -> None:
    model = lab.model()
    shared = model.constant(_weights(6, 6))
    dense = model.op("FULLY_CONNECTED", model.input(6, 6), shared, -1, version=6)
    artifact = lab.save(model, model.op("ADD", dense, shared))
    rows = _rows((6, 6))
    quantized = lab.quantize(artifact, rows)
    _close(lab, artifact, quantized, rows, 35.0)


def test_one_weight_of_two_layers_is_stored_once(lab: Any) -> None:
    model = lab.model()
    weight, bias = model.constant(_weights(64, 64, scale=0.1)), model.constant(_weights(64))
    x = model.op("FULLY_CONNECTED", model.input(2, 64), weight, bias)
    artifact = lab.save(model, model.op("FULLY_CONNECTED", x, weight, bias))
    quantized = lab.quantize(artifact, _rows((2, 64)))
    sizes = [
        buffer.data.size for buffer in _graph(quantized).model.buffers if buffer.data is not None
    ]
    assert sizes.count(64 * 64) == 1


def test_a_lowest_number_as_pad_does_not_spoil_the_range(lab: Any) -> None:
    model = lab.model()
    pads = model.constant([[0, 0], [1, 1], [1, 1], [0, 0]], "int32")
    padded = model.op("PADV2", model.input(1, 6, 6, 4), pads, model.constant(_LOWEST))
    pool = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    artifact = lab.save(model, model.op("MAX_POOL_2D", padded, **pool))
    rows = _rows((1, 6, 6, 4))
    _close(lab, artifact, lab.quantize(artifact, rows), rows, 35.0)


@pytest.mark.parametrize("before", ["ABS", "LOGISTIC"])
@pytest.mark.parametrize("pad", [-3.0, 0.5, 20.0])
def test_a_pad_that_is_read_keeps_its_value(lab: Any, before: str, pad: float) -> None:
    model = lab.model()
    pads = model.constant([[0, 0], [1, 1], [1, 1], [0, 0]], "int32")
    x = model.op(before, model.input(1, 6, 6, 4))
    padded = model.op("PADV2", x, pads, model.constant(pad))
    artifact = lab.save(model, model.op("TRANSPOSE", padded, model.constant([0, 3, 1, 2], "int32")))
    rows = _rows((1, 6, 6, 4))
    _close(lab, artifact, lab.quantize(artifact, rows), rows, 35.0)


@pytest.mark.parametrize("low", [-1e4, -1e9, float(_LOWEST) / 2])
@pytest.mark.parametrize("computed", [False, True])
def test_an_attention_mask_does_not_spoil_the_range(
    lab: Any, low: float, *, computed: bool
) -> None:
    model = lab.model()
    mask = np.triu(np.ones((8, 8), np.float32), 1)
    x = model.input(2, 8, 8)
    if computed:
        hidden = model.op("MUL", model.input(1, 8, 8), model.constant(low))
    else:
        hidden = model.constant(mask * np.float32(low))
    artifact = lab.save(model, model.op("SOFTMAX", model.op("ADD", x, hidden), beta=1.0))
    rows = _rows((2, 8, 8), scale=2)
    if computed:
        rows = [[*row, mask[None]] for row in rows]
    _close(lab, artifact, lab.quantize(artifact, rows), rows, 30.0)


def test_ranges_are_cut_to_what_their_readers_need(lab: Any) -> None:
    model = lab.model()
    x = model.op("MUL", model.input(1, 64), model.constant(40.0))
    artifact = lab.save(model, model.op("LOGISTIC", x))
    rows = _rows((1, 64))
    quantized = lab.quantize(artifact, rows)
    graph = _graph(quantized)
    logistic = next(op for op in graph.operators if graph.op(op) == "LOGISTIC")
    assert _scale(graph, logistic.inputs[0]) <= 14 / 255
    _close(lab, artifact, quantized, rows, 33.0)


def test_zeros_and_dead_channels(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 4, 4, 4)
    weight = _weights(4, 1, 1, 4)
    weight[1] = 0
    dead = model.op("SUB", x, x)
    live = _conv(model, x, weight, np.zeros(4, np.float32))
    artifact = lab.save(model, dead, live, model.op("MUL", x, model.constant(0.0)))
    rows = _rows((1, 4, 4, 4))
    quantized = lab.quantize(artifact, rows)
    for delegate in (False, True):
        zero, result, other = lab.run(quantized.path, rows, delegate=delegate)
        assert not zero.any()
        assert not other.any()
        assert lab.sqnr(lab.run(artifact.path, rows)[1], result) >= 35


def test_a_bias_far_larger_than_its_weights(lab: Any) -> None:
    model = lab.model()
    weight = _weights(4, 1, 1, 4)
    weight[2] *= 1e-9
    bias = np.array([0.1, -0.2, 50.0, 0.3], np.float32)
    artifact = lab.save(model, _conv(model, model.input(1, 4, 4, 4), weight, bias))
    rows = _rows((1, 4, 4, 4))
    _close(lab, artifact, lab.quantize(artifact, rows), rows, 38.0)


@pytest.mark.parametrize("factor", [1e-12, 1e-30])
def test_vanishing_activations(lab: Any, factor: float) -> None:
    model = lab.model()
    x = model.input(1, 4, 4, 4)
    tiny = _conv(model, x, _weights(4, 1, 1, 4) * np.float32(factor), np.zeros(4, np.float32))
    artifact = lab.save(model, model.op("ADD", x, tiny), model.op("RELU", tiny))
    rows = _rows((1, 4, 4, 4))
    quantized = lab.quantize(artifact, rows)
    reference, _ = lab.run(artifact.path, rows)
    assert lab.sqnr(reference, lab.run(quantized.path, rows)[0]) >= 35


def _many_edges(lab: Any) -> tuple[Artifact, list[list[Array]]]:
    """An input that is an output, an unused input, integers beside floats, outputs read on."""
    model = lab.model()
    x, number, _ = model.input(1, 4), model.input(1, 4, dtype="int32"), model.input(2)
    through = model.input(3)
    shaped = model.op("RESHAPE", model.op("TANH", x), model.constant([4], "int32"))
    doubled = model.op("ADD", number, number, dtypes=("int32",))
    artifact = lab.save(model, shaped, doubled, through, model.op("MUL", shaped, shaped))
    rows = [
        [row[0], np.arange(4, dtype=np.int32)[None], row[1], row[2]]
        for row in _rows((1, 4), (2,), (3,))
    ]
    return artifact, rows


@pytest.mark.parametrize("io_dtype", ["float32", "int8", "uint8"])
def test_edges_keep_names_order_shapes_and_signature(lab: Any, io_dtype: str) -> None:
    artifact, rows = _many_edges(lab)
    quantized = lab.quantize(artifact, rows, io_dtype=io_dtype)
    dtypes = {"float32": io_dtype, "int32": "int32"}
    for before, after, indices in (
        (artifact.inputs, quantized.inputs, _graph(quantized).inputs),
        (artifact.outputs, quantized.outputs, _graph(quantized).outputs),
    ):
        graph = _graph(quantized)
        assert [spec.name for spec in after] == [spec.name for spec in before]
        assert [graph.name(index) for index in indices] == [spec.name for spec in before]
        assert [graph.shape(index) for index in indices] == [spec.shape for spec in before]
        assert [spec.dtype for spec in after] == [dtypes[spec.dtype] for spec in before]
        assert [graph.dtype(index) for index in indices] == [spec.dtype for spec in after]
    signature = _graph(quantized).model.signatureDefs[0]
    graph = _graph(quantized)
    for entries, indices in ((signature.inputs, graph.inputs), (signature.outputs, graph.outputs)):
        assert [entry.tensorIndex for entry in entries] == indices


@pytest.mark.parametrize("io_dtype", ["float32", "int8", "uint8"])
def test_specs_store_and_restore_what_the_model_takes_and_gives(lab: Any, io_dtype: str) -> None:
    artifact, rows = _many_edges(lab)
    quantized = lab.quantize(artifact, rows, io_dtype=io_dtype)
    stored = [
        [spec.store(array) for spec, array in zip(quantized.inputs, row, strict=True)]
        for row in rows
    ]
    expected, found = lab.run(artifact.path, rows), lab.run(quantized.path, stored)
    for spec, reference, result in zip(quantized.outputs, expected, found, strict=True):
        restored = np.stack([spec.restore(array) for array in result])
        assert lab.sqnr(reference, restored) >= 35


def test_no_float_is_left_inside(lab: Any) -> None:
    artifact, rows = _many_edges(lab)
    graph = _graph(lab.quantize(artifact, rows, io_dtype="int8"))
    assert not any(graph.is_float(index) for index in range(len(graph.tensors)))


def test_metadata_and_description_survive(lab: Any) -> None:
    model = lab.model()
    entry = lab.schema.MetadataT()
    entry.name, entry.buffer = "notes", tflite.add_buffer(model.model, np.arange(7, dtype=np.uint8))
    model.model.metadata, model.model.description = [entry], "a model"
    artifact = lab.save(model, model.op("RELU", model.input(1, 8)))
    after = tflite.load(lab.quantize(artifact, _rows((1, 8))).path)
    assert after.description == b"a model"
    assert after.metadata[0].name == b"notes"
    np.testing.assert_array_equal(after.buffers[after.metadata[0].buffer].data, np.arange(7))


def test_quantizing_twice_gives_the_same_bytes(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, _residual_net(model))
    rows = _rows((1, 16, 16, 3), count=3)
    first = lab.quantize(artifact, rows).path.read_bytes()
    assert lab.quantize(artifact, rows).path.read_bytes() == first


def test_what_a_relu_cuts_off_still_counts_in_the_average_before_it(lab: Any) -> None:
    model = lab.model()
    window = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    pooled = model.op("AVERAGE_POOL_2D", model.input(1, 8, 8, 3), **window)
    artifact = lab.save(model, model.op("RELU", pooled))
    rows = _rows((1, 8, 8, 3))
    _close(lab, artifact, lab.quantize(artifact, rows), rows, 30.0)


def test_a_magnitude_keeps_what_its_squares_would_lose(lab: Any) -> None:
    model = lab.model()
    first, second = model.input(1, 64), model.input(1, 64)
    power = model.op("ADD", model.op("MUL", first, first), model.op("MUL", second, second))
    artifact = lab.save(model, model.op("SQRT", model.op("ADD", power, model.constant(1e-6))))
    rng = np.random.default_rng(0)
    # Most values are far below the largest, as in a spectrum.
    rows = [[rng.laplace(size=(1, 64)).astype(np.float32) ** 3 for _ in "ab"] for _ in range(16)]
    quantized = lab.quantize(artifact, rows, disable_recovery=["all"])
    graph = Graph(tflite.load(quantized.path))
    assert "SQRT" not in [graph.op(operator) for operator in graph.operators]
    expected, found = (lab.run(one.path, rows)[0] for one in (artifact, quantized))
    step = float(expected.max()) / 127
    assert float(np.abs(found - expected).max()) < 2 * step


def test_a_divisor_near_zero_leaves_the_other_quotients_as_they_are(lab: Any) -> None:
    model = lab.model()
    source, factor = model.input(1, 16, 8), model.input(1, 16, 1)
    divisor = model.op("ADD", model.op("ABS", factor), model.constant(1e-4))
    artifact = lab.save(model, model.op("DIV", model.op("MUL", source, divisor), divisor))
    rng = np.random.default_rng(0)
    rows = [
        [rng.standard_normal(shape).astype(np.float32) for shape in ((1, 16, 8), (1, 16, 1))]
        for _ in range(16)
    ]
    rows[3][1][0, 5] = 0.0  # Its reciprocal is 10,000.
    answer = quantize(
        artifact.to_dict(), str(lab.folder / "int8.tflite"), "int8",
        samples=lab.samples(artifact, rows), disable_recovery=["all"],
    )  # fmt: skip
    assert any("LiteRT has no int8 DIV" in note for note in answer["notes"])
    quantized = Artifact.from_dict(answer)
    large = [np.broadcast_to(np.abs(row[1]) > 0.5, (1, 16, 8)) for row in rows]
    expected, found = (lab.run(one.path, rows)[0] for one in (artifact, quantized))
    kept = np.stack(large).reshape(expected.shape)
    assert lab.sqnr(expected[kept], found[kept]) > 25
    graph = Graph(tflite.load(quantized.path))
    wide = [index for index in range(len(graph.tensors)) if graph.dtype(index) == "int16"]
    assert {graph.name(index).rpartition("/")[2] for index in wide} == {
        "dividend", "quotient", "reciprocal", "table"
    }  # fmt: skip


@pytest.mark.parametrize("lowest", [-3.4028234e38, -1e9, -1e4])
@pytest.mark.parametrize("added", [False, True])
def test_rows_that_a_mask_hides_whole_do_not_spoil_the_others(
    lab: Any, added: bool, lowest: float
) -> None:
    model = lab.model()
    scores, mask = model.input(1, 6, 8), model.input(1, 6, 8, dtype="bool")
    low, zero = model.constant(lowest), model.constant(0.0)
    if added:
        masked = model.op("ADD", scores, model.op("SELECT_V2", mask, low, zero))
    else:
        masked = model.op("SELECT_V2", mask, low, scores)
    rows = model.op("REDUCE_ALL", mask, model.constant([2], "int32"), dtypes=("bool",), keepDims=1)
    shares = model.op("SELECT_V2", rows, zero, model.op("SOFTMAX", masked, beta=1.0))
    artifact = lab.save(model, shares)
    rng = np.random.default_rng(0)
    feeds = []
    for _ in range(8):
        hidden = rng.random((1, 6, 8)) < 0.4
        hidden[:, 2], hidden[:, [0, 1, 3, 4, 5], 0] = True, False
        feeds.append([rng.normal(size=(1, 6, 8)).astype(np.float32), hidden])
    quantized = lab.quantize(artifact, feeds)
    (expected,) = lab.run(artifact.path, feeds, delegate=False)
    (found,) = lab.run(quantized.path, feeds)
    assert not found[:, :, 2].any()
    assert lab.sqnr(expected, found) > 30
