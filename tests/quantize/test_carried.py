"""States have one scale at both ends, so that what a step returns can be fed back as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

from edgeconv.core.artifacts import Array, Artifact, TensorSpec
from edgeconv.core.states import Part, State
from edgeconv.quantize.engine import quantize
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_STEPS = 64
_WIDTH = 6


def _weight(model: Any, rows: int, columns: int, seed: int) -> tuple[int, int]:
    random = np.random.default_rng(seed)
    weight = model.constant(random.standard_normal((rows, columns)) / np.sqrt(columns))
    return weight, model.constant(np.zeros(rows))


def _dense(model: Any, x: int, width: int, seed: int) -> int:
    """A dense layer of `_WIDTH` outputs."""
    index: int = model.op("FULLY_CONNECTED", x, *_weight(model, _WIDTH, width, seed))
    return index


def _gated(model: Any, x: int, h: int, seed: int) -> int:
    """``h + z (n - h)``, what a GRU's cell does."""
    gate = model.op("LOGISTIC", _dense(model, x, 4, seed))
    new = model.op("TANH", _dense(model, x, 4, seed + 1))
    step = model.op("MUL", gate, model.op("SUB", new, h))
    index: int = model.op("ADD", h, step)
    return index


def _cell(lab: Any) -> tuple[Any, list[int], list[State]]:
    model = lab.model()
    x, h = model.input(1, 4), model.input(1, _WIDTH)
    after = _gated(model, x, h, 0)
    return model, [_dense(model, after, _WIDTH, 8), after], [State("x1", "y1", "")]


def _plain(lab: Any) -> tuple[Any, list[int], list[State]]:
    """``tanh(Wx + Uh)``, whose scale is prescribed."""
    model = lab.model()
    x, h = model.input(1, 4), model.input(1, _WIDTH)
    total = model.op("ADD", _dense(model, x, 4, 0), _dense(model, h, _WIDTH, 1))
    after = model.op("TANH", total)
    return model, [_dense(model, after, _WIDTH, 2), after], [State("x1", "y1", "")]


def _buffer(lab: Any) -> tuple[Any, list[int], list[State]]:
    """The last frames, and a convolution over them; frames grow under way."""
    model = lab.model()
    x, cache = model.input(1, 1, 4), model.input(1, 3, 4)
    begin, size = (model.constant(value, "int32") for value in ([0, 1, 0], [1, 2, 4]))
    frame = model.op("MUL", x, model.constant([[[1.0, 2.0, -1.5, 0.5]]]))
    kept = model.op("SLICE", cache, begin, size)
    after = model.op("CONCATENATION", kept, frame, axis=1)
    flat = model.op("RESHAPE", after, model.constant([1, 12], "int32"), newShape=[1, 12])
    return model, [_dense(model, flat, 12, 3), after], [State("x1", "y1", "")]


def _layers(lab: Any) -> tuple[Any, list[int], list[State]]:
    """Two layers, whose states lie in one tensor."""
    model = lab.model()
    x, state = model.input(1, 4), model.input(2, 1, _WIDTH)
    first, second = model.op("UNPACK", state, dtypes=("float32",) * 2, num=2, axis=0)
    one = _gated(model, x, first, 0)
    two = _gated(model, x, second, 4)
    after = model.op("PACK", one, two, valuesCount=2, axis=0)
    return model, [_dense(model, two, _WIDTH, 9), after], [State("x1", "y1", "")]


def _swapped(lab: Any) -> tuple[Any, list[int], list[State]]:
    """Two states that are returned in one tensor, the second one first."""
    model = lab.model()
    x, h, g = model.input(1, 4), model.input(1, _WIDTH), model.input(1, _WIDTH)
    one, two = _gated(model, x, h, 0), _gated(model, x, g, 4)
    after = model.op("CONCATENATION", two, one, axis=1)
    states = [
        State("x1", "y1", "", Part(1, _WIDTH, 2 * _WIDTH)),
        State("x2", "y1", "", Part(1, 0, _WIDTH)),
    ]
    return model, [_dense(model, one, _WIDTH, 9), after], states


_CASES = [_cell, _plain, _buffer, _layers, _swapped]


class _Model:
    """A loaded model, one step at a time."""

    def __init__(self, path: Path) -> None:
        self._interpreter = Interpreter(model_path=str(path))
        self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()

    def zeros(self) -> list[Array]:
        return [np.zeros(item["shape"], item["dtype"]) for item in self._inputs]

    def step(self, feed: list[Array]) -> list[Array]:
        for item, array in zip(self._inputs, feed, strict=True):
            self._interpreter.set_tensor(item["index"], array)
        self._interpreter.invoke()
        outputs = self._interpreter.get_output_details()
        return [self._interpreter.get_tensor(item["index"]) for item in outputs]


