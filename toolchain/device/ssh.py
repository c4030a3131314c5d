"""Run a job on a board behind SSH, with the system's OpenSSH client, over one connection.

The remote command is a constant: names, digests and files all travel through stdin to
`edgeconv.toolchain.device.receiver`, so that nothing is ever interpolated into a shell. Host keys
must be known; nothing is asked.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgeconv.core.disk import sha256_of
from edgeconv.core.errors import EdgeconvError, ToolMissing, UsageError, WorkerError, WorkerTimeout
from edgeconv.core.scratch import scratch_directory
from edgeconv.toolchain.device.answer import NotUnderstood, Said, read_stream
from edgeconv.toolchain.device.job import (
    RESULTS,
    Found,
    Job,
    Ran,
    RunOptions,
    read_answer,
    write_probe,
)
from edgeconv.toolchain.device.local import total_seconds
from edgeconv.toolchain.device.part import DevicePart

_PROBE_SECONDS = 20.0
_PROBE_LIMIT = 30.0
"""Looking at files takes a board's Python a second or two; connecting has its own limit, below."""

_TRANSPORT_SECONDS = 60.0
"""What connecting and copying may take beyond the run itself."""

# Reads the receiver's text, whose length comes first, and becomes it. Valid for every Python 3.
_COMMAND = (
    "exec python3 -c 'import sys; i = sys.stdin.buffer; "
    'exec(compile(i.read(int(i.readline())), "receiver", "exec"))\''
)

_DESTINATION = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9\[][\w.:%\[\]-]*")

_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ControlPath=none",
)

# (what ssh says on stderr, what it means, what to do)
SSH_FAILURES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one that is known",
        (
            "find out why before you connect; a board that was set up anew has a new key, and "
            "ssh-keygen -R HOST forgets the old one"
        ),
    ),
    (
        "Host key verification failed",
        "its host key is not known here",
        "connect once by hand with ssh, compare the fingerprint, and accept it",
    ),
    (
        "Permission denied",
        "it does not accept any key of yours",
        (
            "give the key with --identity, or add yours with ssh-copy-id (boards that use mdt: "
            "mdt pushkey)"
        ),
    ),
    ("Could not resolve hostname", "the name cannot be resolved", "check --host"),
    ("Connection refused", "nothing answers on that port", "check --port, and sshd on the board"),
    ("Connection timed out", "it does not answer", "check the network, and that the board is on"),
    ("No route to host", "there is no way to it", "check the network, and that the board is on"),
    ("Network is unreachable", "there is no way to it", "check this machine's network"),
    ("Identity file", "the key file cannot be read", "check --identity"),
    ("Can't open user config file", "the ssh configuration cannot be read", "check --ssh-config"),
    (
        "not found",
        "it has no python3",
        "install Python 3.7 or later there, with numpy and a TFLite runtime",
    ),
)

_ABSENT = (
    "Could not resolve hostname",
    "Connection refused",
    "Connection timed out",
    "No route to host",
    "Network is unreachable",
    "not found",
)
"""What ssh says where the board, or its Python, is not there."""

_REFUSALS = {
    "interrupted": ("the connection broke while the files were copied", "run it again"),
    "damaged": ("the files arrived damaged", "run it again"),
    "no-python": (
        "the Python that was asked for cannot be started there",
        "check --python, a path on the board",
    ),
    "timeout": ("the model did not finish in time", "raise --timeout"),
}


@dataclass(frozen=True, slots=True)
class Board:
    """A machine behind SSH.

    Attributes:
        host: ``USER@HOST``, or a name of the ssh configuration.
        port: Its port; as configured by default.
        identity: Private key; as configured by default.
        config: Configuration file to use instead of the user's.
        python: The Python on the board that has numpy and a TFLite runtime.
    """

    host: str
    port: int | None = None
    identity: Path | None = None
    config: Path | None = None
    python: str = "python3"

    def __post_init__(self) -> None:
        if not _DESTINATION.fullmatch(self.host):
            raise UsageError(
                f"--host {self.host!r} is not understood", hint="write it as USER@HOST or HOST"
            )
        if self.port is not None and not 0 < self.port < 65536:
            raise UsageError(f"--port must be 1 to 65535, not {self.port}")
        for name, path in (("identity", self.identity), ("ssh-config", self.config)):
            if path is not None and not path.is_file():
                raise UsageError(f"--{name} is not a file", where=str(path))

    def run(self, job: Job, options: RunOptions) -> Ran:
        """Copy a job to the board, run it there, and fetch what it computed.

        Raises:
            ToolMissing: There is no ssh here; or no suitable Python, runtime or, where only that
                would do, no accelerator there.
            WorkerError: The connection failed or broke, the board is full, or the model failed.
            WorkerTimeout: It did not finish in time.
        """
        with scratch_directory() as scratch:
            folder = Path(scratch)
            files = job.write(folder, options)
            seconds = total_seconds(options)
            session = _Session(self, seconds, seconds + _TRANSPORT_SECONDS)
            answer = session.exchange(files, folder / RESULTS)
            if "refused" in answer:
                raise _refusal(answer, self)
            ran = read_answer(
                answer["stdout"], answer["stderr"], folder / RESULTS, self.host, job.part
            )
        if "left" in answer:
            raise WorkerError("the files could not be removed", where=self.host, why=answer["left"])
        return ran

    def probe(self, part: DevicePart | None = None) -> Found:
        """Ask the board what it has to run models with, and what a target's part finds.

        Raises:
            ToolMissing: There is no ssh here, or no suitable Python there.
            WorkerError: The connection failed or broke.
        """
        with scratch_directory() as scratch:
            files = write_probe(Path(scratch), part)
            session = _Session(self, _PROBE_SECONDS, _PROBE_LIMIT)
            answer = session.exchange(files, Path(scratch) / RESULTS)
        if "refused" in answer:
            raise _refusal(answer, self)
        found = Found.read(answer["stdout"])
        if answer["stdout"].strip() and not found.python:
            raise NotUnderstood("what it says of itself has another form", self.host)
        return found

    def command(self) -> list[str]:
        """Return the command line of ssh.

        Raises:
            ToolMissing: There is no ssh.
        """
        program = shutil.which("ssh")
        if program is None:
            raise ToolMissing(
                "the program ssh is not installed",
                hint="install the OpenSSH client, for example with apt-get install openssh-client",
            )
        command = [program, "-T", "-a", "-x"]
        if self.config is not None:
            command += ["-F", str(self.config)]
        for option in _OPTIONS:
            command += ["-o", option]
        if self.port is not None:
            command += ["-p", str(self.port)]
        if self.identity is not None:
            command += ["-i", str(self.identity), "-o", "IdentitiesOnly=yes"]
        return [*command, "--", self.host, _COMMAND]


