"""A board: an OpenSSH server on loopback, and the Python environments that it may have."""

from __future__ import annotations

import getpass
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgeconv.core.arrays import write_npz
from edgeconv.toolchain.device.ssh import Board

ROOT = Path(__file__).resolve().parents[2]
_SSHD = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Server:
    """A running sshd.

    Attributes:
        pid: Its process.
        board: How to reach it.
        folder: Its temporary directory, the board's TMPDIR, in ``tmp``.
    """

    pid: int
    board: Board
    folder: Path

    @property
    def leftovers(self) -> list[str]:
        """What is in the board's temporary directory."""
        return sorted(path.name for path in (self.folder / "tmp").iterdir())

    def sessions(self) -> list[int]:
        """The processes of this server's connections."""
        listing = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(word) for word in listing.stdout.split()]


def _keygen(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _configure(folder: Path, port: int) -> None:
    (folder / "tmp").mkdir()
    for name in ("host_key", "user_key", "other_key"):
        _keygen(folder / name)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    kind, key, *_ = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    (folder / "sshd_config").write_text(
        f"HostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        f"ListenAddress 127.0.0.1:{port}\nSetEnv TMPDIR={folder}/tmp\n"
    )
    (folder / "ssh_config").write_text(f"UserKnownHostsFile {folder}/known_hosts\n")


@contextmanager
def _serving(folder: Path, file_limit: int | None = None) -> Iterator[Server]:
    if _SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no OpenSSH server here (Debian: apt-get install openssh-server)")
    port = _free_port()
    _configure(folder, port)

    def limit() -> None:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [_SSHD, "-D", "-e", "-f", str(folder / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stderr=log,
            preexec_fn=limit,  # noqa: PLW1509 - the only portable way to limit it
        )
    try:
        for _ in range(100):
            if process.poll() is not None or "listening on" in (folder / "log").read_text():
                break
            time.sleep(0.05)
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: {(folder / 'log').read_text().strip()}")
        board = Board(
            f"{getpass.getuser()}@127.0.0.1",
            port,
            folder / "user_key",
            folder / "ssh_config",
            sys.executable,
        )
        yield Server(process.pid, board, folder)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A board whose Python has ai-edge-litert."""
    with _serving(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture
def full_server(tmp_path: Path) -> Iterator[Server]:
    """A board that can write no file over 16 kB."""
    (tmp_path / "sshd").mkdir()
    with _serving(tmp_path / "sshd", file_limit=16 << 10) as found:
        yield found


@pytest.fixture(scope="session")
def tflite_board(server: Server, tflite_runtime_python: Path) -> Server:
    """The board with tflite-runtime 2.14.0 and numpy 1."""
    return replace(server, board=replace(server.board, python=str(tflite_runtime_python)))


@pytest.fixture(scope="session")
def int8_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an int8 model, made by one conversion without calibration data."""
    import torch

    import edgeconv

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )
    folder = tmp_path_factory.mktemp("int8")
    rng = np.random.default_rng(0)
    data = folder / "data.npz"
    write_npz(data, {"input": rng.random((24, 1, 3, 16, 16), np.float32)})
    result = edgeconv.convert(
        network.eval(),
        torch.rand(1, 3, 16, 16),
        target="coral",
        calibration_data=str(data),
        output=folder / "net.edgeconv",
    )
    return result.path


@pytest.fixture
def bundle(int8_bundle: Path, tmp_path: Path) -> Path:
    """A copy of that bundle for a test to change."""
    return Path(shutil.copytree(int8_bundle, tmp_path / "net.edgeconv"))


@pytest.fixture
def stand_in_library(tmp_path: Path) -> Callable[[str], str]:
    """Builds a ``libedgetpu.so.1`` from C; returns the directory for LD_LIBRARY_PATH."""

    def build(source: str) -> str:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler here")
        path = tmp_path / "lib" / "libedgetpu.so.1"
        path.parent.mkdir()
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=source, text=True, check=True)
        return str(path.parent)

    return build
