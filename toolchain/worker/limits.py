"""How much time and memory a worker process may take.

Two limits work together. The parent watches the memory that the worker and everything it started
have to themselves, so that reserved address space, which PyTorch and TensorFlow have a lot of, does
not count. Within the worker the kernel keeps the limits of a single step (setrlimit(2)): of reading
a file, which can be told from the file's size.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from edgeconv.core.errors import LimitExceeded

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

_T = TypeVar("_T")

IN_WORKER = "EDGECONV_WORKER"
"""Set in the environment of worker processes; elsewhere no limit is set."""

GLANCE = 0.1
"""Seconds between two looks at the memory of a process."""

_SLACK = 2 << 30
"""Address space that a worker may reserve beyond its memory: stacks of threads, arenas."""

_READ_SECONDS = 6.0
_READ_SECONDS_PER_MB = 4.0
_READ_BYTES = 400 << 20
_READ_BYTES_PER_BYTE = 12
"""What reading a file may take: a little, and a multiple of its size."""

_LEAST = 256 << 20
_PRIVATE = re.compile(rb"^Rss(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)
_DATA = re.compile(rb"^VmData:\s+(\d+) kB", re.MULTILINE)
_NO_MEMORY = ("bad_alloc", "can't allocate memory", "cannot allocate memory", "out of memory")


def default_memory() -> int:
    """Return half of the machine's memory in bytes, or of what its control group may take."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        machine = 16 << 30
    with suppress(OSError, ValueError):  # "max" stands for none
        machine = min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return max(machine // 2, _LEAST)


def memory_of(pid: int) -> int:
    """Return the bytes that a process and its descendants have to themselves; 0 if unknown."""
    total, waiting = 0, [pid]
    while waiting:
        place = Path("/proc") / str(waiting.pop())
        try:
            found = _PRIVATE.findall((place / "status").read_bytes())
            for task in (place / "task").iterdir():
                waiting += map(int, (task / "children").read_bytes().split())
        except OSError:  # it has ended, or this is no Linux
            continue
        total += sum(map(int, found)) << 10
    return total


class TooMuchMemory(Exception):
    """A process has more memory than it may; `str` says how much that is."""


def within(
    process: subprocess.Popen[bytes],
    wait: Callable[[float], _T],
    seconds: float,
    memory: int | None,
) -> _T:
    """Wait for a process that is no worker, and watch what it and its descendants take.

    Args:
        process: The process; it is not stopped here.
        wait: Waits so many seconds for it; ``process.wait``, for example.
        seconds: How long it may take.
        memory: Bytes that it may take; half of the machine's by default.

    Raises:
        TooMuchMemory: It takes more.
        subprocess.TimeoutExpired: It has not ended in time.
    """
    memory = memory or default_memory()
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        try:
            return wait(max(0.0, min(left, GLANCE)))
        except subprocess.TimeoutExpired:
            if left <= GLANCE:
                raise
        if memory_of(process.pid) > memory:
            raise TooMuchMemory(f"more than {memory / 2**20:,.0f} MB of memory are needed")


def limit_this_process(memory: int) -> None:
    """Keep this process, and each that it starts, from reserving much more than its memory.

    A crash leaves no core file, which would be as large.
    """
    if resource is None:
        return
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        _set_soft(resource.RLIMIT_DATA, memory + _SLACK)


@contextmanager
def reading(size: int, what: str) -> Iterator[None]:
    """Limit what reading a file may take, in a worker process; elsewhere nothing is limited.

    A worker that takes more processor time is ended by the kernel, with SIGXCPU.

    Args:
        size: The file's size in bytes.
        what: The file, for messages.

    Raises:
        LimitExceeded: It takes more memory.
    """
    seconds = _READ_SECONDS + _READ_SECONDS_PER_MB * size / 1e6
    try:
        with processor_time(seconds), _memory(_READ_BYTES + _READ_BYTES_PER_BYTE * size):
            yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise LimitExceeded(
            "reading the file takes more memory than its size explains",
            where=what,
            why=f"the file has {size:,} bytes",
            hint="do not trust it; or write it again, if it is yours",
        ) from error


@contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Let the kernel end this process, if it is a worker, after so much more processor time."""
    if resource is None or IN_WORKER not in os.environ:
        yield
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    before = resource.getrlimit(resource.RLIMIT_CPU)[0]
    _set_soft(resource.RLIMIT_CPU, int(used + seconds) + 1)
    try:
        yield
    finally:
        _set_soft(resource.RLIMIT_CPU, before)


@contextmanager
def _memory(more: int) -> Iterator[None]:
    data = _reserved()
    if resource is None or IN_WORKER not in os.environ or not data:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)[0]
    _set_soft(resource.RLIMIT_DATA, data + more)
    try:
        yield
    finally:
        _set_soft(resource.RLIMIT_DATA, before)


def _set_soft(kind: int, wanted: int) -> None:
    """Set a limit that can be raised again, no higher than the one that cannot."""
    hard = resource.getrlimit(kind)[1]
    unlimited = resource.RLIM_INFINITY
    if hard != unlimited and (wanted == unlimited or wanted > hard):
        wanted = hard
    resource.setrlimit(kind, (wanted, hard))


def _reserved() -> int:
    """Return the bytes that RLIMIT_DATA counts in this process; 0 where nobody knows."""
    try:
        found = _DATA.search(Path("/proc/self/status").read_bytes())
    except OSError:
        return 0
    return int(found[1]) << 10 if found else 0


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory could not be had, in whatever words."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)