def _float_steps(
    path: Path, states: Sequence[State], frames: list[Array]
) -> tuple[list[list[Array]], list[list[Array]]]:
    """Return each step's inputs and outputs in float, beginning with states of zeros."""
    model = _Model(path)
    feed, fed, made = model.zeros(), [], []
    for frame in frames:
        feed = [frame, *feed[1:]]
        outputs = model.step(feed)
        fed.append(feed)
        made.append(outputs)
        feed = [frame, *(_next(states, place, outputs, feed) for place in range(1, len(feed)))]
    return fed, made


def _next(states: Sequence[State], place: int, outputs: list[Array], feed: list[Array]) -> Array:
    state = next(state for state in states if state.input == f"x{place}")
    return state.of(outputs[int(state.output[1:])], feed[place].shape)


def _frames(count: int, artifact: Artifact) -> list[Array]:
    random = np.random.default_rng(5)
    shape = _shape(artifact.inputs[0])
    return [random.standard_normal(shape).astype(np.float32) for _ in range(count)]


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(size or 1 for size in spec.shape)


Build = Callable[[Any], tuple[Any, list[int], list[State]]]


def _quantized(
    lab: Any, build: Build, io_dtype: str, mode: str = "int8"
) -> tuple[Artifact, Artifact, list[State]]:
    model, outputs, states = build(lab)
    artifact = lab.save(model, *outputs)
    fed, _ = _float_steps(artifact.path, states, _frames(_STEPS, artifact))
    quantized = lab.quantize(
        artifact,
        fed,
        mode=mode,
        io_dtype=io_dtype,
        states=[state.to_dict() for state in states],
    )
    return artifact, quantized, states


@pytest.mark.parametrize("build", _CASES)
@pytest.mark.parametrize(
    ("mode", "io_dtype"), [("int8", "int8"), ("int8", "uint8"), ("int16x8", "int16")]
)
def test_bytes_go_round(lab: Any, build: Build, mode: str, io_dtype: str) -> None:
    artifact, quantized, states = _quantized(lab, build, io_dtype, mode)
    frames = _frames(3 * _STEPS, artifact)
    _, expected = _float_steps(artifact.path, states, frames)
    specs = {spec.name: spec for spec in (*quantized.inputs, *quantized.outputs)}
    for state in states:
        assert specs[state.input].quantization == specs[state.output].quantization
    model, found = _Model(quantized.path), []
    feed = [spec.store(np.zeros(_shape(spec), np.float32)) for spec in quantized.inputs]
    for frame in frames:
        feed[0] = quantized.inputs[0].store(frame)
        outputs = model.step(feed)
        found.append([s.restore(a) for s, a in zip(quantized.outputs, outputs, strict=True)])
        feed[1:] = [_next(states, place, outputs, feed) for place in range(1, len(feed))]
    for one, other in zip(zip(*expected, strict=True), zip(*found, strict=True), strict=True):
        assert lab.sqnr(np.stack(one), np.stack(other)) > 25


def _edges(path: Any, kind: str) -> dict[str, tuple[float, int]]:
    """Return scale and zero point of what stands behind inputs, or before outputs, by name."""
    graph = Graph(tflite.load(path))
    found = {}
    for operator in graph.operators:
        if graph.op(operator) == kind:
            (source,), (target,) = operator.inputs, operator.outputs
            edge, inner = (source, target) if kind == "QUANTIZE" else (target, source)
            stored = graph.tensors[inner].quantization
            found[graph.name(edge)] = (float(stored.scale[0]), int(stored.zeroPoint[0]))
    return found


@pytest.mark.parametrize("build", [_cell, _plain, _buffer, _layers])
def test_real_numbers_go_round_unchanged(lab: Any, build: Build) -> None:
    """What is dequantized and quantized again is what it was."""
    _, quantized, states = _quantized(lab, build, "float32")
    entered, left = _edges(quantized.path, "QUANTIZE"), _edges(quantized.path, "DEQUANTIZE")
    assert [entered[state.input] for state in states] == [left[state.output] for state in states]


def test_without_states_both_ends_have_their_own_scale(lab: Any) -> None:
    model, outputs, states = _plain(lab)
    artifact = lab.save(model, *outputs)
    fed, _ = _float_steps(artifact.path, states, _frames(_STEPS, artifact))
    quantized = lab.quantize(artifact, fed, io_dtype="int8")
    assert quantized.inputs[1].quantization != quantized.outputs[1].quantization


