"""Float models built operator by operator, and what LiteRT computes with a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeconv.core.artifacts import Array, Artifact, Format, TensorSpec
from edgeconv.quantize.engine import quantize
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "CONV_3D": "Conv3DOptions",
    "CONV_3D_TRANSPOSE": "Conv3DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_ALL": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "PADV2": "PadV2Options",
    "SPACE_TO_BATCH_ND": "SpaceToBatchNDOptions",
    "BATCH_TO_SPACE_ND": "BatchToSpaceNDOptions",
    "REVERSE_V2": "ReverseV2Options",
    "SELECT_V2": "SelectV2Options",
    "SPLIT_V": "SplitVOptions",
    "TOPK_V2": "TopKV2Options",
    "ADD_N": "AddNOptions",
}


class FloatModel:
    """Builds a one-subgraph model; tensors are named ``x0``, ``x1``, ..., ``t3``, ..., ``y0``."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.operatorCodes = []
        self.model.buffers = [schema.BufferT()]
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators = [], []
        subgraph.inputs, subgraph.outputs = [], []
        self.model.subgraphs = [subgraph]
        self.graph = Graph(self.model)

    def input(self, *shape: int, dtype: str = "float32") -> int:
        name = f"x{len(self.graph.inputs)}"
        self.graph.inputs.append(self.graph.add_activation(name, shape, dtype))
        return self.graph.inputs[-1]

    def constant(self, value: Any, dtype: str = "float32") -> int:
        array = np.asarray(value, dtype)
        return self.graph.add_constant(f"c{len(self.graph.tensors)}", array)

    def op(
        self, builtin: str, *inputs: int, dtypes: Sequence[str] = ("float32",), **options: Any
    ) -> Any:
        """Add an operator with empty options of its own, or those given; return its outputs."""
        count = len(self.graph.tensors)
        version = options.pop("version", 1)
        outputs = [
            self.graph.add_activation(f"t{count + offset}", (), dtype)
            for offset, dtype in enumerate(dtypes)
        ]
        camel = "".join(part.capitalize() for part in builtin.split("_")) + "Options"
        name = _OPTIONS.get(builtin, camel)
        code = getattr(schema.BuiltinOptions, name, 0)
        values = getattr(schema, f"{name}T")() if code else None
        for key, value in options.items():
            assert hasattr(values, key), (name, key)
            setattr(values, key, value)
        self.graph.operators.append(
            self.graph.operator(builtin, version, inputs, outputs, (code, values))
        )
        return outputs[0] if len(outputs) == 1 else outputs

    def save(self, path: Path, *outputs: int) -> Artifact:
        """Name the outputs, let LiteRT infer the shapes, write the model."""
        graph = self.graph
        graph.subgraph.outputs = list(outputs)
        for count, index in enumerate(outputs):
            if index not in graph.inputs:
                graph.tensors[index].name = f"y{count}"
        signature = schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.inputs = [_entry(graph, index) for index in graph.inputs]
        signature.outputs = [_entry(graph, index) for index in outputs]
        self.model.signatureDefs = [signature]
        self._infer_shapes()
        tflite.save(self.model, path)
        return describe(path)

    def _infer_shapes(self) -> None:
        interpreter = Interpreter(
            model_content=bytes(tflite.serialize(self.model)),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
        for detail in interpreter.get_tensor_details():
            if detail["index"] < len(self.graph.tensors):
                self.graph.tensors[detail["index"]].shape = detail["shape"].astype(np.int32)


def _entry(graph: Graph, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = graph.name(index), index
    return entry


def describe(path: Path) -> Artifact:
    """Describe a model file whose tensors are stored as the source has them."""
    graph = Graph(tflite.load(path))

    def specs(indices: list[int]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec.plain(graph.name(index), graph.shape(index), graph.dtype(index))
            for index in indices
        )

    return Artifact(Format.TFLITE, path, specs(graph.inputs), specs(graph.outputs))


def run(path: Path, samples: Sequence[Sequence[Array]], *, delegate: bool = True) -> list[Array]:
    """Return each output of a model over samples, stacked; with XNNPACK or without."""
    kind = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_path=str(path), experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    rows = []
    for sample in samples:
        for detail, array in zip(interpreter.get_input_details(), sample, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        details = interpreter.get_output_details()
        rows.append([interpreter.get_tensor(detail["index"]) for detail in details])
    return [np.stack(column) for column in zip(*rows, strict=True)]


def sqnr(reference: Array, found: Array) -> float:
    """Return the signal to noise ratio in dB; infinite where both are equal."""
    signal = reference.astype(np.float64)
    noise = signal - found.astype(np.float64)
    power = float((noise**2).sum())
    return float("inf") if power == 0 else 10 * float(np.log10((signal**2).sum() / power))


class Lab:
    """A place to build, quantize and run models in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    schema = schema
    run = staticmethod(run)
    sqnr = staticmethod(sqnr)

    def model(self) -> FloatModel:
        return FloatModel()

    def save(self, model: FloatModel, *outputs: int) -> Artifact:
        return model.save(self.folder / "float.tflite", *outputs)

    def samples(self, artifact: Artifact, rows: Sequence[Sequence[Array]]) -> str:
        path = self.folder / "samples.npz"
        columns = zip(*rows, strict=True)
        arrays = {
            spec.name: np.stack(column)
            for spec, column in zip(artifact.inputs, columns, strict=True)
        }
        np.savez(path, allow_pickle=False, **arrays)
        return str(path)

    def quantize(
        self,
        artifact: Artifact,
        rows: Sequence[Sequence[Array]] = (),
        mode: str = "int8",
        **more: Any,
    ) -> Artifact:
        """Quantize, with recovery unless ``disable_recovery`` says otherwise."""
        samples = self.samples(artifact, rows) if rows else None
        path = self.folder / f"{mode}.tflite"
        return Artifact.from_dict(
            quantize(artifact.to_dict(), str(path), mode, samples=samples, **more)
        )


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
