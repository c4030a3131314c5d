"""Every reader of files and answers that edgeconv has, with sound inputs to start from."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.core.artifacts import TensorSpec
from tests.deploy.answers import RAN
from tests.fuzz import mutate
from tests.fuzz.mutate import Mutation

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"
_CORAL = ROOT / "tests" / "targets" / "coral" / "data" / "split_concat"
_SPECS = (TensorSpec.plain("x", (1, 3), "float32"),)
_PHOTO = (TensorSpec.plain("x", (1, 3, 8, 8), "float32"),)


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader under test.

    Attributes:
        name: What it reads.
        suffix: How such files end.
        seeds: Makes sound inputs.
        mutations: How they are changed.
        read: Reads a file. It may raise an `EdgeconvError` and nothing else.
        native: Whether it takes long to load, or may crash.
    """

    name: str
    suffix: str
    seeds: Callable[[], list[bytes]]
    mutations: tuple[Mutation, ...]
    read: Callable[[Path], Any]
    native: bool = False


@functools.cache
def _onnx() -> list[bytes]:
    import onnx

    head = '<ir_version: 8, opset_import: ["" : 17]>'
    graphs = (
        (
            "g (float[1,3,8,8] x) => (float[1,4,8,8] y) "
            "<float[4,3,1,1] w = {1,2,3,4,5,6,7,8,9,1,2,3}> "
            "{ a = Conv(x, w) b = Relu(a) c = Sigmoid(a) y = Mul(b, c) }"
        ),
        "g (float[N,4] x) => (float[N,2] y) <int64[2] s = {-1, 2}> { y = Reshape(x, s) }",
        (
            "g (bool b, float[2] x) => (float[2] y) "
            "{ y = If(b) <then_branch = t () => (float[2] z) { z = Identity(x) }, "
            "else_branch = e () => (float[2] z) { z = Neg(x) }> }"
        ),
        (
            "g (float[1,4] x) => (float[1,4] y) <int64[4] p = {0,1,0,-1}> { a = Pad(x, p) "
            "i = Constant<value_ints=[0,2]>() y = Slice(a, i, i, i) }"
        ),
    )
    return [onnx.parser.parse_model(f"{head} {graph}").SerializeToString() for graph in graphs]


def _read_onnx(path: Path) -> None:
    from edgeconv.convert.onnx.file import adopt, open_dimensions, open_onnx
    from edgeconv.inspection.summaries import onnx_summary

    onnx_summary(str(path))
    open_ = {
        name: [s if isinstance(s, int) else 2 for s in shape]
        for name, shape in open_dimensions(path).items()
    }
    adopt(open_onnx(path, open_), path.with_name("adopted.onnx"))


def _tflite() -> list[bytes]:
    return [(_CORAL / "source.tflite").read_bytes()]


def _compiled() -> list[bytes]:
    return [(_CORAL / "compiled.tflite").read_bytes()]


def _read_tflite(path: Path) -> None:
    from edgeconv.inspection import tflite_file
    from edgeconv.inspection.text import render
    from edgeconv.parity.candidates import describe_tflite
    from edgeconv.targets.coral.placement.predict import predict

    described = tflite_file.describe_tflite(path)
    render({"file": "m", "bytes": 1, **described})
    json.dumps(described, allow_nan=True)
    describe_tflite(path)
    if described["format"] == "tflite":
        predict(path).to_dict()


@functools.cache
def _programs() -> list[bytes]:
    import torch

    batch = torch.export.Dim("batch", min=2, max=64)
    made = []
    for shapes in (None, ({0: batch},)):
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()).eval()
        program = torch.export.export(module, (torch.zeros(2, 3),), dynamic_shapes=shapes)
        stream = io.BytesIO()
        torch.export.save(program, stream)
        made.append(stream.getvalue())
    return made


@functools.cache
def _scripts() -> list[bytes]:
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()).eval()
    made = []
    for script in (torch.jit.trace(module, torch.zeros(1, 3)), torch.jit.script(module)):
        stream = io.BytesIO()
        torch.jit.save(script, stream)
        made.append(stream.getvalue())
    return made


def _read_torch(path: Path) -> None:
    from edgeconv.convert.torch.limits import limited_loops
    from edgeconv.convert.torch.load import load_model

    with limited_loops(str(path)):
        load_model(path, input_shapes=None if path.suffix == ".pt2" else [(1, 3)])


def _arrays() -> list[bytes]:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros((5, 1, 3), np.float32))
    packed = io.BytesIO()
    np.savez_compressed(packed, in0=np.ones((2, 3), np.float32), y=np.ones(2, np.int8))
    return [stream.getvalue(), packed.getvalue()]


