"""Small model files, and a bundle that all test processes share."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def edgeconv() -> Callable[..., Done]:
    """Runs the command line as users do."""
    return _edgeconv


def _edgeconv(*arguments: object, cwd: Path | None = None, timeout: float = 300) -> Done:
    return subprocess.run(
        [sys.executable, "-m", "edgeconv", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout,
        check=False,
    )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other test processes wait for."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def digits() -> Path:
    """The digits example: ``digits.pt2``, ``calibration.npz``, ``test.npz``."""
    return DIGITS


@pytest.fixture(scope="session")
def digits_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits example converted to int8; made once, whatever the number of test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    bundle = shared / "digits.edgeconv"
    with locked(shared / "digits.lock"):
        if not bundle.exists():
            done = _edgeconv(
                "torch2tflite",
                DIGITS / "digits.pt2",
                "--quantize=int8",
                f"--calibration-data={DIGITS / 'calibration.npz'}",
                "--calibration-samples=100",
                f"--output={bundle}",
            )
            assert done.returncode == 0, done.stderr
            (shared / "digits.stdout").write_text(done.stdout)
            (shared / "digits.stderr").write_text(done.stderr)
    return bundle


@pytest.fixture(scope="session")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of some 65 kB: a convolution and a matrix product."""
    import onnx

    directory = tmp_path_factory.mktemp("onnx")
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[1,3,8,8] image) => (float[1,64] score)
    {
        conv = Conv <pads = [1,1,1,1]> (image, w)
        act = Relu(conv)
        flat = Flatten(act)
        score = MatMul(flat, m)
    }"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (4, 3, 3, 3)), ("m", (4 * 8 * 8, 64))):
        array = rng.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = directory / "small.onnx"
    onnx.save(model, path)
    return path