def test_a_prescribed_scale_that_is_too_narrow_is_widened_behind_it(lab: Any) -> None:
    model, outputs, states = _plain(lab)
    artifact = lab.save(model, *outputs)
    random = np.random.default_rng(0)
    feeds = [
        [frame, (5 * random.standard_normal((1, _WIDTH))).astype(np.float32)]
        for frame in _frames(_STEPS, artifact)
    ]
    quantized = lab.quantize(
        artifact, feeds, io_dtype="int8", states=[state.to_dict() for state in states]
    )
    assert quantized.outputs[1].quantization is not None
    scale = quantized.outputs[1].quantization.scale
    assert quantized.inputs[1].quantization == quantized.outputs[1].quantization
    assert quantized.outputs[1].name == "y1" and scale > 5 * 2 / 255
    expected = lab.run(artifact.path, feeds)
    stored = [[s.store(a) for s, a in zip(quantized.inputs, feed, strict=True)] for feed in feeds]
    found = lab.run(quantized.path, stored)
    for spec, one, other in zip(quantized.outputs, expected, found, strict=True):
        assert lab.sqnr(one, np.stack([spec.restore(array) for array in other])) > 20


def test_states_of_zeros_are_no_scale(lab: Any) -> None:
    """Samples that only hold first states tell the range of what comes after."""
    model, outputs, states = _cell(lab)
    artifact = lab.save(model, *outputs)
    feeds = [[frame, np.zeros((1, _WIDTH), np.float32)] for frame in _frames(_STEPS, artifact)]
    quantized = lab.quantize(
        artifact, feeds, io_dtype="int8", states=[state.to_dict() for state in states]
    )
    assert quantized.inputs[1].quantization == quantized.outputs[1].quantization
    assert 0.2 < 255 * quantized.inputs[1].quantization.scale < 4


def _wide(lab: Any) -> tuple[Any, list[int], list[State]]:
    """Two states of very different range in one tensor: an LSTM's, whose cell is a sum."""
    model = lab.model()
    x, state = model.input(1, 4), model.input(2, 1, _WIDTH)
    h, c = model.op(
        "SPLIT", model.constant(0, "int32"), state, dtypes=("float32",) * 2, numSplits=2
    )
    flat = model.constant([1, _WIDTH], "int32")
    h, c = (model.op("RESHAPE", part, flat, newShape=[1, _WIDTH]) for part in (h, c))
    new = model.op("TANH", model.op("ADD", _dense(model, x, 4, 0), _dense(model, h, _WIDTH, 1)))
    kept = model.op("MUL", c, model.constant(np.full((1, _WIDTH), 0.97)))
    cell = model.op("ADD", kept, model.op("MUL", new, model.constant(np.full((1, _WIDTH), 6.0))))
    gate = model.op("LOGISTIC", _dense(model, x, 4, 2))
    after = model.op("PACK", _gated(model, x, h, 4), cell, valuesCount=2, axis=0)
    return model, [model.op("MUL", gate, cell), after], [State("x1", "y1", "")]


def test_what_differs_in_range_is_apart_at_both_ends(lab: Any) -> None:
    artifact, quantized, states = _quantized(lab, _wide, "float32")
    frames = _frames(2 * _STEPS, artifact)
    _, expected = _float_steps(artifact.path, states, frames)
    _, found = _float_steps(quantized.path, states, frames)
    one, other = (np.stack([outputs[1] for outputs in rows]) for rows in (expected, found))
    for part in range(2):
        assert lab.sqnr(one[:, part], other[:, part]) > 25
    # Each part has one scale at both ends, and another than its neighbour.
    ends = [sorted(_edges(quantized.path, kind).items()) for kind in ("QUANTIZE", "DEQUANTIZE")]
    scales = [{scale for name, scale in found if name not in ("x0", "y0")} for found in ends]
    assert len(scales[0]) == 2 and scales[0] == scales[1]


