"""What the graph joins in an output, on graphs as text."""

from __future__ import annotations

import onnx
import pytest

from edgeconv.convert.onnx.facts import facts_of
from edgeconv.convert.onnx.parts import parts_of

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
WEIGHTS = (
    "wa = Constant<value = float[4,3,1,1] {0.1,0.2,0.3,0.1,0.2,0.3,0.1,0.2,0.3,0.1,0.2,0.3}>()\n"
    "wb = Constant<value = float[2,3,1,1] {0.1,0.2,0.3,0.4,0.5,0.6}>()\n"
    "wf = Concat<axis=0>(wa, wb)\n"
    f"w6 = Constant<value = float[4,6,1,1] {{{','.join(['0.5'] * 24)}}}>()\n"
)


def parts(body: str, shape: str = "1,6,8,8", inputs: str = "float[1,3,8,8] x") -> list[str]:
    """Return the parts of the output ``y`` in words."""
    text = f"{HEAD}g ({inputs}) => (float[{shape}] y) {{\n{WEIGHTS}{body}\n}}"
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), data_prop=True)
    onnx.checker.check_model(model)
    rank = len(shape.split(","))
    return [part.words(rank) for part in parts_of(facts_of(model.graph), "y")]


TWO = "a = Conv(x, wa)\nb = Conv(x, wb)\nc = Sigmoid(b)\n"

