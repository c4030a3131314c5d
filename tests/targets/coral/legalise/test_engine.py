"""What is cut off, what is refused, and what is left as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Artifact
from edgeconv.core.errors import ConversionError, UsageError
from edgeconv.targets.coral.legalise.engine import legalise
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_WINDOW = {"strideH": 1, "strideW": 1}


def _detector(lab: Any) -> Artifact:
    """Return a model of x0, x1: y0 = exp(conv(x0)) + x1, y1 = logistic(conv(x0))."""
    model = lab.model()
    x, anchors = model.input(1, 4, 4, 3), model.input(1, 4, 4, 3)
    weight = np.random.default_rng(1).normal(size=(3, 1, 1, 3))
    raw = model.op("CONV_2D", x, model.constant(weight), model.constant([0.1, 0, 0]), **_WINDOW)
    model.graph.tensors[raw].name = "head/Conv2D;head"
    boxes = model.op("EXP", raw)
    model.graph.tensors[boxes].name = "exp"
    artifact: Artifact = lab.save(model, model.op("ADD", boxes, anchors), model.op("LOGISTIC", raw))
    return artifact


def _legalised(model: Artifact, lab: Any, **options: Any) -> tuple[Artifact, dict[str, Any]]:
    answer = legalise(model.to_dict(), str(lab.folder / "m_legalised_fp32.tflite"), **options)
    return Artifact.from_dict(answer["artifact"]), answer


def _operators(path: Path) -> list[str]:
    graph = Graph(tflite.load(path))
    return [graph.op(operator) for operator in graph.operators]


@pytest.mark.parametrize("cut", [["auto"], ["head"]])
def test_the_parts_together_compute_what_the_whole_did(lab: Any, cut: list[str]) -> None:
    whole = _detector(lab)
    head, answer = _legalised(whole, lab, cut=cut)
    assert head.tail is not None
    assert head.tail.path.name == "m_tail.tflite"
    assert "EXP" in _operators(head.tail.path)
    assert "CONV_2D" not in _operators(head.tail.path)
    assert "1 x EXP" in answer["notes"][0]
    assert [spec.name for spec in head.results] == ["y0", "y1"]
    rng = np.random.default_rng(2)
    feeds = {s.name: rng.normal(size=s.shape).astype(np.float32) for s in whole.inputs}  # type: ignore[arg-type]
    expected = dict(zip(["y0", "y1"], lab.run(whole.path, [list(feeds.values())]), strict=True))
    found = dict(feeds)
    for part in (head, head.tail):
        results = lab.run(part.path, [[found[spec.name] for spec in part.inputs]])
        found |= {s.name: array[0] for s, array in zip(part.outputs, results, strict=True)}
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array[0], rtol=1e-5, atol=1e-6)


def test_only_what_is_beyond_the_cut_goes(lab: Any) -> None:
    head, _ = _legalised(_detector(lab), lab, cut=["auto"])
    assert _operators(head.path) == ["CONV_2D", "LOGISTIC"]
    assert head.tail is not None
    assert _operators(head.tail.path) == ["EXP", "ADD"]
    assert [spec.name for spec in head.tail.inputs] == ["head", "x1"]


def test_names_that_do_not_exist_are_refused_with_close_ones(lab: Any) -> None:
    with pytest.raises(UsageError, match=r"--cut heads is not in the model(.|\n)*head"):
        _legalised(_detector(lab), lab, cut=["heads"])


def test_cuts_that_cut_nothing_or_everything_are_refused(lab: Any) -> None:
    with pytest.raises(UsageError, match="cuts nothing off"):
        _legalised(_detector(lab), lab, cut=["y0"])
    model = lab.model()
    artifact = lab.save(model, model.op("EXP", model.input(1, 4)))
    with pytest.raises(UsageError, match="leaves nothing for the Edge TPU"):
        _legalised(artifact, lab, cut=["auto"])


def test_a_model_without_such_an_end_is_left_whole(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, model.op("RELU", model.input(1, 4)))
    whole, answer = _legalised(artifact, lab, cut=["auto"])
    assert whole.tail is None
    assert "nothing was cut off" in answer["notes"][0]


def test_without_permission_an_approximation_is_not_made(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, model.op("GELU", model.input(1, 4)))
    after, answer = _legalised(artifact, lab)
    assert _operators(after.path) == ["GELU"]
    assert [entry["name"] for entry in answer["refused"]] == ["gelu"]
    assert not answer["applied"]


def test_versions_are_the_lowest_that_express_each_operator(lab: Any) -> None:
    model = lab.model()
    x = model.input(1, 4, 4, 4)
    kernels = [model.constant(np.ones((4, 1, 1, width))) for width in (4, 2)]
    bias = model.constant(np.zeros(4))
    for kernel in kernels:
        x = model.op("CONV_2D", x, kernel, bias, version=6, **_WINDOW)
    filters = model.constant(np.ones((1, 2, 2, 4)))
    wide = {**_WINDOW, "depthMultiplier": 1, "dilationHFactor": 2, "dilationWFactor": 2}
    x = model.op("DEPTHWISE_CONV_2D", x, filters, bias, version=4, **wide)
    size = model.constant([4, 4], "int32")
    x = model.op("RESIZE_BILINEAR", x, size, halfPixelCenters=True, version=3)
    y = model.op("RESIZE_NEAREST_NEIGHBOR", x, size, version=3)
    after, _ = _legalised(lab.save(model, y), lab)
    graph = Graph(tflite.load(after.path))
    versions = {(graph.op(operator), graph.version(operator)) for operator in graph.operators}
    assert versions == {
        ("CONV_2D", 1),
        ("STRIDED_SLICE", 1),
        ("CONCATENATION", 1),
        ("DEPTHWISE_CONV_2D", 2),
        ("RESIZE_BILINEAR", 3),
        ("RESIZE_NEAREST_NEIGHBOR", 1),
    }


def test_the_first_dimension_of_a_state_is_no_batch(lab: Any) -> None:
    model = lab.model()
    x, state = model.input(1, 4, 4, 3), model.input(2, 4, 4, 3)
    after = model.op("ADD", state, x)
    artifact = lab.save(model, model.op("RELU", x), after)
    with pytest.raises(ConversionError, match="input x1 has a batch of 2") as refused:
        _legalised(artifact, lab)
    assert "--state x1=OUTPUT" in refused.value.hint
    answer = legalise(artifact.to_dict(), str(lab.folder / "out.tflite"), states=["x1"])
    assert [spec["shape"] for spec in answer["artifact"]["inputs"]][1] == [2, 4, 4, 3]


def test_a_batch_is_refused(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, model.op("RELU", model.input(2, 4, 4, 3)))
    with pytest.raises(ConversionError, match="input x0 has a batch of 2"):
        _legalised(artifact, lab)
