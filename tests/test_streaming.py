"""Parity over a sequence of steps."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgeconv
from edgeconv.core.artifacts import Arrays, Artifact, Format, TensorSpec
from edgeconv.core.errors import UsageError
from edgeconv.core.states import Part, State
from edgeconv.core.stream import LEAST, MOST, Stream
from edgeconv.metrics.parts import Anatomy
from edgeconv.parity.bundle import VerifyOptions, verify_bundle
from edgeconv.parity.streaming import Streaming

_STATES = (State("h", "h_out", "named"),)
_GATE = {"sqnr_db": 20.0}


def _outputs(steps: int, seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal((steps, 1, 4)).astype("f") for name in ("y", "h_out")}


def _sized(tmp_path: Path, size: int) -> Artifact:
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes(size))
    output = TensorSpec.plain("h_out", (1, 4), "float32")
    return Artifact(Format.ONNX, path, (), (output,))


def test_as_many_steps_as_are_cheap(tmp_path: Path) -> None:
    few, many = ({"x": np.zeros((count, 1))} for count in (3, 900))

    def steps(size: int, inputs: Arrays) -> int:
        stream = Stream.of(_STATES, _sized(tmp_path, size), inputs)
        assert stream is not None
        return stream.steps

    assert steps(100, few) == MOST
    assert LEAST < steps(10_000_000, few) < MOST
    assert steps(100_000_000, few) == LEAST
    assert steps(100_000_000, many) == 900
    assert Stream.of((), _sized(tmp_path, 1), few) is None


def test_errors_that_grow_are_found_at_the_end() -> None:
    reference = _outputs(100)
    streaming = Streaming(Stream(_STATES, 100), reference)
    noise = _outputs(100, seed=1)
    growing = np.linspace(0, 0.14, 100, dtype=np.float32).reshape(-1, 1, 1)
    outputs = {name: array + growing * noise[name] for name, array in reference.items()}
    found = streaming.check(lambda stream: outputs, Anatomy())
    assert found is not None and found.steps == 100
    assert all(item.sqnr_db is not None and item.sqnr_db > 20 for item in found.outputs)
    assert all(item.sqnr_db is not None and item.sqnr_db < 20 for item in found.late)
    assert found.reasons(_GATE)[0].startswith(
        "in the last 25 of 100 steps of a stream, output y: sqnr_db"
    )


def test_a_stream_ends_where_its_states_are_no_numbers() -> None:
    reference = _outputs(100)
    reference["h_out"][30:] = np.inf
    streaming = Streaming(Stream(_STATES, 100), reference)
    found = streaming.check(
        lambda stream: {n: a[: stream.steps] for n, a in reference.items()}, Anatomy()
    )
    assert found is not None and found.steps == 30


def test_a_slow_model_runs_the_least_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 100_000, 11))
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    inputs = {"h": np.zeros((1, 1, 4), "f")}
    found = Stream(_STATES, MOST).run(inputs, lambda sample: {"h_out": sample["h"] + 1})
    assert found["h_out"][:, 0, 0].tolist() == list(range(1, LEAST + 1))
    quick = iter(np.linspace(0, 1, 10_000))
    monkeypatch.setattr(time, "monotonic", lambda: next(quick))
    assert len(Stream(_STATES, MOST).run(inputs, lambda s: {"h_out": s["h"]})["h_out"]) == MOST


class Denoise(nn.Module):
    """A mask for the magnitudes of a frame, by two layers of a GRU."""

    def __init__(self, hidden: int = 24) -> None:
        super().__init__()
        self.first = nn.Linear(17, hidden)
        self.rnn = nn.GRU(hidden, hidden, 2, batch_first=True)
        self.mask = nn.Linear(hidden, 17)

    def forward(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.rnn(torch.relu(self.first(torch.log1p(frame))), state)
        return torch.sigmoid(self.mask(y)), state


def test_every_stage_runs_as_a_stream(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Denoise().eval()
    random = np.random.default_rng(0)
    samples = {
        "frame": random.gamma(1, 2, (9, 1, 1, 17)).astype("f"),
        "state": np.zeros((9, 2, 1, 24), "f"),
    }
    result = edgeconv.convert(
        module,
        tuple(torch.from_numpy(array[0]) for array in samples.values()),
        output=tmp_path / "m",
        verify_data=samples,
        layers=False,
    )
    (state,) = result.manifest["states"]
    assert state["input"] == "state" and state["output"] == result.model.outputs[1].name
    for stage in result.parity.to_dict()["stages"]:
        assert stage["status"] == "pass"
        assert stage["stream"]["steps"] == MOST
        for figures in (*stage["stream"]["outputs"], *stage["stream"]["late"]):
            assert 90 < figures["sqnr_db"] < 300
    again = verify_bundle(result.path, VerifyOptions(layers=False)).parity.to_dict()
    streams = {stage["stage"]: stage.get("stream") for stage in again["stages"]}
    assert streams.pop("onnx") is None
    assert [stream["steps"] for stream in streams.values()] == [MOST, MOST]
    assert again["verdict"] == "pass"


def test_no_states_no_stream(tmp_path: Path) -> None:
    module, inputs = Denoise().eval(), (torch.rand(1, 1, 17), torch.zeros(2, 1, 24))
    result = edgeconv.convert(module, inputs, output=tmp_path / "m", layers=False, states=["none"])
    assert result.manifest["states"] == []
    assert all("stream" not in stage for stage in result.parity.to_dict()["stages"])
    with pytest.raises(UsageError, match="states names the input frame_, which"):
        edgeconv.convert(module, inputs, output=tmp_path / "n", states=["frame_=sigmoid"])


def test_a_part_of_a_stream() -> None:
    stream = Stream((replace(_STATES[0], part=Part(0, 1, 2)),), 7)
    assert Stream.from_dict(stream.to_dict()) == stream
    assert stream.at_most(3).steps == 3
