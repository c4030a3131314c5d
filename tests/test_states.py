"""Which inputs are taken for states, and how a stream is run."""

from __future__ import annotations

import numpy as np
import pytest

from edgeconv.core.artifacts import TensorSpec
from edgeconv.core.errors import UsageError
from edgeconv.core.options import ConvertOptions
from edgeconv.core.state_search import Evidence, find_states, means_state
from edgeconv.core.states import Part, State, check_states, parse_states, unroll

_STATE = (2, 1, 8)
_X = TensorSpec.plain("x", (1, 4), "float32")
_Y = TensorSpec.plain("y", (1, 3), "float32")


def _spec(name: str, shape: tuple[int | None, ...] = _STATE, dtype: str = "float32") -> TensorSpec:
    return TensorSpec.plain(name, shape, dtype)


def _pairs(inputs: list[TensorSpec], outputs: list[TensorSpec]) -> list[tuple[str, str]]:
    return [(state.input, state.output) for state in find_states(inputs, outputs)]


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("h", "h_out"),
        ("h_in", "h_out"),
        ("hn", "hn_out"),
        ("h0", "hn"),
        ("c_0", "c_n"),
        ("h", "hn"),
        ("state", "new_state"),
        ("state_in", "state_out"),
        ("input_state", "output_state"),
        ("stateIn", "stateOut"),
        ("prev_state", "next_state"),
        ("cache_0", "cache_0_out"),
        ("conv_cache", "conv_cache_out"),
        ("att_cache", "r_att_cache"),
        ("past_key", "present_key"),
        ("past_key_values.3.key", "present.3.key"),
        ("lstm_h", "lstm_h_out"),
        ("rnn.hidden", "rnn.hidden_out"),
        ("cache.1", "new_cache.1"),
    ],
)
def test_names_that_are_a_pair(source: str, output: str) -> None:
    assert _pairs([_X, _spec(source)], [_Y, _spec(output)]) == [(source, output)]
    # The order of the outputs and others of the same shape do not matter.
    other = _spec("context")
    assert _pairs([other, _spec(source)], [_spec("features"), _spec(output)]) == [(source, output)]


def test_each_state_finds_its_own_output() -> None:
    inputs = [_X, *(_spec(f"{name}{n}_in") for n in (1, 2) for name in "hc")]
    outputs = [*(_spec(f"{name}{n}_out") for name in "ch" for n in (2, 1)), _Y]
    assert _pairs(inputs, outputs) == [
        ("h1_in", "h1_out"),
        ("c1_in", "c1_out"),
        ("h2_in", "h2_out"),
        ("c2_in", "c2_out"),
    ]


@pytest.mark.parametrize("name", ["h", "state", "conv_cache", "hidden", "mem", "rnn_state"])
def test_the_only_output_of_its_shape(name: str) -> None:
    assert _pairs([_X, _spec(name)], [_Y, _spec("getitem_1")]) == [(name, "getitem_1")]
    assert means_state(name)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        # Images that come out as images.
        ([_spec("x")], [_spec("x_out")]),
        ([_spec("noisy_in"), _X], [_spec("noisy_out")]),
        ([_spec("sample"), _X], [_spec("out_sample")]),
        ([_spec("input"), _X], [_spec("output")]),
        # Nothing else goes in.
        ([_spec("state")], [_spec("state_out")]),
        # Two that may be meant.
        ([_spec("h"), _X], [_spec("add"), _spec("mul")]),
        ([_spec("h"), _spec("x")], [_spec("add"), _Y]),
        # Another shape or dtype.
        ([_spec("past_key", (1, 2, 7)), _X], [_spec("present_key", (1, 2, 8)), _Y]),
        ([_spec("state"), _X], [_spec("state_out", dtype="int32"), _Y]),
        # Activations of transformers, and what they attend to.
        ([_spec("hidden_states"), _X], [_spec("add_3")]),
        ([_spec("memory"), _X], [_spec("layer_norm")]),
        # The output says what it is.
        ([_spec("c"), _X], [_spec("logits")]),
    ],
)
def test_what_is_no_state(inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
    assert _pairs(inputs, outputs) == []


def test_an_output_that_does_not_depend_on_the_input_is_not_its_state() -> None:
    evidence = Evidence(depends={"h_out": frozenset({"x"})})
    assert not find_states([_X, _spec("h")], [_Y, _spec("h_out")], evidence)


def test_an_open_batch_is_of_the_same_shape() -> None:
    inputs = [_spec("x", (None, 4)), _spec("h", (None, 8))]
    assert _pairs(inputs, [_spec("y", (None, 3)), _spec("h_out", (None, 8))]) == [("h", "h_out")]


def test_stated_states() -> None:
    assert parse_states(()) is None
    assert parse_states(["none"]) == ()
    assert parse_states(["a=b", "c=d[1:3]", "e=d[:,2]"]) == (
        State("a", "b", "--state"),
        State("c", "d", "--state", Part(0, 1, 3)),
        State("e", "d", "--state", Part(1, 2, 3)),
    )


@pytest.mark.parametrize(
    "text", ["a", "=b", "a=", "a=b[", "a=b[2:1]", "a=b[1:1]", "a=b[-1]", "a=b[::0:1]"]
)
def test_a_state_that_is_not_understood(text: str) -> None:
    with pytest.raises(UsageError, match="IN=OUT"):
        ConvertOptions(states=(text,))


@pytest.mark.parametrize("texts", [("a=b", "none"), ("a=b", "a=c")])
def test_states_that_contradict_each_other(texts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="states"):
        ConvertOptions(states=texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q=h_out", "the input q, which the model does not have: its inputs are x, h"),
        ("h=q", "the output q, which the model does not have: its outputs are y, h_out"),
        ("x=y", r"their shapes are \[1, 3\] and \[1, 4\]"),
        ("h=h_out[0:1]", r"their shapes are \[1, 1, 8\] and \[2, 1, 8\]"),
        ("h=h_out[1:3]", r"the output is \[2, 1, 8\]"),
        ("h=h_out[:,:,:,0:1]", r"the output is \[2, 1, 8\]"),
    ],
)
def test_a_state_that_the_model_cannot_have(text: str, message: str) -> None:
    states = parse_states([text])
    assert states is not None
    with pytest.raises(UsageError, match=message):
        check_states(states, [_X, _spec("h")], [_Y, _spec("h_out")])


def test_states_are_json() -> None:
    for state in (State("a", "b", "why"), State("a", "b", "why", Part(1, 0, 2))):
        assert State.from_dict(state.to_dict()) == state


def test_a_stream_feeds_back_what_it_returned() -> None:
    inputs = {
        "x": np.arange(3, dtype=np.float32).reshape(3, 1),
        "a": np.full((3, 1, 1), 10, np.float32),
        "b": np.full((3, 1, 1), 20, np.float32),
    }
    states = [State("a", "both", "", Part(0, 1, 2)), State("b", "both", "", Part(0, 0, 1))]

    def step(sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert sample["a"].shape == sample["b"].shape == (1, 1)
        both = np.concatenate([sample["a"] + sample["x"], sample["b"]])
        return {"y": sample["x"], "both": both}

    found = unroll(states, inputs, 5, step)
    assert found["y"].reshape(-1).tolist() == [0, 1, 2, 0, 1]
    # The sum goes into b, which goes into a.
    assert found["both"][..., 0].tolist() == [[10, 20], [21, 10], [12, 21], [21, 12], [13, 21]]
