"""Which outputs are rows that an operator chose, on graphs as text."""

from __future__ import annotations

import onnx
import pytest

from edgeconv.convert.onnx.facts import facts_of
from edgeconv.convert.onnx.rows import row_sets

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
K = "k = Constant<value = int64[1] {5}>()\n"


def sets(body: str, outputs: str, inputs: str) -> list[tuple[str, dict[str, int]]]:
    text = f"{HEAD}g ({inputs}) => ({outputs}) {{\n{K}{body}\n}}"
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), data_prop=True)
    onnx.checker.check_model(model)
    return [(item.chosen_by, dict(item.axes)) for item in row_sets(facts_of(model.graph))]


def test_what_is_gathered_by_the_same_indices_is_one_set() -> None:
    body = """
    v, i = TopK<axis=1>(s, k)
    label = GatherElements<axis=1>(c, i)
    last = Constant<value = int64[1] {-1}>()
    j = Unsqueeze(i, last)
    shape = Constant<value = int64[3] {1, 5, 4}>()
    e = Expand(j, shape)
    box = GatherElements<axis=1>(b, e)
    """
    found = sets(
        body,
        "float[1,5] v, int64[1,5] label, float[1,5,4] box",
        "float[1,20] s, int64[1,20] c, float[1,20,4] b",
    )
    assert found == [("TopK", {"v": 1, "label": 1, "box": 1})]


def test_rows_joined_with_their_scores_and_classes() -> None:
    body = """
    flat = Constant<value = int64[2] {1, -1}>()
    all = Reshape(s, flat)
    v, i = TopK<axis=1>(all, k)
    n = Constant<value = int64 {7}>()
    row = Div(i, n)
    cls = Mod(i, n)
    zero = Constant<value = int64[1] {0}>()
    one = Constant<value = int64[1] {1}>()
    last = Constant<value = int64[1] {-1}>()
    r = Squeeze(row, zero)
    box = Gather<axis=1>(b, r)
    vv = Unsqueeze(v, last)
    f = Cast<to=1>(cls)
    cc = Unsqueeze(f, last)
    y = Concat<axis=2>(box, vv, cc)
    t = Transpose<perm=[0,2,1]>(y)
    """
    found = sets(body, "float[1,5,6] y, float[1,6,5] t", "float[1,20,7] s, float[1,20,4] b")
    assert found == [("TopK", {"y": 1, "t": 2})]


def test_the_last_operator_that_chose_counts() -> None:
    body = """
    v, i = TopK<axis=1>(s, k)
    two = Constant<value = int64[1] {2}>()
    w, j = TopK<axis=1>(v, two)
    y = GatherElements<axis=1>(c, j)
    """
    found = sets(body, "float[1,5] v, float[1,2] w, float[1,2] y", "float[1,20] s, float[1,20] c")
    assert found == [("TopK", {"v": 1}), ("TopK", {"w": 1, "y": 1})]


def test_a_decoder_with_attention_keeps_the_set() -> None:
    body = """
    v, i = TopK<axis=1>(s, k)
    zero = Constant<value = int64[1] {0}>()
    r = Squeeze(i, zero)
    q = Gather<axis=1>(m, r)
    heads = Constant<value = int64[4] {0, 0, 2, 4}>()
    qh = Reshape(q, heads)
    qt = Transpose<perm=[0,2,1,3]>(qh)
    kt = Transpose<perm=[0,2,3,1]>(qh)
    a = MatMul(qt, kt)
    p = Softmax<axis=-1>(a)
    o = MatMul(p, qt)
    b = Transpose<perm=[0,2,1,3]>(o)
    joined = Constant<value = int64[3] {0, 0, 8}>()
    f = Reshape(b, joined)
    g = Add(f, q)
    n = LayerNormalization<axis=-1>(g, scale, bias)
    y = MatMul(n, w)
    """
    found = sets(
        body,
        "float[1,5,3] y",
        "float[1,20] s, float[1,20,8] m, float[8] scale, float[8] bias, float[8,3] w",
    )
    assert found == [("TopK", {"y": 1})]


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        ("y = Add(v, p)", "1,5"),
        ("y = MatMul(v, w)", "1,3"),
        ("y = Slice(v, one, two, one)", "1,2"),
        ("y = Concat<axis=1>(v, p)", "1,10"),
        ("y = CumSum(v, a)", "1,5"),
    ],
)  # fmt: skip
def test_what_depends_on_the_order_is_no_set(line: str, shape: str) -> None:
    body = f"""
    v, i = TopK<axis=1>(s, k)
    a = Constant<value = int64 {{1}}>()
    one = Constant<value = int64[1] {{1}}>()
    two = Constant<value = int64[1] {{3}}>()
    {line}
    """
    inputs = "float[1,20] s, float[1,5] p, float[5,3] w"
    assert sets(body, f"float[{shape}] y", inputs) == []


def test_models_that_choose_nothing_have_no_sets() -> None:
    assert sets("y = Relu(s)", "float[1,20] y", "float[1,20] s") == []


def test_rows_of_non_max_suppression() -> None:
    body = """
    n = NonMaxSuppression(b, s, k)
    y = Identity(n)
    """
    found = sets(body, "int64[N,3] y", "float[1,20,4] b, float[1,1,20] s")
    assert found == [("NonMaxSuppression", {"y": 0})]
