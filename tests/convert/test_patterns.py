"""What becomes of the patterns that networks are written in, operator by operator.

The table in docs/reference/patterns.md is made of `PATTERNS`; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

HEAD = "| pattern | by | operators |\n|---|---|---|"


@dataclass(frozen=True)
class Pattern:
    """A pattern as an exporter writes it.

    Attributes:
        by: The rewrite, or the translation, that knows it.
        graph: The ONNX graph.
        operators: The TFLite operators, in order.
    """

    by: str
    graph: str
    operators: str

    def row(self, name: str) -> str:
        """Return its row of the table."""
        parts = [(kind, len(list(run))) for kind, run in groupby(self.operators.split())]
        cells = [kind if count == 1 else f"{count} {kind}" for kind, count in parts]
        return f"| {name} | `{self.by}` | {', '.join(cells)} |"


IMAGE = "g (float[1,4,6,6] x) => (float[1,4,6,6] y)"
ROWS = "g (float[2,5,8] x) => (float[2,5,8] y)"
SCALE = "float[8] w = {1.5, 2., 3., 4., 5., 6., 7., 8.}"
RESIZE = """g (float[1,2,4,4] x) => (float[1,2,8,8] y) <float[4] s = {{1., 1., 2., 2.}}> {{
    y = Resize<mode = "{mode}", coordinate_transformation_mode = "{transform}",
               nearest_mode = "{rounding}">(x, , s) }}"""
NORM = "MEAN SUB SQUARED_DIFFERENCE MEAN ADD RSQRT MUL"

PATTERNS = {
    "SiLU": Pattern("Sigmoid, Mul", f"{IMAGE} {{ s = Sigmoid(x) y = Mul(x, s) }}", "LOGISTIC MUL"),
    "GELU, erf": Pattern(
        "fuse_gelu",
        f"""{IMAGE} <float r = {{1.4142135}}, float one = {{1.}}, float half = {{0.5}}> {{
        d = Div(x, r) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half) }}""",
        "GELU",
    ),
    "GELU, tanh": Pattern(
        "fuse_gelu",
        f"""{IMAGE} <float c = {{3.}}, float k = {{0.044715}}, float r = {{0.79788456}},
        float one = {{1.}}, float half = {{0.5}}> {{
        p = Pow(x, c) q = Mul(k, p) s = Add(x, q) i = Mul(r, s) t = Tanh(i)
        a = Add(t, one) h = Mul(half, x) y = Mul(h, a) }}""",
        "GELU",
    ),
    "HardSwish": Pattern(
        "fuse_hard_swish",
        f"""{IMAGE} <float three = {{3.}}, float zero = {{0.}}, float six = {{6.}}> {{
        a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six) }}""",
        "HARD_SWISH",
    ),
    "LayerNorm": Pattern(
        "LayerNormalization",
        f"{ROWS} <{SCALE}> {{ y = LayerNormalization(x, w, w) }}",
        f"{NORM} MUL ADD",
    ),
    "LayerNorm, written out": Pattern(
        "fuse_rsqrt",
        f"""{ROWS} <{SCALE}, int64[1] last = {{-1}}, float two = {{2.}}, float e = {{1e-5}}> {{
        m = ReduceMean(x, last) c = Sub(x, m) p = Pow(c, two) v = ReduceMean(p, last)
        a = Add(v, e) r = Sqrt(a) n = Div(c, r) s = Mul(n, w) y = Add(s, w) }}""",
        f"{NORM} MUL ADD",
    ),
    "RMSNorm, written out": Pattern(
        "fuse_rsqrt",
        f"""{ROWS} <{SCALE}, int64[1] last = {{-1}}, float two = {{2.}}, float e = {{1e-6}}> {{
        p = Pow(x, two) v = ReduceMean(p, last) a = Add(v, e) r = Sqrt(a) i = Reciprocal(r)
        n = Mul(x, i) y = Mul(n, w) }}""",
        "SQUARE MEAN ADD RSQRT MUL MUL",
    ),
    "GroupNorm": Pattern(
        "GroupNormalization",
        """g (float[1,64,6,6] x) => (float[1,64,6,6] y) <int64[1] n = {64}> {
        one = ConstantOfShape<value = float[1] {1.5}>(n)
        y = GroupNormalization<num_groups = 2>(x, one, one) }""",
        f"RESHAPE {NORM} MUL ADD RESHAPE",
    ),
    "attention": Pattern(
        "fold_scale, Softmax, MatMul",
        """g (float[1,2,5,8] q, float[1,2,5,8] k, float[1,2,5,8] v) => (float[1,2,5,8] y)
        <float s = {0.6}> { t = Transpose<perm = [0, 1, 3, 2]>(k) a = Mul(q, s) b = Mul(t, s)
        m = MatMul(a, b) p = Softmax(m) y = MatMul(p, v) }""",
        "MUL BATCH_MATMUL SOFTMAX BATCH_MATMUL",
    ),
    "queries, keys and values": Pattern(
        "materialize_shared, merge_slices",
        """g (float[1,5,24] x) => (float[1,2,5,5] y, float[1,2,5,4] z)
        <int64[5] five = {1, 5, 3, 2, 4}, int64 i = {0}, int64 j = {1}, int64 k = {2}> {
        r = Reshape(x, five) t = Transpose<perm = [2, 0, 3, 1, 4]>(r)
        a = Gather(t, i) b = Gather(t, j) c = Gather(t, k)
        u = Transpose<perm = [0, 1, 3, 2]>(b) m = MatMul(a, u) y = Softmax(m) z = MatMul(y, c) }""",
        "RESHAPE TRANSPOSE SPLIT BATCH_MATMUL SOFTMAX RESHAPE BATCH_MATMUL RESHAPE",
    ),
    "PixelShuffle": Pattern(
        "fuse_depth_to_space, fold_channel_order",
        """g (float[1,1,4,4] x) => (float[1,1,8,8] y)
        <float[4,1,1,1] w = {1., 2., 3., 4.}, int64[6] six = {1, 1, 2, 2, 4, 4},
         int64[4] four = {1, 1, 8, 8}> { c = Conv(x, w) r = Reshape(c, six)
        t = Transpose<perm = [0, 1, 4, 2, 5, 3]>(r) y = Reshape(t, four) }""",
        "CONV_2D DEPTH_TO_SPACE",
    ),
    "PixelUnshuffle": Pattern(
        "fuse_depth_to_space",
        """g (float[1,1,8,8] x) => (float[1,4,4,4] y)
        <int64[6] six = {1, 1, 4, 2, 4, 2}, int64[4] four = {1, 4, 4, 4}> { r = Reshape(x, six)
        t = Transpose<perm = [0, 1, 3, 5, 2, 4]>(r) m = Reshape(t, four) y = Relu(m) }""",
        "SPACE_TO_DEPTH RELU",
    ),
    "channel shuffle": Pattern(
        "route_channels",
        """g (float[1,2,4,4] x) => (float[1,1,4,4] y)
        <float[4,2,1,1] w = {1., 2., 3., 4., 5., 6., 7., 8.}, float[1,4,1,1] v = {1., 2., 3., 4.},
         int64[5] five = {1, 2, 2, 4, 4}, int64[4] four = {1, 4, 4, 4}> { c = Conv(x, w)
        r = Reshape(c, five) t = Transpose<perm = [0, 2, 1, 3, 4]>(r) m = Reshape(t, four)
        y = Conv(m, v) }""",
        "CONV_2D CONV_2D",
    ),
    "L2 normalise": Pattern(
        "fuse_l2_normalize",
        """g (float[2,8] x) => (float[2,8] y) <float e = {1e-12}, int64[1] last = {-1},
         int64[2] whole = {2, 8}> { n = ReduceL2(x, last) c = Clip(n, e) b = Expand(c, whole)
        y = Div(x, b) }""",
        "L2_NORMALIZATION",
    ),
    "Conv1d": Pattern(
        "Conv",
        """g (float[1,2,8] x) => (float[1,1,8] y) <float[1,2,1] w = {1., 2.}> { a = Conv(x, w)
        y = Relu(a) }""",
        "RESHAPE TRANSPOSE RESHAPE CONV_2D RESHAPE",
    ),
    "LSTM, one step": Pattern(
        "LSTM",
        """g (float[1,1,2] x) => (float[1,1,1,2] y) <float[1,8,2] w = {1., 2., 3., 4., 5., 6., 7.,
        8., 1., 2., 3., 4., 5., 6., 7., 8.}> { y = LSTM<hidden_size = 2>(x, w, w) }""",
        "FULLY_CONNECTED UNPACK SPLIT_V LOGISTIC TANH SPLIT MUL TANH MUL RESHAPE",
    ),
    "GRU, one step": Pattern(
        "GRU",
        """g (float[1,1,2] x) => (float[1,1,1,2] y) <float[1,6,2] w = {1., 2., 3., 4., 5., 6.,
        1., 2., 3., 4., 5., 6.}> { y = GRU<hidden_size = 2, linear_before_reset = 1>(x, w, w) }""",
        "FULLY_CONNECTED SPLIT_V RESHAPE UNPACK LOGISTIC RESHAPE UNPACK TANH SPLIT MUL SUB RESHAPE",
    ),
    "NMS": Pattern(
        "NonMaxSuppression",
        """g (float[1,6,4] x, float[1,1,6] s) => (int64[n,3] y) <int64 m = {3}, float t = {0.5}> {
        y = NonMaxSuppression(x, s, m, t) }""",
        "STRIDED_SLICE STRIDED_SLICE NON_MAX_SUPPRESSION_V4 CAST RESHAPE RESHAPE "
        "STRIDED_SLICE CONCATENATION STRIDED_SLICE",
    ),
} | {
    f"resize, {mode}, {transform}": Pattern(
        "Resize", RESIZE.format(mode=mode, transform=transform, rounding=rounding), operator
    )
    for mode, transform, rounding, operator in [
        ("linear", "half_pixel", "floor", "RESIZE_BILINEAR"),
        ("linear", "pytorch_half_pixel", "floor", "RESIZE_BILINEAR"),
        ("linear", "align_corners", "floor", "RESIZE_BILINEAR"),
        ("linear", "asymmetric", "floor", "RESIZE_BILINEAR"),
        ("cubic", "half_pixel", "floor", "RESHAPE BATCH_MATMUL RESHAPE BATCH_MATMUL RESHAPE"),
        ("nearest", "half_pixel", "round_prefer_floor", "RESIZE_NEAREST_NEIGHBOR"),
        ("nearest", "pytorch_half_pixel", "round_prefer_floor", "RESIZE_NEAREST_NEIGHBOR"),
        ("nearest", "align_corners", "round_prefer_floor", "RESIZE_NEAREST_NEIGHBOR"),
        ("nearest", "asymmetric", "floor", "RESIZE_NEAREST_NEIGHBOR"),
    ]
}


def table() -> str:
    """Return the table of all patterns."""
    return "\n".join([HEAD, *(pattern.row(name) for name, pattern in PATTERNS.items())])


@pytest.mark.parametrize("name", PATTERNS)
def test_it_becomes_these_operators(assert_parity: Any, name: str) -> None:
    pattern = PATTERNS[name]
    parity = assert_parity(pattern.graph, rtol=1e-4, atol=1e-5)
    assert " ".join(parity.operators) == pattern.operators


def test_the_guide_has_the_table() -> None:
    guide = Path(__file__).parents[2] / "docs" / "reference" / "patterns.md"
    assert table() in guide.read_text(), f"docs/reference/patterns.md needs this table:\n{table()}"
