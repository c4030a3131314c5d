"""Attention and its relatives equal ONNX's; ONNX's own node tests cover their many forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.core.errors import UnsupportedModel


def test_grouped_heads_are_not_repeated(assert_parity: Any) -> None:
    text = """g (float[2,4,3,8] q, float[2,2,5,8] k, float[2,2,5,6] v) => (float[2,4,3,6] y) {
        y = Attention(q, k, v) }"""
    parity = assert_parity(text, opset=23, reference="onnx")
    assert set(parity.operators) <= {"MUL", "RESHAPE", "BATCH_MATMUL", "SOFTMAX"}


@pytest.mark.parametrize("causal", [0, 1])
def test_packed_heads_with_a_past(assert_parity: Any, causal: int) -> None:
    text = f"""g (float[1,3,8] q, float[1,3,8] k, float[1,3,8] v, float[1,2,2,4] pk,
        float[1,2,2,4] pv) => (float[1,3,8] y, float[1,2,5,4] nk, float[1,2,5,4] nv) {{
        y, nk, nv = Attention <q_num_heads = 2, kv_num_heads = 2, is_causal = {causal},
            softcap = 2.0> (q, k, v, , pk, pv) }}"""
    assert_parity(text, opset=23, reference="onnx")


def test_a_row_that_may_see_nothing_is_zero(assert_parity: Any) -> None:
    text = """g (float[1,1,2,4] q, float[1,1,3,4] k, float[1,1,3,4] v, bool[2,3] m) =>
        (float[1,1,2,4] y) { y = Attention(q, k, v, m) }"""
    mask = [[True, False, True], [False, False, False]]
    parity = assert_parity(text, {"m": mask}, opset=23, reference="onnx")
    assert not parity.outputs["y"][0, 0, 1].any()


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(assert_parity: Any, interleaved: int) -> None:
    text = f"""g (float[1,2,3,8] x, float[10,2] c, float[10,2] s, int64[1,3] p) =>
        (float[1,2,3,8] y) {{
        y = RotaryEmbedding <interleaved = {interleaved}, rotary_embedding_dim = 4> (x, c, s, p)
        }}"""
    assert_parity(text, {"p": [[0, 4, 9]]}, opset=23, reference="onnx")


def test_causal_convolution_step_by_step(assert_parity: Any) -> None:
    text = """g (float[1,4,5] x, float[1,4,2] past) => (float[1,4,5] y, float[1,4,2] state)
        <float[4,1,3] w = {1,2,3,4,5,6,-1,-2,-3,-4,-5,-6}, float[4] b = {0.1,0.2,0.3,0.4}> {
        y, state = CausalConvWithState <activation = "silu"> (x, w, b, past) }"""
    assert_parity(text, opset=27, reference="onnx", rtol=1e-4)


def test_linear_attention(assert_parity: Any) -> None:
    text = """g (float[1,3,8] q, float[1,3,4] k, float[1,3,6] v, float[1,3,4] d, float[1,3,1] b) =>
        (float[1,3,12] y, float[1,1,4,6] state) {
        y, state = LinearAttention <q_num_heads = 2, kv_num_heads = 1> (q, k, v, , d, b) }"""
    feeds = {"d": -np.abs(np.random.default_rng(0).standard_normal((1, 3, 4)))}
    assert_parity(text, feeds, opset=27, reference="onnx", rtol=1e-4)


FLEX = """<ir_version: 13, opset_import: ["": 26, "ai.onnx.preview": 1]>
    g (float[1,4,3,8] q, float[1,2,5,8] k, float[1,2,5,6] v) =>
    (float[1,4,3,6] y) {{
        y = ai.onnx.preview.FlexAttention <
            score_mod = scores (float[1,4,3,5] s) => (float[1,4,3,5] t) {{ {body} }}
        > (q, k, v) }}"""


def test_a_subgraph_changes_the_scores(assert_parity: Any) -> None:
    body = "c = Constant <value = float {2.0}> () d = Tanh(s) t = Mul(d, c)"
    assert_parity(FLEX.format(body=body), reference="onnx")


def test_what_a_subgraph_lacks_is_named(assert_parity: Any) -> None:
    with pytest.raises(UnsupportedModel, match="subgraph needs RandomNormalLike"):
        assert_parity(FLEX.format(body="t = RandomNormalLike(s)"), reference="onnx")