def test_outputs_of_their_own_are_fed_to_their_own_inputs(lab: Any) -> None:
    """As integers, what one output joins becomes several; each has the scale of its input."""
    model = lab.model()
    x, h, c = model.input(1, 4), model.input(1, _WIDTH), model.input(1, _WIDTH)
    kept = model.op("MUL", c, model.constant(np.full((1, _WIDTH), 0.97)))
    step = model.op("MUL", _dense(model, x, 4, 0), model.constant(np.full((1, _WIDTH), 9.0)))
    cell = model.op("ADD", kept, step)
    after = model.op("CONCATENATION", _gated(model, x, h, 4), cell, axis=1)
    artifact = lab.save(model, model.op("TANH", h), after)
    states = [
        State("x1", "y1", "", Part(1, 0, _WIDTH)),
        State("x2", "y1", "", Part(1, _WIDTH, 2 * _WIDTH)),
    ]
    fed, _ = _float_steps(artifact.path, states, _frames(_STEPS, artifact))
    quantized = lab.quantize(
        artifact, fed, io_dtype="int8", states=[state.to_dict() for state in states]
    )
    assert [spec.name for spec in quantized.outputs] == ["y0", "y1_0", "y1_1"]
    for own, other in zip(quantized.inputs[1:], quantized.outputs[1:], strict=True):
        assert own.quantization == other.quantization


def test_one_integer_input_for_several_outputs_is_said(lab: Any) -> None:
    model, outputs, states = _wide(lab)
    artifact = lab.save(model, *outputs)
    fed, _ = _float_steps(artifact.path, states, _frames(_STEPS, artifact))
    path = lab.folder / "int8.tflite"
    answer = quantize(
        artifact.to_dict(),
        str(path),
        "int8",
        "int8",
        samples=lab.samples(artifact, fed),
        states=[state.to_dict() for state in states],
    )
    assert any("state x1 is fed from several outputs (y1_0, y1_1)" in n for n in answer["notes"])


def _lstm(lab: Any) -> tuple[Any, list[int], list[State]]:
    """An LSTM whose cell goes on to gather: its tanh saturates long before."""
    model = lab.model()
    x, h, c = model.input(1, 4), model.input(1, _WIDTH), model.input(1, _WIDTH)
    total = model.op("ADD", _dense(model, x, 4, 0), _dense(model, h, _WIDTH, 1))
    gate = model.op("LOGISTIC", total)
    drift = np.array([[30.0, -20.0, 8.0, 1.0, 0.5, 0.2]])
    new = model.op("MUL", model.op("TANH", _dense(model, x, 4, 2)), model.constant(drift))
    kept = model.op("MUL", c, model.constant(np.full((1, _WIDTH), 0.9)))
    cell = model.op("ADD", kept, model.op("MUL", gate, new))
    after = model.op("MUL", gate, model.op("TANH", cell))
    states = [State("x1", "y1", ""), State("x2", "y2", "")]
    return model, [_dense(model, after, _WIDTH, 3), after, cell], states


def test_what_gathers_has_16_bits(lab: Any) -> None:
    artifact, quantized, states = _quantized(lab, _lstm, "float32")
    frames = _frames(2 * _STEPS, artifact)
    _, expected = _float_steps(artifact.path, states, frames)
    figures = []
    for path in (quantized.path, _without_mixing(lab, artifact, states).path):
        _, found = _float_steps(path, states, frames)
        columns = zip(zip(*expected, strict=True), zip(*found, strict=True), strict=True)
        figures.append([lab.sqnr(np.stack(one), np.stack(other)) for one, other in columns])
    assert min(figures[0]) > 15
    assert figures[0][1] > figures[1][1] + 3, figures
    graph = Graph(tflite.load(quantized.path))
    sums = [graph.dtype(o.outputs[0]) for o in graph.operators if graph.op(o) == "ADD"]
    assert sorted(sums) == ["int16", "int8"]


_HIDDEN, _LONG = 8, 500


