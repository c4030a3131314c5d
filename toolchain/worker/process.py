"""Run functions in a worker process that may crash, abort or hang without taking us along.

The parent starts ``python -m edgeconv.toolchain.worker.process`` and speaks JSON lines over two
pipes of its own, so that whatever native code prints cannot garble the protocol. Arrays do not
travel: callers exchange files. A request is ``{"call": "edgeconv.module:function", "arguments":
{...}}``; answers are ``{"progress": [done, total]}`` and ``{"log": [logger, level, text]}`` (any
number), then ``{"result": ...}`` or ``{"error": {...}}``. A worker ends itself, with everything
that it started, when its parent closes the pipe or dies, also in the middle of a call.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType, TracebackType
from typing import IO, Any, Self

from edgeconv.core.errors import WorkerError, error_from_dict
from edgeconv.core.scratch import Scratch
from edgeconv.core.wording import as_it_is
from edgeconv.toolchain.worker.errors import describe, died, no_answer, no_memory
from edgeconv.toolchain.worker.limits import (
    GLANCE,
    IN_WORKER,
    default_memory,
    limit_this_process,
    memory_of,
)
from edgeconv.toolchain.worker.resident import Frugal, give_back_libraries
from edgeconv.toolchain.worker.switches import SWITCHES

ProgressCallback = Callable[[int, int], None]
"""Called with (done, total) while a long call runs."""

_STDERR_TAIL = 4000


class Worker:
    """A lazily started, restartable worker process. Use it as a context manager.

    Args:
        name: What the worker does, for messages: ``"TensorFlow"``.
        preload: Modules that the worker imports as soon as it starts, so that their import
            overlaps with other work: the first before any call, others when it waits for one. A
            function, ``module:function``, is called instead.
        timeout: Seconds that one call may take.
        memory: Bytes that it and what it starts may have to themselves; half of the machine's by
            default.
        python: Interpreter to use; the running one by default.
    """

    def __init__(
        self,
        name: str,
        *,
        preload: Sequence[str] = (),
        timeout: float = 1800.0,
        memory: int | None = None,
        python: Path | None = None,
    ) -> None:
        self.name = name
        self._memory = memory or default_memory()
        self._preload = tuple(preload)
        self._timeout = timeout
        self._python = str(python or sys.executable)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._scratch: Scratch | None = None
        self._requests: IO[bytes] | None = None
        self._answers = -1
        self._pending = b""
        self._looked = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process, if it is not running, so that its imports overlap with our work."""
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        self._log = tempfile.TemporaryFile(prefix="edgeconv-worker-")  # noqa: SIM115
        self._scratch = Scratch()
        command = [self._python, "-P", "-m", "edgeconv.toolchain.worker.process"]
        command += [str(request_read), str(answer_write), str(self._memory)]
        command += self._preload
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(request_read, answer_write),
            env={**_worker_environment(), "TMPDIR": str(self._scratch.path)},
            start_new_session=True,
        )
        os.close(request_read)
        os.close(answer_write)
        self._requests = os.fdopen(request_write, "wb", buffering=0)
        self._answers = answer_read
        self._pending = b""

    def call(
        self,
        function: str,
        /,
        progress: ProgressCallback | None = None,
        **arguments: Any,
    ) -> Any:
        """Call ``module:function`` in the worker and return its JSON result.

        Raises:
            EdgeconvError: Whatever typed error the function raised.
            WorkerError: The function raised something else; the traceback is in ``details``.
            WorkerCrashed: The process died. A later call starts a new one.
            WorkerTimeout: The call took longer than the time-out; the process was stopped.
            LimitExceeded: It took more memory, or a step of it more processor time, than it may.
        """
        self.start()
        request = json.dumps({"call": function, "arguments": arguments}) + "\n"
        try:
            assert self._requests is not None
            self._requests.write(request.encode())
        except BrokenPipeError:
            raise self._crashed(function) from None
        deadline = time.monotonic() + self._timeout
        while True:
            answer = self._read(function, deadline)
            if "progress" in answer:
                if progress is not None:
                    progress(*answer["progress"])
            elif "log" in answer:
                name, level, text = answer["log"]
                logging.getLogger(name).log(level, "%s", text)
            elif "error" in answer:
                raise error_from_dict(answer["error"])
            else:
                return answer["result"]

    def memory(self) -> int:
        """Return the bytes that the process has to itself, 0 where none is running."""
        process = self._process
        return 0 if process is None else memory_of(process.pid)

    def kill(self) -> None:
        """Kill the process and everything that it started; safe from any thread.

        A call that is under way in another thread then raises `WorkerCrashed`.
        """
        process = self._process
        if process is not None and process.poll() is None:
            _kill_group(process)

    def stop(self) -> None:
        """Stop the process, and release what belongs to it."""
        if self._process is not None:
            self.kill()
            self._process.wait()
            self._process = None
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def _read(self, function: str, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._pending:
            self._look_at_memory(function)
            left = deadline - time.monotonic()
            wait = max(0.0, min(left, GLANCE))
            ready = select.select([self._answers], [], [], wait)[0]
            if not ready and left > 0:
                continue
            if not ready:
                tail = self._tail()
                self.stop()
                raise no_answer(self.name, function, tail, self._timeout)
            chunk = os.read(self._answers, 1 << 16)
            if not chunk:
                raise self._crashed(function)
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _look_at_memory(self, function: str) -> None:
        """Stop the process where it has more memory than it may; look now and then only."""
        now = time.monotonic()
        if now - self._looked < GLANCE or self._process is None:
            return
        self._looked = now
        if memory_of(self._process.pid) > self._memory:
            tail = self._tail()
            self.stop()
            raise no_memory(self.name, function, tail, self._memory)

    def _crashed(self, function: str) -> WorkerError:
        assert self._process is not None
        code = self._process.wait()
        tail = self._tail()
        self.stop()
        return died(self.name, function, code, tail, self._memory)

    def _tail(self) -> str:
        if self._log is None:
            return ""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _STDERR_TAIL))
        return self._log.read().decode(errors="replace")


