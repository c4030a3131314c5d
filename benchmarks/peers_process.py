"""Run a command and measure it: wall time, and peak memory of all its processes together."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.05
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True)
class Measured:
    """How a command went.

    Attributes:
        seconds: Wall time from start to end.
        peak_mb: Largest sum of the resident memory of the command's processes, sampled.
        error: Why it failed, ``""`` where it did not.
    """

    seconds: float
    peak_mb: int
    error: str


def run(
    command: Sequence[str], directory: Path, environment: Mapping[str, str], timeout: float
) -> Measured:
    """Run a command in a session of its own and measure it; its output goes to ``log.txt``."""
    log = directory / "log.txt"
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command), cwd=directory, env=dict(environment), stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        peak, late = 0.0, False
        while process.poll() is None and not late:
            peak = max(peak, _resident(process.pid))
            late = time.perf_counter() - started > timeout
            time.sleep(_INTERVAL)
        seconds = time.perf_counter() - started
        if late:
            os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    error = f"took longer than {timeout:g} s" if late else _error(code, log)
    return Measured(round(seconds, 2), round(peak), error)


def _error(code: int, log: Path) -> str:
    if code == 0:
        return ""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"exit status {code}: {lines[-1][:160] if lines else ''}"


def _resident(root: int) -> float:
    """Return the resident memory in MB of a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.name))
    total, waiting = 0.0, [root]
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, [])
        try:
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += pages * _PAGE_MB
    return total