class _Keeping:
    """An LSTM cell as training leaves some: its forget gates are near 1, its input gates low."""

    def __init__(self) -> None:
        random = np.random.default_rng(3)
        sizes = ((4 * _HIDDEN, 4), (4 * _HIDDEN, _HIDDEN))
        self.w, self.r = (0.4 * random.standard_normal(size).astype(np.float32) for size in sizes)
        bias = np.zeros((4, _HIDDEN), np.float32)  # of i, o, f and c, as ONNX has them
        bias[0], bias[2] = -3.0, 5.5
        self.b = bias.ravel()

    def build(self, lab: Any) -> tuple[Any, list[int], list[State]]:
        model = lab.model()
        x, h, c = model.input(1, 4), model.input(1, _HIDDEN), model.input(1, _HIDDEN)
        none = model.constant(np.zeros(4 * _HIDDEN))
        total = model.op(
            "ADD",
            model.op("FULLY_CONNECTED", x, model.constant(self.w), model.constant(self.b)),
            model.op("FULLY_CONNECTED", h, model.constant(self.r), none),
        )
        axis = model.constant(1, "int32")
        parts = model.op("SPLIT", axis, total, dtypes=("float32",) * 4, numSplits=4)
        i, o, f = (model.op("LOGISTIC", part) for part in parts[:3])
        new = model.op("MUL", i, model.op("TANH", parts[3]))
        cell = model.op("ADD", model.op("MUL", f, c), new)
        after = model.op("MUL", o, model.op("TANH", cell))
        return model, [after, cell], [State("x1", "y0", ""), State("x2", "y1", "")]

    def in_onnxruntime(self, frames: Sequence[Array]) -> list[Array]:
        """Return hidden and cell states, each ``[step, 1, hidden]``."""
        names = ["x", "w", "r", "b", "", "h", "c"]
        node = helper.make_node("LSTM", names, ["", "h1", "c1"], hidden_size=_HIDDEN)
        kept = {"w": self.w[None], "r": self.r[None]}
        kept["b"] = np.concatenate([self.b, np.zeros_like(self.b)])[None]
        widths = {"x": 4, "h": _HIDDEN, "c": _HIDDEN, "h1": _HIDDEN, "c1": _HIDDEN}
        typed = {
            name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, width])
            for name, width in widths.items()
        }
        graph = helper.make_graph(
            [node],
            "lstm",
            [typed[name] for name in ("x", "h", "c")],
            [typed[name] for name in ("h1", "c1")],
            [numpy_helper.from_array(array, name) for name, array in kept.items()],
        )
        opset = [helper.make_opsetid("", 17)]
        made = helper.make_model(graph, opset_imports=opset, ir_version=9)
        session = onnxruntime.InferenceSession(made.SerializeToString())
        h = c = np.zeros((1, 1, _HIDDEN), np.float32)
        found = []
        for frame in frames:
            h, c = session.run(None, {"x": frame[None], "h": h, "c": c})
            found.append((h[0], c[0]))
        return [np.stack(column) for column in zip(*found, strict=True)]


def test_a_cell_that_forgets_nothing_follows_onnxruntime_for_long(lab: Any) -> None:
    """A gate of 8 bits is 255/256 at most: a cell would be back to nothing after 500 steps."""
    cell = _Keeping()
    model, outputs, states = cell.build(lab)
    artifact = lab.save(model, *outputs)
    frames = [frame + np.float32(0.5) for frame in _frames(_LONG, artifact)]
    fed, _ = _float_steps(artifact.path, states, frames)
    quantized = lab.quantize(artifact, fed[::8], states=[state.to_dict() for state in states])
    _, found = _float_steps(quantized.path, states, frames)
    expected = cell.in_onnxruntime(frames)
    assert np.abs(expected[1]).max() > 8
    for one, other in zip(expected, zip(*found, strict=True), strict=True):
        assert lab.sqnr(one, np.stack(other)) > 22
        last = slice(3 * _LONG // 4, None)
        assert lab.sqnr(one[last], np.stack(other)[last]) > 22


def test_a_state_that_moves_slowly_is_not_stuck(lab: Any) -> None:
    """``h + z (n - h)`` with z near zero: each step is less than 8 bits tell apart."""
    model = lab.model()
    x, h = model.input(1, 4), model.input(1, _WIDTH)
    weight, _ = _weight(model, _WIDTH, 4, 0)
    gate = model.op("FULLY_CONNECTED", x, weight, model.constant(np.full(_WIDTH, -6.0)))
    new = model.op("TANH", _dense(model, x, 4, 1))
    step = model.op("MUL", model.op("LOGISTIC", gate), model.op("SUB", new, h))
    after = model.op("ADD", h, step)
    artifact = lab.save(model, _dense(model, after, _WIDTH, 8), after)
    states = [State("x1", "y1", "")]
    frames = [frame + np.float32(0.7) for frame in _frames(_LONG, artifact)]
    fed, expected = _float_steps(artifact.path, states, frames)
    quantized = lab.quantize(artifact, fed[::8], states=[state.to_dict() for state in states])
    _, found = _float_steps(quantized.path, states, frames)
    one, other = (np.stack([outputs[1] for outputs in rows]) for rows in (expected, found))
    assert lab.sqnr(one, other) > 25


def _without_mixing(lab: Any, artifact: Artifact, states: Sequence[State]) -> Artifact:
    """Quantize as for a target that takes 8 bits only, which is said."""
    fed, _ = _float_steps(artifact.path, states, _frames(_STEPS, artifact))
    answer = quantize(
        artifact.to_dict(),
        str(lab.folder / "narrow.tflite"),
        "int8",
        samples=lab.samples(artifact, fed),
        mixed=False,
        states=[state.to_dict() for state in states],
    )
    assert any("8 bits are too few" in note for note in answer["notes"])
    return Artifact.from_dict(answer)
