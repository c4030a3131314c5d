"""Rows that a mask hides whole, and the questions that find them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeconv.convert.passes.mask_infinity import mask_infinity

HEAD = "g (float[2,4,6] x, bool[2,4,6] m) => (float[2,4,6] y)"
CONSTANTS = "<float low = {-inf}, float zero = {0.0}, float half = {0.5}>"
MASKS = {
    "where": "s = Where(m, low, x)",
    "added": "b = Where(m, low, zero) a = Mul(x, half) s = Add(a, b)",
    "scaled": "b = Where(m, low, x) s = Mul(b, half)",
    "kept": "n = Not(m) s = Where(n, x, low)",
    "twice": "b = Where(m, low, zero) c = Add(x, b) s = Add(c, b)",
}
QUESTIONS = {
    "nan": "p = Softmax(s) q = IsNaN(p) y = Where(q, zero, p)",
    "infinite": "q = IsInf<detect_positive = 0>(s) y = Where(q, zero, s)",
    "equal": "q = Equal(s, low) y = Where(q, half, s)",
}


def _feeds() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    hidden = rng.random((2, 4, 6)) < 0.4
    hidden[0, 1], hidden[1, 2:] = True, True
    hidden[:, 0, 0] = False
    return {"x": rng.normal(size=(2, 4, 6)).astype(np.float32), "m": hidden}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("mask", MASKS)
def test_masks_answer_what_infinity_would(assert_parity: Any, mask: str, question: str) -> None:
    assert_parity(f"{HEAD} {CONSTANTS} {{ {MASKS[mask]} {QUESTIONS[question]} }}", _feeds())


def test_a_mask_that_is_broadcast(assert_parity: Any) -> None:
    head = "g (float[2,4,6] x, bool[2,1,6] m) => (float[2,4,6] y)"
    feeds = _feeds()
    feeds["m"] = feeds["m"][:, 1:2]
    body = f"{MASKS['where']} {QUESTIONS['nan']}"
    assert_parity(f"{head} {CONSTANTS} {{ {body} }}", feeds)


def test_a_constant_mask_that_is_moved(assert_parity: Any) -> None:
    head = "g (float[2,4,6] x) => (float[2,4,6] y)"
    low, zero = "-inf", "0.0"
    rows = ", ".join([zero, low, low, low] + [low] * 4 + [zero] * 16)
    constants = f"<float[6,4] b = {{{rows}}}, float zero = {{0.0}}>"
    body = "t = Transpose(b) s = Add(x, t) p = Softmax(s) q = IsNaN(p) y = Where(q, zero, p)"
    assert_parity(f"{head} {constants} {{ {body} }}", {"x": _feeds()["x"]})


@pytest.mark.parametrize("low", ["-3.4028234e38", "-1e9"])
def test_finite_masks_hide_no_row(assert_parity: Any, low: str) -> None:
    constants = CONSTANTS.replace("-inf", low)
    assert_parity(f"{HEAD} {constants} {{ {MASKS['where']} {QUESTIONS['nan']} }}", _feeds())


def test_questions_without_a_mask_stay() -> None:
    text = f"{HEAD} {CONSTANTS} {{ p = Softmax(x) q = IsNaN(p) y = Where(q, zero, p) }}"
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]>{text}')
    assert mask_infinity(ir.from_proto(onnx.shape_inference.infer_shapes(proto)).graph) == 0