def _read_arrays(path: Path) -> None:
    from edgeconv.core.arrays import read_npz
    from edgeconv.core.errors import EdgeconvError
    from edgeconv.samples.load import check_source, load_samples

    check_source(str(path), ["x"], "--calibration-data")
    try:
        read_npz(path)
    except EdgeconvError:
        load_samples(path, _SPECS, limit=3)
        raise
    load_samples(path, _SPECS, limit=3)


@functools.cache
def _images() -> list[bytes]:
    from PIL import Image

    picture = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    made = []
    for kind in ("png", "jpeg", "bmp", "gif", "webp"):
        stream = io.BytesIO()
        picture.save(stream, kind)
        made.append(stream.getvalue())
    return made


def _read_image(path: Path) -> None:
    from edgeconv.samples.load import load_samples

    folder = path.parent / "images"
    folder.mkdir(exist_ok=True)
    (folder / "a.png").write_bytes(path.read_bytes())
    load_samples(folder, _PHOTO, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


_RECIPE = (
    b'[[rule]]\nop = "CONV_2D"\nprecision = "int16"\n\n'
    b'[[rule]]\nname = "head*"\nprecision = "float"\n'
)
_GATES = b"[gates]\ncosine = 0.99\n\n[gates.tflite_int8]\nsqnr = 30\ntop1 = 0.99\n"


def _read_recipe(path: Path) -> None:
    from edgeconv.quantize.rules.recipe import read

    read(path)


def _read_gates(path: Path) -> None:
    from edgeconv.core.gate_files import read_gates

    (path.parent / "edgeconv.toml").write_bytes(path.read_bytes())
    read_gates(path.parent)


def _manifest() -> list[bytes]:
    spec = {
        "name": "x",
        "shape": [1, 3],
        "dtype": "float32",
        "layout": "source",
        "permutation": [0, 1],
        "scale": None,
        "zero_point": None,
    }
    stage = {
        "name": "tflite_fp32",
        "seconds": 1.0,
        "file": "m.tflite",
        "sha256": "",
        "bytes": 3,
        "format": "tflite",
        "inputs": [spec],
        "outputs": [spec],
    }
    manifest = {
        "schema_version": 1,
        "status": "complete",
        "failure": None,
        "model": "m",
        "options": {"target": "cpu"},
        "stages": [stage],
        "files": [],
        "states": [],
        "verdict": "pass",
        "calibrated": True,
    }
    return [json.dumps(manifest).encode()]


def _read_manifest(path: Path) -> None:
    """Open a bundle, its digests made right as a forger would."""
    from edgeconv.core import bundle
    from edgeconv.core.errors import EdgeconvError
    from edgeconv.core.seal import sealed
    from edgeconv.inspection.inspect import _made_for

    folder = path.parent / "m.edgeconv"
    folder.mkdir(exist_ok=True)
    (folder / "m.tflite").write_bytes(b"abc")
    content = path.read_bytes()
    (folder / bundle.MANIFEST).write_bytes(content)
    try:
        value = json.loads(content)
        value["stages"][0] |= bundle.describe_file(folder / "m.tflite", folder)
        (folder / bundle.MANIFEST).write_text(json.dumps(sealed(value)))
    except (ValueError, LookupError, TypeError, AttributeError, EdgeconvError, RecursionError):
        pass
    _made_for(folder)
    opened = bundle.open_bundle(folder, allow_failed=True)
    for artifact in opened.artifacts.values():
        artifact.to_dict()


def _logs() -> list[bytes]:
    return [
        (
            b"Edge TPU Compiler version 16.0.384591198\n\nModel compiled successfully in 90 ms.\n\n"
            b"Input model: m.tflite\nInput size: 3.27MiB\nOutput model: m_edgetpu.tflite\n"
            b"Output size: 3.42MiB\nOn-chip memory used for caching model parameters: 3.33MiB\n"
            b"On-chip memory remaining for caching model parameters: 4.26MiB\n"
            b"Off-chip memory used for streaming uncached model parameters: 0.00B\n"
            b"Number of Edge TPU subgraphs: 1\nTotal number of operations: 31\n"
            b"Operation log: m_edgetpu.log\n\nOperator                       Count      Status\n\n"
            b"CONV_2D                        14         Mapped to Edge TPU\n"
        )
    ]


def _read_log(path: Path) -> None:
    from edgeconv.targets.coral.compiler.report import parse

    for model in parse(path.read_text(errors="replace")).models:
        json.dumps(model.to_dict())


def _answers() -> list[bytes]:
    probe = {"runtimes": ["tflite-runtime 2.14"], "part": None, "python": "3.9", "machine": "m"}
    answer = {
        "stdout": json.dumps(RAN),
        "stderr": "",
        "bytes": 0,
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    refused = {"refused": "os", "errno": 28, "details": "full", "bytes": 0, "sha256": ""}
    return [json.dumps(one).encode() for one in (answer, refused, RAN, probe)]


def _read_answer(path: Path) -> None:
    from edgeconv.toolchain.device import answer
    from edgeconv.toolchain.device.job import Found, read_answer
    from edgeconv.toolchain.device.ssh import Board, _refusal

    content = path.read_bytes()
    text = content.decode(errors="replace")
    Found.read(text)
    results = path.with_name("results.npz")
    try:
        stream = io.BytesIO(b"hello\nEDGECONV " + content + b"\n")
        found = answer.read_stream(stream, results)
    except answer.NotUnderstood:
        read_answer(text, "", results, "board")
        return
    if found and "refused" in found:
        raise _refusal(found, Board("pi@board"))
    if found:
        read_answer(found["stdout"], found["stderr"], results, "board")


def _report(sqnr_db: float, part: float) -> dict[str, Any]:
    parts = [{"name": "p", "slice": {"axis": 0, "start": 0, "stop": 1}, "sqnr_db": part}]
    output = {"name": "y", "sqnr_db": sqnr_db, "top1_agreement": 1.0, "parts": parts}
    gate = {"sqnr_db": 12.0}
    stage = {"stage": "tflite", "file": "m", "status": "pass", "gate": gate, "outputs": [output]}
    return {
        "model": "m",
        "reference": "onnx",
        "samples": 3,
        "calibrated": True,
        "generated_samples": False,
        "stages": [stage],
        "verdict": "pass",
    }


def _baselines() -> list[bytes]:
    return [json.dumps(_report(30.0, 3.0)).encode()]


def _read_baseline(path: Path) -> None:
    from edgeconv.metrics.report import ParityReport
    from edgeconv.parity.verdict import judged, read_baseline
    from edgeconv.reports.junit import render_junit

    baseline = read_baseline(path)
    found = judged(ParityReport.from_dict(_report(20.0, 1.0)), baseline, 1.0)
    render_junit(found)
    if baseline is not None:
        json.dumps(baseline.to_dict(), allow_nan=False)
        render_junit(baseline)


def _saved_models() -> list[bytes]:
    return [(CORPUS / "saved_model.pb").read_bytes()]


def _read_saved_model(path: Path) -> None:
    from edgeconv.inspection.summaries import saved_model_summary
    from edgeconv.inspection.text import render

    folder = path.parent / "saved"
    folder.mkdir(exist_ok=True)
    (folder / "saved_model.pb").write_bytes(path.read_bytes())
    render({"file": "m", "bytes": 1, "format": "saved_model", **saved_model_summary(str(folder))})


_ALL = (
    Reader(
        "onnx",
        ".onnx",
        _onnx,
        (mutate.blind, mutate.protobuf, mutate.protobuf),
        _read_onnx,
        native=True,
    ),
    Reader("tflite", ".tflite", _tflite, (mutate.blind, mutate.words, mutate.words), _read_tflite),
    Reader("edgetpu", ".tflite", _compiled, (mutate.blind, mutate.words), _read_tflite),
    Reader(
        "pt2",
        ".pt2",
        _programs,
        (mutate.blind, mutate.members(mutate.blind)),
        _read_torch,
        native=True,
    ),
    Reader(
        "torchscript",
        ".pt",
        _scripts,
        (mutate.blind, mutate.members(mutate.blind)),
        _read_torch,
        native=True,
    ),
    Reader(
        "npz",
        ".npz",
        _arrays,
        (mutate.blind, mutate.members(mutate.blind), mutate.members(mutate.header)),
        _read_arrays,
    ),
    Reader("image", ".png", _images, (mutate.blind, mutate.words), _read_image),
    Reader("recipe", ".toml", lambda: [_RECIPE], (mutate.blind, mutate.lines), _read_recipe),
    Reader("gates", ".toml", lambda: [_GATES], (mutate.blind, mutate.lines), _read_gates),
    Reader(
        "manifest",
        ".json",
        _manifest,
        (mutate.blind, mutate.text_json, mutate.text_json),
        _read_manifest,
    ),
    Reader(
        "baseline",
        ".json",
        _baselines,
        (mutate.blind, mutate.text_json, mutate.text_json),
        _read_baseline,
    ),
    Reader("compiler_log", ".log", _logs, (mutate.blind, mutate.lines), _read_log),
    Reader(
        "board", ".json", _answers, (mutate.blind, mutate.text_json, mutate.text_json), _read_answer
    ),
    Reader(
        "saved_model",
        ".pb",
        _saved_models,
        (mutate.blind, mutate.protobuf, mutate.protobuf),
        _read_saved_model,
        native=True,
    ),
)

READERS: Mapping[str, Reader] = {reader.name: reader for reader in _ALL}
"""The readers by name."""
