"""Limits of worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeconv.core.errors import LimitExceeded, UsageError
from edgeconv.core.options import parse_memory
from edgeconv.toolchain.worker.limits import (
    IN_WORKER,
    default_memory,
    memory_of,
    processor_time,
    reading,
)
from edgeconv.toolchain.worker.process import Worker

MB = 1 << 20
FUNCTIONS = """
import os, time
from edgeconv.toolchain.worker.limits import processor_time, reading

def grow(size, seconds=30):
    kept = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if len(kept) < size >> 20:
            kept.append(b"x" * (1 << 20))
    return len(kept)

def child_grows(size):
    import subprocess, sys
    subprocess.run([sys.executable, "-c", f"import time; x = b'x' * {size}; time.sleep(30)"])

def spin():
    with processor_time(1):
        while True: pass

def read(size, take):
    with reading(size, "the file"):
        return len(bytearray(take))

def after_reading():
    with reading(1, "the file"):
        pass
    return len(bytearray(700 << 20))
"""


@pytest.fixture(autouse=True)
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "limit_functions.py").write_text(FUNCTIONS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.parametrize("function", ["grow", "child_grows"])
def test_a_worker_that_takes_too_much_memory_is_stopped(function: str) -> None:
    with Worker("greedy", timeout=25, memory=300 * MB) as worker:
        with pytest.raises(LimitExceeded, match="more than 300 MB") as caught:
            worker.call(f"limit_functions:{function}", size=500 * MB)
        assert "memory_limit" in caught.value.hint
        assert worker.call("limit_functions:grow", size=MB, seconds=0) == 0


def test_an_endless_step_is_ended_by_its_processor_time() -> None:
    began = time.process_time()
    with (
        Worker("endless", timeout=60) as worker,
        pytest.raises(LimitExceeded, match="processor time"),
    ):
        worker.call("limit_functions:spin")
    assert time.process_time() - began < 5


def test_reading_takes_no_more_than_a_files_size_explains() -> None:
    with Worker("reader", timeout=60) as worker:
        assert worker.call("limit_functions:read", size=10, take=100 * MB) == 100 * MB
        with pytest.raises(LimitExceeded, match=r"the file: reading .* than its size explains"):
            worker.call("limit_functions:read", size=10, take=700 * MB)
        assert worker.call("limit_functions:read", size=50 * MB, take=700 * MB) == 700 * MB
        assert worker.call("limit_functions:after_reading") == 700 * MB


def test_nothing_is_limited_outside_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IN_WORKER, raising=False)
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA), resource.getrlimit(resource.RLIMIT_CPU)
    with reading(1, "x"), processor_time(1):
        now = resource.getrlimit(resource.RLIMIT_DATA), resource.getrlimit(resource.RLIMIT_CPU)
        assert now == before


def test_memory_counts_descendants() -> None:
    size = 200 * MB
    code = f"import time; x = b'x' * {size}; print(flush=True); time.sleep(60)"
    shell = f'{sys.executable} -c "{code}" & wait'
    with subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = memory_of(process.pid)
        subprocess.run(["pkill", "-P", str(process.pid)], check=False)
        process.kill()
    assert size <= found < 2 * size
    assert memory_of(os.getpid()) > 0


def test_the_default_is_half_of_what_there_is() -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 256 * MB <= default_memory() <= machine // 2


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 << 30), ("1.5g", 3 << 29), ("800 MiB", 800 * MB)]
)
def test_sizes_are_understood(text: str, size: int) -> None:
    assert parse_memory(text) == size
    assert parse_memory(None) is None


@pytest.mark.parametrize("text", ["", "much", "-4GB", "1MB", "0", "nan", "9XB", "inf"])
def test_other_sizes_are_not(text: str) -> None:
    with pytest.raises(UsageError, match="memory_limit"):
        parse_memory(text)