def _worker_environment() -> dict[str, str]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    # Convolutions take a third of the time; by itself TensorFlow asks for newer processors.
    fast = {"TF_ENABLE_ONEDNN_OPTS": "1"}
    # Legacy Keras is rarely installed, and TensorFlow does without; the other one, which it would
    # import whole, takes a fifth of its time and 80 MB.
    lean = {"TF_USE_LEGACY_KERAS": "1"}
    # What glibc's allocator keeps for itself: one arena, and nothing large (mallopt(3)).
    memory = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"}
    return {**memory, **fast, **os.environ, **quiet, **lean, **SWITCHES, IN_WORKER: "1"}


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def serve(requests: Iterable[bytes], answers: IO[bytes]) -> None:
    """Answer each request, one JSON text per item.

    A function that has a parameter ``progress`` gets a `ProgressCallback`; one that has a
    parameter ``state`` a dictionary that lives as long as the process.
    """

    def send(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    offered = {"progress": lambda done, total: send({"progress": [done, total]}), "state": {}}
    logger, handler = logging.getLogger("edgeconv"), _Forward(send)
    logger.addHandler(handler)
    for line in requests:
        request = json.loads(line)
        try:
            result = _invoke(request, offered)
        except Exception as error:  # noqa: BLE001 - the process boundary: every error is sent
            send({"error": describe(request["call"], error).to_dict(as_it_is)})
        else:
            send({"result": result})
            gc.collect()
    logger.removeHandler(handler)


class _Forward(logging.Handler):
    """Sends what our own modules log to the parent."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._send({"log": [record.name, record.levelno, record.getMessage()]})


def _invoke(request: dict[str, Any], offered: dict[str, Any]) -> Any:
    """Call the function; it gets what is offered under the names of its parameters."""
    module, _, name = request["call"].partition(":")
    function = getattr(_imported(module), name)
    wanted = inspect.signature(function).parameters
    extra = {key: value for key, value in offered.items() if key in wanted}
    return function(**request["arguments"], **extra)


def _preload(name: str) -> None:
    module, _, function = name.partition(":")
    imported = _imported(module)
    if function:
        getattr(imported, function)()


def _imported(name: str) -> ModuleType:
    """Import a module; what that leaves is out of the garbage collector's sight for good."""
    if name in sys.modules:
        return sys.modules[name]
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _receive(requests: IO[bytes], inbox: SimpleQueue[bytes]) -> None:
    for line in requests:
        inbox.put(line)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main() -> None:
    """Serve the parent that started us.

    ``argv`` holds two file descriptors, the bytes of memory that we may take, and the preloads.
    """
    request_fd, answer_fd, memory, *preload = sys.argv[1:]
    limit_this_process(int(memory))
    inbox: SimpleQueue[bytes] = SimpleQueue()
    requests = os.fdopen(int(request_fd), "rb")
    threading.Thread(target=_receive, args=(requests, inbox), daemon=True).start()
    sys.meta_path.insert(0, Frugal())
    with os.fdopen(int(answer_fd), "wb") as answers:
        serve(_arriving(inbox, preload), answers)


def _arriving(inbox: SimpleQueue[bytes], preload: Sequence[str]) -> Iterator[bytes]:
    """Yield requests as they come; until there is one, and between them, load what is to be loaded.

    A request waits for the first of that alone, not for what it may not need: a file is refused
    before PyTorch's compiler is loaded.
    """
    for place, name in enumerate(preload):
        while place and not inbox.empty():
            yield inbox.get()
        # A call that needs the module imports it again, and reports what is missing.
        with suppress(ImportError):
            _preload(name)
    give_back_libraries()
    yield from iter(inbox.get, b"")


if __name__ == "__main__":
    main()
