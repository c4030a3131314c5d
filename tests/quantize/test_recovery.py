"""Each method of recovery on a model built to need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array
from edgeconv.core.errors import UsageError
from edgeconv.quantize.engine import quantize
from edgeconv.quantize.recovery import RECOVERIES, clipping, localise, recover
from edgeconv.quantize.recovery.base import Candidate
from edgeconv.quantize.recovery.clipping import Clipping, effort
from edgeconv.quantize.rules.precision import Precision, keep
from edgeconv.quantize.statistics.calibrators import CALIBRATORS
from edgeconv.tflite import file as tflite
from edgeconv.tflite import weights_apart
from edgeconv.tflite.graph import Graph

_NAMES = {method.name for method in RECOVERIES}


def rows(seed: int, count: int, *shape: int) -> list[list[Array]]:
    rng = np.random.default_rng(seed)
    return [[rng.standard_normal(shape).astype(np.float32)] for _ in range(count)]


def gain(lab: Any, artifact: Any, known: list[list[Array]], name: str) -> float:
    """Return what one method alone gains on the worst output, on samples that it has not seen."""
    unseen = rows(99, 24, *known[0][0].shape)
    expected = lab.run(artifact.path, unseen)
    worst = []
    for disabled in (["all"], sorted(_NAMES - {name})):
        quantized = lab.quantize(artifact, known, disable_recovery=disabled)
        found = lab.run(quantized.path, unseen)
        worst.append(min(map(lab.sqnr, expected, found)))
    return float(worst[1] - worst[0])


def spread_net(lab: Any) -> Any:
    """A net whose channels differ by a factor of up to 1000 between two convolutions."""
    rng = np.random.default_rng(1)
    model = lab.model()
    source = model.input(1, 6, 6, 4)
    spread = np.logspace(-1.5, 1.5, 16)
    first = model.constant(rng.standard_normal((16, 1, 1, 4)) * spread[:, None, None, None])
    depth = model.constant(rng.standard_normal((1, 3, 3, 16)))
    last = model.constant(rng.standard_normal((4, 1, 1, 16)) / spread)
    bias16, bias4 = model.constant(np.zeros(16)), model.constant(np.zeros(4))
    step = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    x = model.op("CONV_2D", source, first, bias16, **step, fusedActivationFunction=1)
    x = model.op("DEPTHWISE_CONV_2D", x, depth, bias16, **step, depthMultiplier=1)
    x = model.op("CONV_2D", x, last, bias4, **step)
    return lab.save(model, x)


def test_equalization_saves_channels_of_different_range(lab: Any) -> None:
    assert gain(lab, spread_net(lab), rows(0, 24, 1, 6, 6, 4), "equalize") > 10


def test_layers_in_float_beside_int8_ones_are_left_as_they_are(lab: Any) -> None:
    artifact, known = spread_net(lab), rows(0, 24, 1, 6, 6, 4)
    unseen = rows(99, 24, 1, 6, 6, 4)
    expected = lab.run(artifact.path, unseen)[0]
    source = Graph(tflite.load(artifact.path))
    last = source.operators[-1]
    kept = [keep(source.label(last), "float", "--keep-float").to_dict()]
    figures = []
    for disabled in (["all"], ["equalize"], []):
        quantized = lab.quantize(artifact, known, rules=kept, disable_recovery=disabled)
        figures.append(lab.sqnr(expected, lab.run(quantized.path, unseen)[0]))
        graph = Graph(tflite.load(quantized.path))
        weight = graph.operators[-1].inputs[1]
        assert graph.op(graph.operators[-1]) == "CONV_2D"
        if disabled:
            np.testing.assert_array_equal(graph.value(weight), source.value(last.inputs[1]))
    assert figures[2] > figures[0] + 10


def test_equalized_layers_are_compared_without_their_factors(lab: Any) -> None:
    artifact, known = spread_net(lab), rows(0, 24, 1, 6, 6, 4)
    quantized = lab.quantize(artifact, known, disable_recovery=())
    layers = localise.of_files(str(artifact.path), str(quantized.path), known[:4])
    assert [layer.op for layer in layers][1:] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D"]
    assert all((layer.carried_db or 0) > 20 for layer in layers)


def test_a_batch_norm_behind_a_relu_is_folded(lab: Any) -> None:
    rng = np.random.default_rng(1)
    model = lab.model()
    source = model.input(1, 32)
    weight, bias = model.constant(rng.standard_normal((16, 32))), model.constant(np.zeros(16))
    dense = model.op("FULLY_CONNECTED", source, weight, bias, fusedActivationFunction=1)
    # Of very different size: a scale for all of them loses the channels that are enlarged.
    norm = model.op("MUL", dense, model.constant(np.logspace(-1.5, 1.5, 16)))
    shares = model.constant(np.diag(1 / np.logspace(-1.5, 1.5, 16)))
    artifact = lab.save(model, model.op("FULLY_CONNECTED", norm, shares, bias))
    known = rows(0, 16, 1, 32)
    quantized = lab.quantize(
        artifact, known, disable_recovery=sorted(_NAMES - {"batch-norm", "equalize"})
    )
    graph = Graph(tflite.load(quantized.path))
    assert [graph.op(operator) for operator in graph.operators].count("MUL") == 0
    found = lab.run(quantized.path, known)
    assert lab.sqnr(lab.run(artifact.path, known)[0], found[0]) > 30


def test_a_folded_batch_norm_alone_saves_channels_of_different_size(lab: Any) -> None:
    # Between the layer and its norm one scale would have to serve channels 1000 times apart.
    rng = np.random.default_rng(2)
    spread = np.logspace(-1.5, 1.5, 16)
    model = lab.model()
    weight = model.constant(rng.standard_normal((16, 1, 1, 4)) * spread[:, None, None, None])
    bias = model.constant(rng.standard_normal(16) * spread)
    step = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    source = model.input(1, 6, 6, 4)
    x = model.op("CONV_2D", source, weight, bias, **step, fusedActivationFunction=1)
    x = model.op("MUL", x, model.constant(1 / spread))
    # Mixed behind it, for channels of an output are kept apart anyway.
    mixed = model.constant(rng.standard_normal((16, 1, 1, 16)))
    artifact = lab.save(model, model.op("CONV_2D", x, mixed, model.constant([0.0] * 16), **step))
    assert gain(lab, artifact, rows(0, 24, 1, 6, 6, 4), "batch-norm") > 20


def test_a_mean_error_is_taken_out_through_the_bias(lab: Any) -> None:
    # A coarse input, always rounded the same way, shifts every result by about as much.
    model = lab.model()
    source = model.input(1, 64)
    shifted = model.op("MUL", model.op("ADD", source, model.constant(1000.0)), model.constant(1e-3))
    weight, bias = model.constant(np.full((8, 64), 0.1)), model.constant(np.full(8, -6.4))
    artifact = lab.save(model, model.op("FULLY_CONNECTED", shifted, weight, bias))
    known = rows(0, 24, 1, 64)
    assert gain(lab, artifact, known, "bias-correction") > 1


def test_errors_of_rounded_weights_make_up_for_one_another(lab: Any) -> None:
    # Inputs that go together, weights of half a step: rounding each alone adds its errors up.
    rng = np.random.default_rng(2)
    model = lab.model()
    source = model.input(1, 4)
    spread = 1 + 0.3 * rng.standard_normal((64, 4))
    inner = model.op("FULLY_CONNECTED", source, model.constant(spread), -1)
    weight = (rng.integers(-3, 3, (8, 64)) + 0.45) / 127
    weight[:, 0] = 1
    artifact = lab.save(model, model.op("FULLY_CONNECTED", inner, model.constant(weight), -1))
    assert gain(lab, artifact, rows(0, 24, 1, 4), "rounding") > 2


def test_weights_of_convolutions_make_up_for_one_another_across_their_window(lab: Any) -> None:
    rng = np.random.default_rng(2)
    model = lab.model()
    step = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    spread = model.constant(1 + 0.3 * rng.standard_normal((16, 1, 1, 4)))
    inner = model.op(
        "CONV_2D", model.input(1, 7, 7, 4), spread, model.constant(np.zeros(16)), **step
    )
    weight = (rng.integers(-3, 3, (8, 3, 3, 16)) + 0.45) / 127
    weight[:, 0, 0, 0] = 1
    wide = step | {"strideH": 2, "strideW": 2}
    bias = model.constant(np.zeros(8))
    artifact = lab.save(model, model.op("CONV_2D", inner, model.constant(weight), bias, **wide))
    assert gain(lab, artifact, rows(0, 24, 1, 7, 7, 4), "rounding") > 2


def test_outliers_are_clipped_where_that_helps(lab: Any) -> None:
    # Two values in 65 thousand make the range, in places that nothing depends on.
    known = rows(0, 16, 1, 4096)
    known[3][0][0, 7], known[9][0][0, 70] = 60.0, -60.0
    weights = np.random.default_rng(2).standard_normal((16, 4096)) / 64
    weights[:, [7, 70]] = 0
    model = lab.model()
    parameters = model.constant(weights), model.constant(np.zeros(16))
    used = model.op("FULLY_CONNECTED", model.input(1, 4096), *parameters)
    artifact = lab.save(model, used)
    assert gain(lab, artifact, known, "outliers") > 12


def test_a_range_is_clipped_where_the_outputs_gain(lab: Any) -> None:
    # Values near zero decide alone, though the others are no outliers.
    model = lab.model()
    parameters = model.constant(20 * np.eye(256)), model.constant(np.zeros(256))
    steep = model.op("FULLY_CONNECTED", model.input(1, 256), *parameters)
    artifact = lab.save(model, model.op("TANH", steep))
    assert gain(lab, artifact, rows(0, 16, 1, 256), "clipping") > 4


def test_ranges_of_large_models_are_not_tried_one_by_one(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = rows(0, 4, 1, 6, 6, 4)
    graph = Graph(tflite.load(spread_net(lab).path))
    precisions: list[Precision] = ["int8"] * len(graph.operators)
    candidate = Candidate(graph, known, CALIBRATORS["mse"], precisions).observed()
    # At each of 6x6 places products with 4 channels, with a window of 3x3, and with 16 channels.
    products = 36 * (16 * 4 + 16 * 9 + 4 * 16)
    assert effort(graph) == products + 16 * 36 * (16 + 16 + 4)
    assert {part.name for part in Clipping().parts(candidate)} == {"clipping"}
    monkeypatch.setattr(clipping, "_EFFORT", effort(graph))
    assert Clipping().parts(candidate) == []


def linear_attention(lab: Any) -> Any:
    """Attention that divides q (K V) by q (K 1), over 32 places of very different size."""
    rng = np.random.default_rng(4)
    model = lab.model()
    source = model.op("MUL", model.input(1, 32, 8), model.constant(np.logspace(-1, 1, 32)[:, None]))
    q, k = (
        model.op("FULLY_CONNECTED", source, model.constant(rng.standard_normal((8, 8))), -1,
                 fusedActivationFunction=1, keepNumDims=True)
        for _ in "qk"
    )  # fmt: skip
    v = model.op("MUL", model.input(1, 32, 8), model.constant(0.5))
    both = model.op("CONCATENATION", v, model.constant(np.ones((1, 32, 1))), axis=2)
    turned = model.op("TRANSPOSE", k, model.constant([0, 2, 1], "int32"))
    total = model.op("BATCH_MATMUL", q, model.op("BATCH_MATMUL", turned, both))
    cuts = [([0, 0, 0], [1, 32, 8]), ([0, 0, 8], [1, 32, 1])]
    left, right = (
        model.op("SLICE", total, *(model.constant(cut, "int32") for cut in cut)) for cut in cuts
    )
    below = model.op("ADD", right, model.constant(1e-5))
    return lab.save(model, model.op("DIV", left, below))


def test_both_sides_of_a_quotient_are_bounded(lab: Any) -> None:
    rng = np.random.default_rng(5)
    artifact = linear_attention(lab)
    known, unseen = (
        [[rng.standard_normal((1, 32, 8)).astype(np.float32) for _ in "xv"] for _ in range(16)]
        for _ in "ab"
    )
    expected = lab.run(artifact.path, unseen)[0]
    figures, graphs = [], []
    for disabled in (["all"], sorted(_NAMES - {"quotients"})):
        quantized = lab.quantize(artifact, known, disable_recovery=disabled)
        graphs.append(Graph(tflite.load(quantized.path)))
        figures.append(lab.sqnr(expected, lab.run(quantized.path, unseen)[0]))
    names = [[graph.op(operator) for operator in graph.operators] for graph in graphs]
    assert [row.count("L2_NORMALIZATION") for row in names] == [0, 1]
    assert figures[1] > figures[0] + 6


def test_room_is_left_for_what_few_samples_do_not_show(lab: Any) -> None:
    rng = np.random.default_rng(3)
    model = lab.model()
    source = model.input(1, 8)
    weight = model.constant(rng.standard_normal((2, 8)))
    artifact = lab.save(model, model.op("FULLY_CONNECTED", source, weight, -1))
    assert gain(lab, artifact, rows(0, 10, 1, 8), "headroom") > 1


def test_outputs_of_different_range_are_joined_as_real_numbers(lab: Any) -> None:
    model = lab.model()
    source = model.input(1, 32)
    boxes = model.op("MUL", source, model.constant(300.0))
    joined = model.op("CONCATENATION", boxes, model.op("LOGISTIC", source), axis=1)
    artifact = lab.save(model, joined)
    known = rows(0, 16, 1, 32)
    expected = lab.run(artifact.path, known)[0][..., 32:]
    for disabled in (["all"], []):
        quantized = lab.quantize(artifact, known, disable_recovery=disabled)
        assert lab.sqnr(expected, lab.run(quantized.path, known)[0][..., 32:]) > 35


def test_a_padding_constant_does_not_decide_the_range(lab: Any) -> None:
    model = lab.model()
    source = model.input(1, 6, 6, 2)
    pads = model.constant([[0, 0], [1, 1], [1, 1], [0, 0]], "int32")
    padded = model.op("PADV2", source, pads, model.constant(-400.0))
    pool = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2, "padding": 1}
    kept = model.op("MAX_POOL_2D", padded, **pool)
    corners = [model.constant(corner, "int32") for corner in ([0, 1, 1, 0], [1, 6, 6, 2])]
    inside = model.op("SLICE", padded, *corners)
    artifact = lab.save(model, kept, inside)
    known = rows(0, 16, 1, 6, 6, 2)
    assert gain(lab, artifact, known, "padding") > 10


def test_what_was_tried_is_told(lab: Any) -> None:
    artifact, known = spread_net(lab), rows(0, 24, 1, 6, 6, 4)
    answer = quantize(
        artifact.to_dict(), str(lab.folder / "out.tflite"), "int8",
        samples=lab.samples(artifact, known), disable_recovery=["headroom"],
    )  # fmt: skip
    tried = {step["name"]: step for step in answer["recovery"]}
    assert "headroom" not in tried
    assert tried["equalize"]["kept"]
    assert tried["equalize"]["gain_db"] > 10


def test_what_is_made_again_to_save_memory_is_the_same(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, known = spread_net(lab), rows(0, 24, 1, 6, 6, 4)
    path: Path = lab.folder / "out.tflite"

    def written() -> bytes:
        answer = quantize(
            artifact.to_dict(), str(path), "int8", samples=lab.samples(artifact, known)
        )
        kept = {step["name"] for step in answer["recovery"] if step["kept"]}
        assert kept >= {"equalize"}
        return path.read_bytes()

    expected = written()
    made = []
    original = recover._Choice.made

    def counted(choice: Any, candidate: Any) -> Any:
        made.append(choice.method.name)
        return original(choice, candidate)

    monkeypatch.setattr(recover, "_HEAVY", 0)
    monkeypatch.setattr(weights_apart, "_LARGE", 16)
    monkeypatch.setattr(weights_apart, "_WORTHWHILE", 0)
    monkeypatch.setattr(recover._Choice, "made", counted)
    assert written() == expected
    assert made.count("equalize") > 1  # once for all samples, and once for each fold


def test_an_unknown_method_is_refused(lab: Any) -> None:
    with pytest.raises(UsageError, match="magic"):
        lab.quantize(spread_net(lab), rows(0, 2, 1, 6, 6, 4), disable_recovery=["magic"])


def test_values_whose_squares_are_infinite_are_quantized_all_the_same(lab: Any) -> None:
    rng = np.random.default_rng(3)
    model = lab.model()
    weight = model.constant(rng.normal(size=(8, 16)))
    bias = model.constant(rng.normal(size=8))
    artifact = lab.save(model, model.op("FULLY_CONNECTED", model.input(1, 16), weight, bias))
    known = [[(1e25 * rng.normal(size=(1, 16))).astype(np.float32)] for _ in range(12)]
    quantized = lab.quantize(artifact, known)
    expected, found = (lab.run(path, known)[0] / 1e25 for path in (artifact.path, quantized.path))
    assert lab.sqnr(expected, found) > 30


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_without_gain_the_file_is_that_without_recovery(lab: Any, mode: str, count: int) -> None:
    # One coarse layer: nothing is to be won, and half of the samples must not leave a trace.
    rng = np.random.default_rng(7)
    model = lab.model()
    weight = model.constant(rng.integers(-127, 128, (4, 16)) / 127)
    artifact = lab.save(model, model.op("FULLY_CONNECTED", model.input(1, 16), weight, -1))
    known = rows(0, count, 1, 16)
    contents = []
    for disabled in (["all"], ["headroom"]):
        path = lab.folder / "out.tflite"
        answer = quantize(
            artifact.to_dict(), str(path), mode, samples=lab.samples(artifact, known),
            disable_recovery=disabled,
        )  # fmt: skip
        assert not any(step["kept"] for step in answer["recovery"])
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_what_is_kept_is_the_same_each_time(lab: Any) -> None:
    artifact, known = spread_net(lab), rows(0, 12, 1, 6, 6, 4)
    first, second = (
        lab.quantize(artifact, known, disable_recovery=()).path.read_bytes() for _ in "ab"
    )
    assert first == second
