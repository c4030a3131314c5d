"""ONNX's backend node tests that concern an inference compiler with static shapes.

The installed ``onnx`` package generates them. Taken are the cases whose inputs and outputs are
plain tensors of float32, uint8, int8, int32, int64 or bool with static shapes; left out are
sequence, optional, string, training, random and control-flow operators.

Inputs that decide a shape or the form of an operator (the ``shape`` of Reshape, the ``axes`` of a
reduction, ...) become initializers holding the case's own values: exporters write them so, and no
compiler with static shapes can take them at run time. `STRUCTURAL` lists them. The cases as they
are, with all their inputs, are there too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

ELEMENT_TYPES = frozenset(
    getattr(onnx.TensorProto, name) for name in ("FLOAT", "UINT8", "INT8", "INT32", "INT64", "BOOL")
)
CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
TRAINING = frozenset({"Adagrad", "Adam", "Gradient", "Momentum"})
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike"}
)  # fmt: skip

STRUCTURAL: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CumProd": (1,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "BlackmanWindow": (0,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "NonMaxSuppression": (2, 3, 4),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "ReduceL1": (1,),
    "ReduceL2": (1,),
    "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "ReduceSumSquare": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}


@dataclass(frozen=True)
class Case:
    """One node test.

    Attributes:
        name: Its name in ONNX, ``test_abs``.
        op: The operator that it is about.
        model: The model; structural inputs are initializers unless it is to be as it is.
        inputs: Values of the remaining inputs, by name.
        outputs: Expected values, by name.
    """

    name: str
    op: str
    model: onnx.ModelProto
    inputs: dict[str, npt.NDArray[Any]]
    outputs: dict[str, npt.NDArray[Any]]


def cases(*, as_they_are: bool = False) -> list[Case]:
    """Return every case in scope, sorted by name.

    Args:
        as_they_are: Whether inputs that decide shapes stay inputs.
    """
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    return sorted(
        (
            _case(test, *pair, as_they_are=as_they_are)
            for test in collected
            if _in_scope(test)
            for pair in (test.data_sets or ())[:1]
        ),
        key=lambda case: case.name,
    )


def _in_scope(test: Any) -> bool:
    graph = test.model.graph
    nodes = list(_nodes(graph))
    if any(node.op_type in CONTROL_FLOW | TRAINING | RANDOM for node in nodes):
        return False
    if any(_is_training(node) for node in nodes) or "train" in test.name:
        return False
    return all(_is_plain(value) for value in (*graph.input, *graph.output))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _is_training(node: onnx.NodeProto) -> bool:
    return any(attr.name == "training_mode" and attr.i for attr in node.attribute)


def _is_plain(value: onnx.ValueInfoProto) -> bool:
    if value.type.WhichOneof("value") != "tensor_type":
        return False
    tensor = value.type.tensor_type
    static = tensor.HasField("shape") and all(
        dimension.WhichOneof("value") == "dim_value" for dimension in tensor.shape.dim
    )
    return static and tensor.elem_type in ELEMENT_TYPES


def _case(test: Any, inputs: Any, outputs: Any, *, as_they_are: bool) -> Case:
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    graph = model.graph
    names = [value.name for value in graph.input]
    feeds = dict(zip(names, map(np.asarray, inputs), strict=True))
    frozen = set() if as_they_are else _structural(graph, set(names))
    for name in frozen:
        graph.initializer.append(onnx.numpy_helper.from_array(feeds.pop(name), name))
    kept = [value for value in graph.input if value.name not in frozen]
    del graph.input[:]
    graph.input.extend(kept)
    results = dict(zip([v.name for v in graph.output], map(np.asarray, outputs), strict=True))
    op = max((node.op_type for node in graph.node), key=lambda kind: kind != "Constant")
    return Case(test.name, op, model, feeds, results)


def _structural(graph: onnx.GraphProto, names: set[str]) -> set[str]:
    return {
        node.input[index]
        for node in graph.node
        for index in STRUCTURAL.get(node.op_type, ())
        if index < len(node.input) and node.input[index] in names
    }
