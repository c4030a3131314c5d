"""The converters that edgeconv is compared with: their environments and their command lines."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True)
class Peer:
    """One converter.

    Attributes:
        name: Its name.
        requirements: What pip installs into its environment; none for this project's own.
        command: From its Python, the prepared directory of a model and a directory for its files:
            the command to run, in that directory.
        result: The file that the command leaves there, as a glob pattern.
        from_onnx: It starts from the prepared ONNX file, whose export is added to its time.
    """

    name: str
    requirements: tuple[str, ...]
    command: Callable[[Path, Path, Path], list[str]]
    result: str
    from_onnx: bool = False

    def python(self, cache: Path) -> Path:
        """Return the interpreter of its environment."""
        if not self.requirements:
            return Path(sys.executable)
        key = hashlib.sha256("\n".join(self.requirements).encode()).hexdigest()[:8]
        return cache / f"{self.name}-{key}" / "bin" / "python"

    def install(self, cache: Path) -> None:
        """Make its environment, unless it is there already.

        Raises:
            subprocess.CalledProcessError: pip failed.
        """
        python = self.python(cache)
        folder = python.parent.parent
        complete = folder / ".complete"
        if not self.requirements or complete.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        # Builds without CUDA first, and then everything else beside them.
        torch = [entry for entry in self.requirements if entry.startswith("torch")]
        if torch:
            index = ["--extra-index-url", TORCH_INDEX] if _reachable(TORCH_INDEX) else []
            subprocess.run([*pip, "--no-deps", *index, *torch], check=True)
        subprocess.run([*pip, *self.requirements], check=True)
        complete.touch()


def _reachable(url: str) -> bool:
    """Return whether a server answers; pip would ask one that does not again for each package."""
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _edgeconv(*options: str) -> Callable[[Path, Path, Path], list[str]]:
    def command(python: Path, model: Path, output: Path) -> list[str]:
        shape = (model / "shape.txt").read_text()
        return [
            str(python), "-m", "edgeconv", "torch2tflite", str(model / "weights.pt"),
            "--model", "factory:build", "--input-shape", shape, "--quiet", *options,
            "--output", str(output / "model.edgeconv"),
        ]  # fmt: skip

    return command


def _script(name: str) -> Callable[[Path, Path, Path], list[str]]:
    def command(python: Path, model: Path, output: Path) -> list[str]:
        return [str(python), "-m", "benchmarks.peers_convert", name, str(model), str(output)]

    return command


def _onnx2tf(python: Path, model: Path, output: Path) -> list[str]:
    onnx2tf = python.with_name("onnx2tf")
    return [str(onnx2tf), "-i", str(model / "model.onnx"), "-o", str(output), "-n"]


PEERS: tuple[Peer, ...] = (
    Peer("edgeconv", (), _edgeconv("--no-verify"), "model.edgeconv/*_fp32.tflite"),
    Peer("edgeconv, verified", (), _edgeconv(), "model.edgeconv/*_fp32.tflite"),
    Peer(
        "litert-torch",
        ("torch==2.13.0", "torchvision==0.28.0", "timm==1.0.31", "litert-torch==0.10.0",
         "ai-edge-litert==2.3.0"),
        _script("litert_torch"),
        "model.tflite",
    ),
    Peer("onnx2tf", ("onnx2tf==1.29.24",), _onnx2tf, "model_float32.tflite", from_onnx=True),
    Peer(
        "onnx-tf",
        ("onnx-tf==1.10.0", "tensorflow-cpu==2.15.1", "tensorflow-probability==0.23.0",
         "onnx==1.15.0", "numpy<2"),
        _script("onnx_tf"),
        "model.tflite",
        from_onnx=True,
    ),
)  # fmt: skip
