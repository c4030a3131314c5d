"""Which outputs are no class scores, on graphs as text; in doubt an output is."""

from __future__ import annotations

import onnx
import pytest

from edgeconv.convert.onnx.facts import Facts, facts_of
from edgeconv.convert.onnx.scores import labels, no_scores, single_rows

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'


def facts(body: str, outputs: str) -> Facts:
    inputs = "float[1,8] x, float[1,8] h, float[8,8] w"
    text = f"{HEAD}g ({inputs}) => ({outputs}) {{\nl = MatMul(x, w)\n{body}\n}}"
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), data_prop=True)
    onnx.checker.check_model(model)
    return facts_of(model.graph)


def found(body: str, outputs: str = "float[1,8] y") -> dict[str, str]:
    return no_scores(facts(body, outputs))


SCORES = {
    "linear": "y = Identity(l)",
    "softmax": "y = Softmax(l)",
    "sigmoid": "y = Sigmoid(l)",
    "activation": "y = Relu(l)",
    "temperature": "k = Constant<value = float {14.3}>()\ny = Mul(l, k)",
    "residual": "y = Add(l, x)",
    "softmax written out": """e = Exp(l)
        a = Constant<value = int64[1] {1}>()
        s = ReduceSum(e, a)
        y = Div(e, s)""",
    "gated by a value": "y = Mul(l, h)",
    "summed": """a = Constant<value = int64[1] {1}>()
        s = ReduceSum(x, a)
        y = Div(x, s)""",
    "an input moved": "y = Identity(x)",
}

OTHERS = {
    "actions": ("t = Tanh(l)\nk = Constant<value = float {2.0}>()\ny = Mul(t, k)", "Tanh"),
    "embedding": (
        """a = Constant<value = int64[1] {1}>()
        n = ReduceL2(l, a)
        e = Constant<value = float {0.000001}>()
        m = Max(n, e)
        y = Div(l, m)""",
        "norm",
    ),
    "embedding, written out": (
        """a = Constant<value = int64[1] {1}>()
        q = Mul(l, l)
        s = ReduceSum(q, a)
        r = Sqrt(s)
        y = Div(l, r)""",
        "norm",
    ),
    "layer norm": (
        """k = Constant<value = float[8] {1,1,1,1,1,1,1,1}>()
        y = LayerNormalization(l, k)""",
        "LayerNormalization",
    ),
    "fractions": ("f = Floor(x)\ny = Sub(x, f)", "without a layer"),
    "chosen elements": (
        "c = Greater(x, h)\nw2 = Where(c, x, h)\nr = Round(w2)\ny = Add(r, h)",
        "without a layer",
    ),
    "hidden state of an LSTM": ("o = Sigmoid(l)\nc = Tanh(h)\ny = Mul(o, c)", "gate"),
    "cell state of an LSTM": (
        "f = Sigmoid(l)\nc = Tanh(x)\na = Mul(f, h)\nb = Mul(f, c)\ny = Add(a, b)",
        "gate",
    ),
    "state of a GRU": (
        "z = Sigmoid(l)\nn = Tanh(x)\nd = Sub(h, n)\na = Mul(z, d)\ny = Add(n, a)",
        "gate",
    ),
}


@pytest.mark.parametrize("body", SCORES.values(), ids=SCORES)
def test_in_doubt_an_output_is_scores(body: str) -> None:
    assert found(body) == {}


@pytest.mark.parametrize(("body", "why"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_scores(body: str, why: str) -> None:
    assert why in found(body)["y"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Sigmoid(l)", ["y"]),
        ("s = HardSigmoid(l)\nk = Constant<value = float {2.0}>()\ny = Mul(s, k)", ["y"]),
        ("s = Sigmoid(l)\ny = Softmax(s)", []),
        ("s = Sigmoid(l)\ny = Mul(s, l)", []),
        ("y = Softmax(l)", []),
        ("y = Identity(l)", []),
    ],
)
def test_sigmoids_at_the_end_are_labels(body: str, expected: list[str]) -> None:
    assert list(labels(facts(body, "float[1,8] y"))) == expected


def test_linear_outputs_beside_a_softmax_are_regressions() -> None:
    body = "y = Softmax(l)\nbox = MatMul(x, w)"
    assert found(body, "float[1,8] y, float[1,8] box") == {
        "box": "it is linear, and y has the scores"
    }
    assert found("y = MatMul(h, w)\nz = MatMul(x, w)", "float[1,8] y, float[1,8] z") == {}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("8", ["y"]), ("1,1,8", ["y"]), ("1,8", []), ("2,2,2", []), ("1,8,1", [])],
)
def test_a_softmax_over_the_only_axis_is_scores_of_any_rank(
    shape: str, expected: list[str]
) -> None:
    sizes = ", ".join(shape.split(","))
    rank = len(shape.split(","))
    body = f"s = Constant<value = int64[{rank}] {{{sizes}}}>()\nr = Softmax(l)\ny = Reshape(r, s)"
    outputs = f"float[{shape}] y"
    inputs = "float[1,8] x, float[1,8] h, float[8,8] w"
    text = f"{HEAD}g ({inputs}) => ({outputs}) {{\nl = MatMul(x, w)\n{body}\n}}"
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), data_prop=True)
    assert list(single_rows(facts_of(model.graph))) == expected
