"""A PyTorch model in a worker answers as one in this process does."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeconv.convert.torch.load import load_model
from edgeconv.core.errors import InvalidModel, WorkerError
from edgeconv.core.input_shapes import InputShapes
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.core.streams import SampleReader
from edgeconv.sources import load as sources
from edgeconv.sources.load import TorchSource
from edgeconv.sources.remote_torch import RemoteTorch
from edgeconv.toolchain.worker.pool import WorkerPool
from edgeconv.toolchain.worker.stage import StageContext

OPTIONS = ConvertOptions()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    path = tmp_path_factory.mktemp("remote") / "net.pt2"
    torch.export.save(torch.export.export(network, (torch.ones(1, 3, 6, 6),)), path)
    return path


def arguments(path: Path) -> dict[str, Any]:
    return {
        "source": str(path), "factory": None, "trust_pickle": False, "seed": 0, "open_batch": True,
    }  # fmt: skip


@pytest.mark.slow
def test_a_model_in_a_worker_answers_as_one_here(program: Path, tmp_path: Path) -> None:
    local = TorchSource(load_model(program))  # type: ignore[arg-type]  # no ONNX file
    inputs = {"input": np.random.default_rng(0).random((2, 1, 3, 6, 6), np.float32)}
    with WorkerPool() as workers:
        remote = RemoteTorch.open(workers, InputShapes(), **arguments(program))
        assert remote.artifact.inputs == local.artifact.inputs
        assert remote.values() is None
        context = StageContext(OPTIONS, workers, tmp_path, "net", tmp_path / "unused.npz")
        onnx = remote.first_stage().run(remote.artifact, context)
        local.first_stage().run(local.artifact, context)
        outputs = remote.compute(onnx, inputs, None)
        np.testing.assert_allclose(
            outputs["getitem"], local.compute(onnx, inputs, lambda *_: {})["getitem"], atol=1e-6
        )
        values, known = remote.values(), local.values()
        assert values is not None
        assert known is not None
        match = values.match(onnx.path)
        assert match == known.match(onnx.path)
        names = list(match.shapes)
        there, here = tmp_path / "there", tmp_path / "here"
        values.record(inputs, names, there)
        known.record(inputs, names, here)
        with closing(SampleReader(there)) as first, closing(SampleReader(here)) as second:
            for number in range(len(names)):
                expected = second.read(1, number)
                np.testing.assert_allclose(first.read(1, number), expected, atol=1e-6)
        remote.release()
        with pytest.raises(WorkerError):
            remote.compute(onnx, inputs, None)


@pytest.mark.slow
def test_errors_come_back(tmp_path: Path) -> None:
    broken, traced = tmp_path / "broken.pt2", tmp_path / "traced.pt"
    broken.write_bytes(b"PK\x03\x04 and nothing else")
    torch.jit.script(torch.nn.Sequential(torch.nn.ReLU())).save(str(traced))
    with WorkerPool() as workers:
        with pytest.raises(InvalidModel, match=r"broken\.pt2"):
            RemoteTorch.open(workers, InputShapes(), **arguments(broken))
        shapes = InputShapes(positional=((1, 4),))
        remote = RemoteTorch.open(workers, shapes, **arguments(traced))
    assert [spec.shape for spec in remote.artifact.inputs] == [(1, 4)]


def test_a_process_that_has_pytorch_keeps_the_model(program: Path) -> None:
    with WorkerPool() as workers:
        assert isinstance(sources.load(Job(program), workers, open_batch=True), TorchSource)
