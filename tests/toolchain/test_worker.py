from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeconv.core.errors import (
    InvalidModel,
    ToolMissing,
    UnsupportedModel,
    UsageError,
    WorkerCrashed,
    WorkerError,
    WorkerTimeout,
)
from edgeconv.toolchain.worker import process as module
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool
from edgeconv.toolchain.worker.process import Worker

FUNCTIONS = """
import ctypes, errno, os, sys, time
from edgeconv.core.errors import InvalidModel, UnsupportedModel, UnsupportedNode

def add(a, b, progress=None):
    if progress:
        progress(1, 2); progress(2, 2)
    return a + b

def shout(size):
    print("x" * size); print("noise", file=sys.stderr); os.write(1, b"{\\"result\\": 0}\\n")
    return size

def warn(text):
    import logging
    logging.getLogger("edgeconv.somewhere").warning("%s!", text)

def count(state):
    state["calls"] = state.get("calls", 0) + 1
    return state["calls"]

def pid(): return os.getpid()
def nap(seconds): time.sleep(seconds); return "awake"
def abort():
    os.write(2, b"Node number 37 failed to prepare\\n"); os.abort()
def leave(): os._exit(7)
def typed(): raise InvalidModel("no model", where="m.onnx", hint="look")
def nodes(): raise UnsupportedModel("s", [UnsupportedNode("Op-1", "n", "r", module="m")], "h")
def untyped(): raise ValueError("first line\\nsecond line")
def full(): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
def wrapped(): raise RuntimeError("write: No space left on device; x")
def needs(): import a_package_that_is_not_there
def child(path):
    import subprocess
    process = subprocess.Popen(["sleep", "60"])
    open(path, "w").write(f"{os.getpid()} {process.pid}"); time.sleep(60)
"""


@pytest.fixture(autouse=True)
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worker_functions.py").write_text(FUNCTIONS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker("test", timeout=20) as worker:
        yield worker


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


def test_results_and_progress_come_back(worker: Worker) -> None:
    seen: list[tuple[int, int]] = []
    result = worker.call("worker_functions:add", lambda *at: seen.append(at), a=2, b=3)
    assert (result, seen) == (5, [(1, 2), (2, 2)])


def test_what_native_code_prints_does_not_garble_the_protocol(worker: Worker) -> None:
    assert worker.call("worker_functions:shout", size=200_000) == 200_000


def test_one_process_serves_many_calls(worker: Worker) -> None:
    assert worker.call("worker_functions:pid") == worker.call("worker_functions:pid")


def test_typed_errors_cross_with_all_their_parts(worker: Worker) -> None:
    with pytest.raises(InvalidModel) as caught:
        worker.call("worker_functions:typed")
    assert (caught.value.where, caught.value.hint) == ("m.onnx", "look")
    with pytest.raises(UnsupportedModel) as found:
        worker.call("worker_functions:nodes")
    assert found.value.nodes[0].module == "m"


def test_untyped_errors_become_one_line(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="ValueError: first line") as caught:
        worker.call("worker_functions:untyped")
    assert "second line" not in str(caught.value)
    assert "Traceback" in caught.value.details


@pytest.mark.parametrize("name", ["full", "wrapped"])
def test_a_full_disk_is_told_as_such(worker: Worker, name: str) -> None:
    assert os.strerror(errno.ENOSPC) == "No space left on device"
    with pytest.raises(UsageError, match="the disk is full"):
        worker.call(f"worker_functions:{name}")


def test_a_missing_package_is_named(worker: Worker) -> None:
    with pytest.raises(ToolMissing, match="a_package_that_is_not_there"):
        worker.call("worker_functions:needs")


def test_an_abort_is_an_error_and_the_next_call_works(worker: Worker) -> None:
    with pytest.raises(WorkerCrashed, match="SIGABRT") as caught:
        worker.call("worker_functions:abort")
    assert "Node number 37 failed to prepare" in str(caught.value)
    assert worker.call("worker_functions:add", a=1, b=1) == 2
    with pytest.raises(WorkerCrashed, match="exit status 7"):
        worker.call("worker_functions:leave")


