"""Recurrent layers equal onnxruntime's in every direction and form."""

from __future__ import annotations

from typing import Any

import pytest

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DIRECTIONS = ["forward", "reverse", "bidirectional"]


def model(
    kind: str,
    attributes: str = "",
    *,
    direction: str = "forward",
    inputs: str = "x, w, r, b",
    batch_first: bool = False,
) -> str:
    gates, count = GATES[kind], 2 if direction == "bidirectional" else 1
    x = "2,5,3" if batch_first else "5,2,3"
    state = f"2,{count},4" if batch_first else f"{count},2,4"
    whole = f"2,5,{count},4" if batch_first else f"5,{count},2,4"
    c = ", float[p,q,s] yc" if kind == "LSTM" else ""
    names = "y, yh, yc" if kind == "LSTM" else "y, yh"
    layout = ", layout = 1" if batch_first else ""
    return f"""g (float[{x}] x, float[{count},{4 * gates},3] w, float[{count},{4 * gates},4] r,
        float[{count},{8 * gates}] b, float[{state}] h, float[{state}] c,
        float[{count},12] p, int32[2] lens) => (float[{whole}] y, float[{state}] yh{c}) {{
        {names} = {kind} <hidden_size = 4, direction = "{direction}"{layout}{attributes}>
        ({inputs}) }}"""


LENS = {"lens": [5, 3]}


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_directions(assert_any_layout: Any, kind: str, direction: str) -> None:
    assert_any_layout(model(kind, direction=direction), LENS, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_states_and_lengths(assert_any_layout: Any, kind: str, direction: str) -> None:
    inputs = "x, w, r, b, lens, h" + (", c" if kind == "LSTM" else "")
    text = model(kind, direction=direction, inputs=inputs)
    assert_any_layout(text, LENS, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", GATES)
def test_no_bias_and_clip(assert_any_layout: Any, kind: str) -> None:
    text = model(kind, ", clip = 0.4", inputs="x, w, r")
    assert_any_layout(text, LENS, rtol=1e-4, atol=1e-5)


def test_peepholes_and_coupled_gates(assert_any_layout: Any) -> None:
    text = model("LSTM", inputs="x, w, r, b, , h, c, p", direction="bidirectional")
    assert_any_layout(text, LENS, rtol=1e-4, atol=1e-5)
    assert_any_layout(model("LSTM", ", input_forget = 1"), LENS, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", ["x, w, r, b", "x, w, r, b, , h", "x, w, r"])
def test_reset_after_the_product(assert_any_layout: Any, inputs: str) -> None:
    text = model("GRU", ", linear_before_reset = 1", inputs=inputs)
    assert_any_layout(text, LENS, rtol=1e-4, atol=1e-5)


def test_other_activations(assert_any_layout: Any) -> None:
    text = model("LSTM", ', activations = ["HardSigmoid", "Softsign", "LeakyRelu"], '
                 "activation_alpha = [0.3, 0.1], activation_beta = [0.4]")  # fmt: skip
    assert_any_layout(text, LENS, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", GATES)
def test_batch_first(assert_any_layout: Any, kind: str) -> None:
    inputs = "x, w, r, b, , h"
    assert_any_layout(
        model(kind, inputs=inputs, batch_first=True), LENS, reference="onnx", rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", GATES)
def test_in_tflite_with_constant_weights(assert_parity: Any, kind: str) -> None:
    gates = GATES[kind]

    def values(count: int) -> str:
        return ", ".join(f"{(n * 37 % 11 - 5) / 9:.4f}" for n in range(count))

    parity = assert_parity(
        f"""g (float[1,6,3] x) => (float[1,6,4] y)
        <float[1,{4 * gates},3] w = {{{values(12 * gates)}}},
         float[1,{4 * gates},4] r = {{{values(16 * gates)}}},
         float[1,{8 * gates}] b = {{{values(8 * gates)}}}, int64[1] one = {{1}}> {{
        t = Transpose <perm = [1, 0, 2]> (x)
        s = {kind} <hidden_size = 4> (t, w, r, b)
        q = Squeeze(s, one)  y = Transpose <perm = [1, 0, 2]> (q) }}""",
        rtol=1e-4,
        atol=1e-5,
    )
    assert parity.count("FULLY_CONNECTED") <= 1 + 6 * (2 if kind == "GRU" else 1)
    assert parity.count("TRANSPOSE") == 0
