"""Which ways from input to output graphs have, as exporters write them."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest
import torch
from torch import Tensor, nn

from edgeconv.convert.onnx.feedback import states_of
from edgeconv.convert.onnx.file import describe_onnx
from edgeconv.convert.saved_model.translate import translate
from edgeconv.convert.torch.export import export
from edgeconv.convert.torch.model import from_module
from edgeconv.core.artifacts import Artifact
from edgeconv.core.states import Part

_H = 6


class _Gru(nn.Module):
    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(5, _H, layers, batch_first=True), nn.Linear(_H, 5)

    def forward(self, in0: Tensor, in1: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.rnn(in0, in1)
        return self.out(y), state


class _Lstm(nn.Module):
    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, _H, layers)

    def forward(self, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.rnn(x, (a, b))
        return c, h, y.sum(dim=2)


class _Joined(nn.Module):
    """Both states of an LSTM in one tensor, as silero-vad has them."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(5, _H)

    def forward(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        h, c = self.cell(x, (s[0], s[1]))
        return h.sum(dim=1), torch.stack([h, c])


class _JoinedOutput(nn.Module):
    """Inputs of their own, and one output for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LSTM(5, _H), nn.GRU(_H, _H)

    def forward(self, x: Tensor, i: Tensor, j: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        y, (h, c) = self.first(x, (i, j))
        y, g = self.second(y, k)
        return y.mean(dim=2), torch.cat([h, g, c], dim=2)


class _Cell(nn.Module):
    """A GRU's cell, whose input has the shape of its state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(_H, _H), nn.Linear(_H, _H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(x, h)
        return torch.relu(self.out(h)), h


class _Ring(nn.Module):
    """Buffers of convolutions, all of one shape, returned in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(4, 4, 3), nn.Conv1d(4, 4, 3)

    def forward(self, x: Tensor, cache0: Tensor, cache1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = torch.cat([cache0, x], dim=2)
        b = torch.cat([cache1, torch.relu(self.first(a))], dim=2)
        return torch.relu(self.second(b)), b[:, :, 1:], a[:, :, 1:]


class _Written(nn.Module):
    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        cache = cache.clone()
        cache[:, 2] = x
        return cache.sum(dim=1), cache


class _Denoiser(nn.Module):
    """An image comes out as an image of the same size; its condition is no state."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.c = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(4, 3)

    def forward(self, image: Tensor, c: Tensor) -> Tensor:
        gain: Tensor = self.c(c)[:, :, None, None]
        return image + torch.mul(self.conv(image), gain)


def _states(module: nn.Module, *shapes: tuple[int, ...], path: Path) -> dict[str, object]:
    inputs = tuple(torch.rand(shape) for shape in shapes)
    onnx = export(from_module(module.eval(), inputs, "m"), path / "m.onnx")
    names = [spec.name for spec in onnx.outputs]
    return {state.input: (names.index(state.output), state.part) for state in states_of(onnx)}


@pytest.mark.parametrize("layers", [1, 2])
def test_layers_of_a_gru(tmp_path: Path, layers: int) -> None:
    found = _states(_Gru(layers), (1, 1, 5), (layers, 1, _H), path=tmp_path)
    assert found == {"in1": (1, None)}


@pytest.mark.parametrize("layers", [1, 2])
def test_an_lstm_that_returns_its_cell_first(tmp_path: Path, layers: int) -> None:
    state = (layers, 1, _H)
    found = _states(_Lstm(layers), (1, 1, 5), state, state, path=tmp_path)
    assert found == {"a": (1, None), "b": (0, None)}


def test_both_states_in_one_tensor(tmp_path: Path) -> None:
    assert _states(_Joined(), (1, 5), (2, 1, _H), path=tmp_path) == {"s": (1, None)}


def test_one_output_for_states_of_their_own(tmp_path: Path) -> None:
    state = (1, 1, _H)
    found = _states(_JoinedOutput(), (1, 1, 5), state, state, state, path=tmp_path)
    assert found == {
        "i": (1, Part(2, 0, _H)),
        "j": (1, Part(2, 2 * _H, 3 * _H)),
        "k": (1, Part(2, _H, 2 * _H)),
    }


def test_a_cell_whose_input_has_the_shape_of_its_state(tmp_path: Path) -> None:
    assert _states(_Cell(), (1, _H), (1, _H), path=tmp_path) == {"h": (1, None)}


def test_buffers_of_one_shape(tmp_path: Path) -> None:
    shapes = ((1, 4, 1), (1, 4, 2), (1, 4, 2))
    found = _states(_Ring(), *shapes, path=tmp_path)
    assert found == {"cache0": (2, None), "cache1": (1, None)}


def test_a_buffer_that_is_written_to(tmp_path: Path) -> None:
    assert _states(_Written(), (1, 4), (1, 3, 4), path=tmp_path) == {"cache": (1, None)}


def test_images_are_no_states(tmp_path: Path) -> None:
    assert _states(_Denoiser(), (1, 3, 8, 8), (1, 4), path=tmp_path) == {}


def test_both_ends_of_a_state_are_stored_alike(tmp_path: Path) -> None:
    """The input of a convolution is an image; what is made by MatMul is none."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,4,6,6] x, float[1,4,6,6] cache, float[6,6] m, float[4,4,3,3] w)
            => (float[1,4,4,4] y, float[1,4,6,6] cache_out)
            { y = Conv(cache, w) cache_out = MatMul(x, m) }
    """
    path = tmp_path / "m.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)), path)
    source = describe_onnx(path)
    layouts = []
    for states in ([], [["cache", "cache_out"]]):
        folder = tmp_path / f"saved_{len(states)}"
        made = Artifact.from_dict(translate(source.to_dict(), str(folder), states=states))
        specs = {spec.name: spec for spec in (*made.inputs, *made.outputs)}
        layouts.append((specs["cache"].layout, specs["cache_out"].layout))
    assert layouts == [("nhwc", "source"), ("source", "source")]
