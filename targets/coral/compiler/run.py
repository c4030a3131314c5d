"""Run the compiler as a process that may hang, crash or flood us, and take what it printed."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgeconv.core.errors import CompilerCrashed, CompilerTimeout, ToolMissing
from edgeconv.core.scratch import scratch_directory
from edgeconv.targets.coral.compiler.find import Compiler
from edgeconv.targets.coral.compiler.report import parse
from edgeconv.toolchain.worker.limits import TooMuchMemory, within

_OUTPUT_LIMIT = 4 * 1024 * 1024
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that ended.

    Attributes:
        status: Exit status; negative for a signal.
        output: What it printed, stdout and stderr in the order of writing.
    """

    status: int
    output: str


def run(
    compiler: Compiler,
    arguments: Sequence[str],
    directory: Path,
    timeout: float,
    memory: int | None = None,
) -> Finished:
    """Run the compiler in a directory, in a session of its own.

    Whatever it started ends with it, also when we are interrupted.

    Args:
        compiler: The compiler.
        arguments: Its arguments.
        directory: Where it works.
        timeout: Seconds that it may take.
        memory: Bytes that it may take, where it runs in no container; half of the machine's memory
            by default.

    Raises:
        ToolMissing: It cannot be started.
        CompilerTimeout: It did not end in time; it was stopped.
        CompilerCrashed: It takes more memory; it was stopped.
    """
    name = f"edgeconv-{secrets.token_hex(8)}"
    command = compiler.command(arguments, directory, name)
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolMissing(
                "the compiler cannot be started",
                where=str(compiler),
                why=error.strerror or str(error),
                hint="it is a program for Linux on x86-64; see that it is executable",
            ) from error
        try:
            status = within(process, process.wait, timeout, memory)
        except subprocess.TimeoutExpired:
            _stop(compiler, process, name)
            raise CompilerTimeout(
                f"the compiler did not end within {timeout:g} seconds",
                where=str(compiler),
                why="large activations are the usual cause",
                hint="raise --timeout, or use a smaller input",
                details=_printed(log),
            ) from None
        except TooMuchMemory as error:
            _stop(compiler, process, name)
            raise CompilerCrashed(
                "the compiler was stopped",
                where=str(compiler),
                why=str(error),
                hint="raise --memory-limit, or use a smaller model or input",
                details=_printed(log),
            ) from None
        except BaseException:
            _stop(compiler, process, name)
            raise
        _end_group(process)
        return Finished(status, _printed(log))


def version_of(compiler: Compiler) -> str:
    """Return the compiler's release, ``16.0.384591198``; empty where it does not tell.

    Raises:
        ToolMissing: It cannot be started.
    """
    with scratch_directory() as scratch:
        try:
            return parse(run(compiler, ["--version"], Path(scratch), _PATIENCE).output).version
        except CompilerTimeout:
            return ""


def _stop(compiler: Compiler, process: subprocess.Popen[bytes], name: str) -> None:
    command = compiler.stop_command(name)
    if command is not None:
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)
    _end_group(process)
    process.wait()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _printed(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _OUTPUT_LIMIT))
    return log.read().decode(errors="replace")