class _Session:
    """One connection: everything over there and back.

    Args:
        board: Where it goes.
        seconds: What the board gives the program that it is sent.
        limit: Seconds after which the connection is given up.
    """

    def __init__(self, board: Board, seconds: float, limit: float) -> None:
        self._board = board
        self._seconds = seconds
        self._limit = limit
        self._late = False

    def exchange(self, files: Sequence[Path], results: Path) -> dict[str, Any]:
        process = subprocess.Popen(
            self._board.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        timer = threading.Timer(self._limit, self._expire, [process])
        timer.start()
        said = Said(process.stderr, lambda: _kill(process))
        try:
            # A board that refuses early answers before it has taken everything.
            with suppress(BrokenPipeError):
                for chunk in self._request(files):
                    process.stdin.write(chunk)
                process.stdin.flush()
            found = read_stream(process.stdout, results)
        except NotUnderstood as error:
            _kill(process)
            raise NotUnderstood(error.why, self._board.host) from error
        finally:
            timer.cancel()
            with suppress(BrokenPipeError):
                process.stdin.close()
            if self._late or not _finished(process):
                _kill(process)
            process.stdout.close()
            code = process.wait()
            text = said.text()
            process.stderr.close()
        if said.exceeded:
            raise NotUnderstood("it prints too much on stderr", self._board.host, text)
        if found is None and not code and not self._late:
            raise NotUnderstood("it ended without an answer", self._board.host, text)
        if found is None:
            raise self._broken(code, text)
        return found

    def _request(self, files: Sequence[Path]) -> Iterator[bytes]:
        package = resources.files("edgeconv.toolchain.device")
        receiver = package.joinpath("receiver.py").read_bytes()
        header = {
            "python": self._board.python,
            "seconds": self._seconds,
            "results": RESULTS,
            "files": [
                {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
                for path in files
            ],
        }
        text = json.dumps(header).encode()
        yield b"%d\n" % len(receiver) + receiver
        yield b"%d\n" % len(text) + text
        for path in files:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    yield chunk

    def _expire(self, process: subprocess.Popen[bytes]) -> None:
        self._late = True
        _kill(process)

    def _broken(self, code: int, said: str) -> EdgeconvError:
        where = self._board.host
        if self._late:
            return WorkerTimeout(
                f"the board did not answer within {self._limit:g} seconds",
                where=where,
                hint="see that it is not busy, and that python3 starts there; for a slow model "
                "raise --timeout",
                details=said,
            )
        for text, why, hint in SSH_FAILURES:
            if text in said:
                kind = ToolMissing if text in _ABSENT else WorkerError
                return kind("cannot use the board", where=where, why=why, hint=hint, details=said)
        return WorkerError(
            "the connection to the board broke",
            where=where,
            why=said.splitlines()[-1] if said else f"ssh ended with status {code}",
            hint="run it again; the board removes what was copied as soon as it notices",
            details=said,
        )


def _finished(process: subprocess.Popen[bytes]) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    return process.poll() is not None


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _refusal(answer: dict[str, Any], board: Board) -> EdgeconvError:
    kind, details = answer["refused"], str(answer["details"])
    left = f"; it could not remove {answer['left']}" if "left" in answer else ""
    if kind == "old-python":
        return ToolMissing(
            f"the board's {board.python} is Python {details}",
            where=board.host,
            why="the runner needs Python 3.7 or later",
            hint="install a newer Python there, and name it with --python",
        )
    if kind == "os" and answer["errno"] in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return WorkerError(
            "the board's disk is full",
            where=board.host,
            why=details + (left or "; nothing was left behind"),
            hint="free some space in its TMPDIR or /tmp",
        )
    what, hint = _REFUSALS.get(kind, ("the board could not do it", "run with --verbose"))
    error = ToolMissing if kind == "no-python" else WorkerError
    return error(what, where=board.host, why=details + left, hint=hint, details=details)