CASES = {
    "joined": (
        "y = Concat<axis=1>(a, c)",
        "1,6,8,8",
        ["channels 0 to 3 (conv)", "channels 4 to 5 (sigmoid)"],
    ),
    "an axis from the end": (
        "y = Concat<axis=-3>(c, a)",
        "1,6,8,8",
        ["channels 0 to 1 (sigmoid)", "channels 2 to 5 (conv)"],
    ),
    "reshaped": (
        """s = Constant<value = int64[3] {1, -1, 64}>()
        d = Concat<axis=1>(a, c)
        y = Reshape(d, s)""",
        "1,6,64",
        ["rows 0 to 3 (conv)", "rows 4 to 5 (sigmoid)"],
    ),
    "transposed": (
        """d = Concat<axis=1>(a, c)
        y = Transpose<perm=[0,2,3,1]>(d)""",
        "1,8,8,6",
        ["columns 0 to 3 (conv)", "columns 4 to 5 (sigmoid)"],
    ),
    "flattened": (
        """s = Constant<value = int64[2] {1, -1}>()
        d = Concat<axis=1>(a, c)
        y = Reshape(d, s)""",
        "1,384",
        ["values 0 to 255 (conv)", "values 256 to 383 (sigmoid)"],
    ),
    "interleaved": (
        """d = Transpose<perm=[0,2,3,1]>(a)
        e = Transpose<perm=[0,2,3,1]>(c)
        f = Concat<axis=3>(d, e)
        s = Constant<value = int64[2] {1, -1}>()
        y = Reshape(f, s)""",
        "1,384",
        ["values 0 to 381 (4 of every 6) (conv)", "values 4 to 383 (2 of every 6) (sigmoid)"],
    ),
    "work on each element": (
        """k = Constant<value = float {2.0}>()
        d = Concat<axis=1>(a, b)
        e = Mul(d, k)
        f = Relu(e)
        y = Cast<to=1>(f)""",
        "1,6,8,8",
        ["channels 0 to 3 (relu)", "channels 4 to 5 (relu)"],
    ),
    "nested and sliced": (
        """d = Concat<axis=1>(a, c)
        e = Concat<axis=1>(d, b)
        s = Constant<value = int64[1] {1}>()
        t = Constant<value = int64[1] {7}>()
        y = Slice(e, s, t, s)""",
        "1,6,8,8",
        ["channels 0 to 2 (conv)", "channels 3 to 4 (sigmoid)", "channel 5 (conv)"],
    ),
    "gathered": (
        """d = Concat<axis=1>(a, c)
        i = Constant<value = int64[6] {5,4,3,2,1,0}>()
        y = Gather<axis=1>(d, i)""",
        "1,6,8,8",
        ["channels 0 to 1 (sigmoid)", "channels 2 to 5 (conv)"],
    ),
    "split": (
        """s = Constant<value = int64[2] {2, 4}>()
        d = Concat<axis=1>(a, c)
        e, f = Split<axis=1>(d, s)
        y = Concat<axis=1>(f, e)""",
        "1,6,8,8",
        ["channels 0 to 1 (conv)", "channels 2 to 3 (sigmoid)", "channels 4 to 5 (conv)"],
    ),
    "stacked": (
        """o = Constant<value = int64[1] {1}>()
        d = Unsqueeze(a, o)
        k = Sigmoid(a)
        e = Unsqueeze(k, o)
        y = Concat<axis=1>(d, e)""",
        "1,2,4,8,8",
        ["axis 1, element 0 (conv)", "axis 1, element 1 (sigmoid)"],
    ),
    "written to constant places": (
        """i = Constant<value = int64[2,2] {0,0,0,1}>()
        o = Constant<value = int64[1] {0}>()
        d = Squeeze(c, o)
        y = ScatterND(a, i, d)""",
        "1,4,8,8",
        ["channels 0 to 1 (sigmoid)", "channels 2 to 3 (conv)"],
    ),
    "padded": (
        """d = Sigmoid(a)
        p = Constant<value = int64[8] {0,1,0,0,0,1,0,0}>()
        y = Pad(d, p)""",
        "1,6,8,8",
        ["channels 0 and 5 (constant)", "channels 1 to 4 (sigmoid)"],
    ),
    "padded around": (
        """d = Concat<axis=1>(a, c)
        p = Constant<value = int64[8] {0,0,1,1,0,0,1,1}>()
        y = Pad(d, p)""",
        "1,6,10,10",
        [
            "channels 0 to 3, rows 1 to 8, columns 1 to 8 (conv)",
            "channels 4 to 5, rows 1 to 8, columns 1 to 8 (sigmoid)",
        ],
    ),
    "scaled by a vector": (
        """k = Constant<value = float[4,1,1] {320, 320, 1, 1}>()
        d = Sigmoid(a)
        y = Mul(d, k)""",
        "1,4,8,8",
        ["channels 0 to 1 (sigmoid)", "channels 2 to 3 (sigmoid)"],
    ),
    "divided by a vector, and moved": (
        """k = Constant<value = float[4,1,1] {0.003, 0.003, 1, 1}>()
        d = Div(a, k)
        s = Constant<value = int64[3] {1, 4, 64}>()
        e = Reshape(d, s)
        y = Transpose<perm=[0,2,1]>(e)""",
        "1,64,4",
        ["columns 0 to 1 (conv)", "columns 2 to 3 (conv)"],
    ),
    "selected by a constant mask": (
        """m = Constant<value = bool[4,1,1] {1, 1, 0, 0}>()
        d = Sigmoid(a)
        e = Exp(a)
        y = Where(m, d, e)""",
        "1,4,8,8",
        ["channels 0 to 1 (sigmoid)", "channels 2 to 3 (exp)"],
    ),
    "one of two that are added": (
        """d = Concat<axis=1>(a, c)
        e = Sin(d)
        f = Conv(x, wf)
        y = Add(f, e)""",
        "1,6,8,8",
        ["channels 0 to 3 (sin)", "channels 4 to 5 (sigmoid)"],
    ),
}


@pytest.mark.parametrize(("body", "shape", "expected"), CASES.values(), ids=CASES)
def test_pieces_are_followed_through_what_moves_them(
    body: str, shape: str, expected: list[str]
) -> None:
    assert parts(TWO + body, shape) == expected