def test_a_death_between_calls_is_noticed(worker: Worker) -> None:
    os.kill(worker.call("worker_functions:pid"), signal.SIGKILL)
    time.sleep(0.2)
    assert worker.call("worker_functions:add", a=1, b=1) == 2


def test_a_preload_that_is_missing_is_told_by_the_call_that_needs_it() -> None:
    with Worker("test", preload=["a_package_that_is_not_there"], timeout=20) as worker:
        assert worker.call("worker_functions:add", a=1, b=1) == 2


def test_a_call_waits_for_the_first_preload_alone(tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text("import time; time.sleep(60)")
    with Worker("test", preload=["worker_functions", "slow_module"], timeout=20) as worker:
        assert worker.call("worker_functions:add", a=1, b=1) == 2


def test_other_preloads_come_between_calls(tmp_path: Path) -> None:
    mark = tmp_path / "loaded"
    (tmp_path / "module.py").write_text(f"open({str(mark)!r}, 'w').close()")
    with Worker("test", preload=["worker_functions", "module"], timeout=20) as worker:
        worker.call("worker_functions:add", a=1, b=1)
        for _ in range(100):
            if mark.exists():
                break
            time.sleep(0.05)
        assert mark.exists()
        assert worker.call("worker_functions:add", a=1, b=1) == 2


def test_a_call_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    with Worker("test", timeout=1.5) as worker:
        with pytest.raises(WorkerTimeout, match=r"1\.5 seconds"):
            worker.call("worker_functions:child", path=str(tmp_path / "pids"))
        assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_worker_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from edgeconv.toolchain.worker.process import Worker\n"
        f"Worker('t').call('worker_functions:child', path={str(tmp_path / 'pids')!r})"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    pids = tmp_path / "pids"
    for _ in range(200):
        if pids.exists() and " " in pids.read_text():
            break
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_stopping_the_pool_ends_a_call_in_another_thread() -> None:
    pool = WorkerPool(timeout=60)
    errors: list[WorkerError] = []

    def nap() -> None:
        try:
            pool.call(WorkerKind.LITERT, "worker_functions:nap", seconds=60)
        except WorkerError as error:
            errors.append(error)

    thread = threading.Thread(target=nap)
    thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    pool.stop()
    thread.join(10)
    assert time.monotonic() - began < 5
    assert len(errors) == 1
    with pytest.raises(WorkerError, match="stopped"):
        pool.call(WorkerKind.LITERT, "worker_functions:pid")


def test_what_a_function_logs_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    with Worker("test") as worker:
        worker.call("worker_functions:warn", text="beware")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("edgeconv.somewhere", "beware!")
    ]


def test_state_lasts_as_long_as_the_process() -> None:
    with Worker("test") as worker:
        assert [worker.call("worker_functions:count") for _ in range(2)] == [1, 2]
        worker.stop()
        assert worker.call("worker_functions:count") == 1


def test_a_released_worker_starts_again() -> None:
    kind = WorkerKind.LITERT
    with WorkerPool(make_worker=lambda kind, timeout: Worker(kind.value, timeout=timeout)) as pool:
        first = pool.call(kind, "worker_functions:pid")
        pool.release(kind)
        assert pool.call(kind, "worker_functions:pid") != first


def test_an_idle_worker_that_holds_much_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with WorkerPool(make_worker=lambda kind, timeout: Worker(kind.value, timeout=timeout)) as pool:
        kinds = (WorkerKind.TENSORFLOW, WorkerKind.TORCH, WorkerKind.LITERT)
        first, torch, other = (pool.call(kind, "worker_functions:pid") for kind in kinds)
        sizes = {first: 400 << 20, torch: 400 << 20, other: 300 << 20}
        monkeypatch.setattr(module, "memory_of", lambda pid: sizes.get(pid, 0))
        assert pool.call(WorkerKind.LITERT, "worker_functions:pid") == other
        assert pool.call(WorkerKind.TORCH, "worker_functions:pid") == torch
        assert pool.call(WorkerKind.TENSORFLOW, "worker_functions:pid") != first
