"""`--max-drop`: the fewest layers in 16 bits, on a network where it is known which are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.core.amounts import MaxDrop
from edgeconv.core.artifacts import Array, Artifact
from edgeconv.core.errors import UsageError
from edgeconv.quantize.engine import quantize
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph


def _weights(*shape: int, seed: int = 8) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


_ROWS = [[row] for row in _weights(48, 1, 16)]


def _network(lab: Any) -> Artifact:
    """Four layers; the third makes values of which one is sixty times the others, and unused."""
    m = lab.model()
    x = m.input(1, 16)
    for seed, name in enumerate(("one", "two", "spread", "last")):
        weight = _weights(16, 16, seed=seed) / 4
        if name == "spread":
            weight[:1] *= 60
        if name == "last":
            weight[:, :1] = 0
        x = m.op("FULLY_CONNECTED", x, m.constant(weight), m.constant(_weights(16, seed=seed) / 10))
        m.graph.tensors[x].name = f"net/{name}"
        if name != "last":
            x = m.op("RELU", x)
    return lab.save(m, x)  # type: ignore[no-any-return]


def _search(lab: Any, artifact: Artifact, drop: str, **more: Any) -> tuple[str, Graph, Any]:
    path = lab.folder / "dropped.tflite"
    samples = lab.samples(artifact, _ROWS)
    more.setdefault("disable_recovery", ("all",))
    answer = quantize(artifact.to_dict(), str(path), "int8", samples=samples, max_drop=drop, **more)
    return answer["notes"][-1], Graph(tflite.load(path)), answer


def _wide(graph: Graph) -> list[str]:
    return [
        graph.label(operator)
        for operator in graph.operators
        if graph.op(operator) == "FULLY_CONNECTED" and graph.dtype(operator.outputs[0]) == "int16"
    ]


def test_only_what_needs_it_is_kept_in_16_bits(lab: Any) -> None:
    artifact = _network(lab)
    expected = lab.run(artifact.path, _ROWS)[0]

    def sqnr(mode: str) -> float:
        plain = lab.quantize(artifact, _ROWS, mode, disable_recovery=("all",))
        return float(lab.sqnr(expected, lab.run(plain.path, _ROWS)[0]))

    int8, int16 = sqnr("int8"), sqnr("int16x8")
    assert int16 - int8 > 15
    note, graph, _ = _search(lab, artifact, "12dB")
    found = float(lab.sqnr(expected, lab.run(lab.folder / "dropped.tflite", _ROWS)[0]))
    assert int16 - found <= 13
    assert "net/spread" in _wide(graph)
    assert "net/one" not in _wide(graph)
    assert "keeps" in note
    assert "net/spread" in note


def _detector(lab: Any) -> Artifact:
    """Boxes in pixels, and scores that need 16 bits, side by side in one output."""
    m = lab.model()
    x = m.input(1, 16, 16)
    bias = m.constant(_weights(16) / 10)
    boxes = m.op("FULLY_CONNECTED", x, m.constant(300 * _weights(4, 16)), -1, keepNumDims=True)
    spread = _weights(16, 16, seed=2) / 4
    spread[:1] *= 60
    scores = m.op("FULLY_CONNECTED", x, m.constant(spread), bias, keepNumDims=True)
    m.graph.tensors[scores].name = "net/spread"
    last = _weights(8, 16, seed=3) / 4
    last[:, :1] = 0
    scores = m.op("FULLY_CONNECTED", scores, m.constant(last), -1, keepNumDims=True)
    scores = m.op("LOGISTIC", scores)
    return lab.save(m, m.op("CONCATENATION", boxes, scores, axis=2))  # type: ignore[no-any-return]


def test_boxes_in_pixels_do_not_hide_scores(lab: Any) -> None:
    artifact = _detector(lab)
    rows = [[row] for row in _weights(24, 1, 16, 16)]
    expected = lab.run(artifact.path, rows)[0]

    def scores(name: str) -> float:
        found = lab.run(lab.folder / name, rows)[0]
        return float(lab.sqnr(expected[..., 4:], found[..., 4:]))

    lab.quantize(artifact, rows, "int16x8", disable_recovery=("all",))
    lab.quantize(artifact, rows, disable_recovery=("all",))
    assert scores("int16x8.tflite") - scores("int8.tflite") > 6
    samples = lab.samples(artifact, rows)
    path = lab.folder / "dropped.tflite"
    answer = quantize(
        artifact.to_dict(), str(path), "int8", samples=samples, max_drop="3dB",
        disable_recovery=("all",),
    )  # fmt: skip
    assert "net/spread" in answer["notes"][-1]
    assert scores("int16x8.tflite") - scores("dropped.tflite") < 4


def test_a_drop_that_int8_holds_keeps_nothing(lab: Any) -> None:
    note, graph, _ = _search(lab, _network(lab), "90dB")
    assert "needs no layer in 16 bits" in note
    assert _wide(graph) == []


def test_no_drop_at_all_keeps_what_matters(lab: Any) -> None:
    note, graph, _ = _search(lab, _network(lab), "0dB")
    assert len(_wide(graph)) >= 3
    assert "become 0.0 dB" in note or "become -" in note


def test_points_count_the_top_class(lab: Any) -> None:
    artifact = _network(lab)
    expected = lab.run(artifact.path, _ROWS)[0]
    note, graph, _ = _search(lab, artifact, "0%")
    found = lab.run(lab.folder / "dropped.tflite", _ROWS)[0]
    agreement = np.mean(found.argmax(-1) == expected.argmax(-1))
    int8 = lab.run(lab.quantize(artifact, _ROWS, disable_recovery=("all",)).path, _ROWS)[0]
    assert np.mean(int8.argmax(-1) == expected.argmax(-1)) < 1
    assert agreement == 1
    assert "points" in note
    assert 0 < len(_wide(graph)) < 4


def test_points_need_class_scores(lab: Any) -> None:
    m = lab.model()
    artifact = lab.save(m, m.op("RELU", m.input(1, 4, 4, 3)))
    rows = [[_weights(1, 4, 4, 3)] for _ in range(2)]
    with pytest.raises(UsageError, match="class scores"):
        lab.quantize(artifact, rows, max_drop="1%")


def test_a_target_that_forbids_it_is_told_what_would_be_kept(lab: Any) -> None:
    note, graph, _ = _search(lab, _network(lab), "12dB", mixed=False)
    assert "would keep" in note
    assert "net/spread" in note
    dtypes = {graph.dtype(index) for operator in graph.operators for index in operator.outputs}
    assert dtypes == {"int8", "float32"}
    assert _wide(graph) == []


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [("3dB", 3.0, "dB"), ("0.5 db", 0.5, "dB"), ("1%", 1.0, "points"), ("2points", 2.0, "points")],
)
def test_the_limit_is_read(text: str, amount: float, unit: str) -> None:
    assert MaxDrop.parse(text) == MaxDrop(amount, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["3", "dB", "-1dB", "1 percent", ""])
def test_other_limits_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="3dB"):
        MaxDrop.parse(text)