ONE = {
    "a copy": "y = Identity(a)",
    "strides": """k = Constant<value = float[4,1,1] {8, 16, 32, 32}>()
        y = Mul(a, k)""",
    "a layer on what is joined": """d = Concat<axis=1>(a, c)
        y = Conv(d, w6)""",
    "the rest is cut off": """d = Concat<axis=1>(a, c)
        s = Constant<value = int64[1] {0}>()
        t = Constant<value = int64[1] {4}>()
        o = Constant<value = int64[1] {1}>()
        y = Slice(d, s, t, o)""",
}


@pytest.mark.parametrize("body", ONE.values(), ids=ONE)
def test_what_is_of_one_piece_has_no_parts(body: str) -> None:
    assert parts(TWO + body, "1,4,8,8") == []


def test_levels_of_scores_are_one_piece_and_levels_of_boxes_are_not_torn_from_them() -> None:
    body = """
    small = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)
    a = Conv(x, wa)
    b = Conv(x, wb)
    c = Conv(small, wa)
    d = Conv(small, wb)
    s = Constant<value = int64[3] {1, 6, -1}>()
    e = Concat<axis=1>(a, b)
    f = Concat<axis=1>(c, d)
    g = Reshape(e, s)
    h = Reshape(f, s)
    i = Concat<axis=2>(g, h)
    n = Constant<value = int64[2] {4, 2}>()
    box, cls = Split<axis=1>(i, n)
    score = Sigmoid(cls)
    y = Concat<axis=1>(box, score)
    """
    assert parts(body, "1,6,80") == [
        "rows 0 to 3, columns 0 to 63 (conv)",
        "rows 0 to 3, columns 64 to 79 (conv)",
        "rows 4 to 5 (sigmoid)",
    ]


def test_boxes_and_scores_after_one_sigmoid_are_two_pieces() -> None:
    body = "a = Conv(x, wa)\nb = Conv(x, wb)\nc = Concat<axis=1>(a, b)\ny = Sigmoid(c)"
    assert parts(body) == ["channels 0 to 3 (sigmoid)", "channels 4 to 5 (sigmoid)"]


def test_keypoints_are_triplets() -> None:
    body = """
    k = Constant<value = int64[4] {1, 2, 3, 64}>()
    wk = Concat<axis=0>(wa, wb)
    a = Conv(x, wk)
    b = Reshape(a, k)
    n = Constant<value = int64[2] {2, 1}>()
    xy, v = Split<axis=2>(b, n)
    p = Constant<value = float {32.0}>()
    px = Mul(xy, p)
    vis = Sigmoid(v)
    c = Concat<axis=2>(px, vis)
    s = Constant<value = int64[3] {1, 6, 64}>()
    y = Reshape(c, s)
    """
    assert parts(body, "1,6,64") == [
        "rows 0 to 4 (2 of every 3) (conv)",
        "rows 2 and 5 (sigmoid)",
    ]


def test_a_piece_that_is_no_product_of_indices_leaves_the_output_whole() -> None:
    body = """
    a = Conv(x, wa)
    s = Constant<value = int64[2] {1, -1}>()
    d = Reshape(a, s)
    f = Constant<value = int64[1] {0}>()
    t = Constant<value = int64[1] {100}>()
    o = Constant<value = int64[1] {1}>()
    g = Slice(d, f, t, o)
    u = Constant<value = int64[1] {256}>()
    h = Slice(d, t, u, o)
    i = Sigmoid(g)
    j = Concat<axis=1>(i, h)
    r = Constant<value = int64[4] {1, 4, 8, 8}>()
    y = Reshape(j, r)
    """
    assert parts(body, "1,4,8,8") == []


def test_an_open_batch_is_of_one_sample() -> None:
    body = TWO + "y = Concat<axis=1>(a, c)"
    assert parts(body, "N,6,8,8", "float[N,3,8,8] x") == [
        "channels 0 to 3 (conv)",
        "channels 4 to 5 (sigmoid)",
    ]


def test_an_input_that_is_joined_is_named() -> None:
    assert parts("a = Conv(x, wa)\ny = Concat<axis=1>(x, a)", "1,7,8,8") == [
        "channels 0 to 2 (input x)",
        "channels 3 to 6 (conv)",
    ]
