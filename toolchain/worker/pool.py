"""The workers of one conversion: one process per native runtime, started together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Any, Self

from edgeconv.core.errors import WorkerError
from edgeconv.toolchain.worker.process import ProgressCallback, Worker


class WorkerKind(StrEnum):
    """What a worker process has loaded; one crash takes down one kind."""

    ONNXRUNTIME = "onnxruntime"
    TENSORFLOW = "TensorFlow"
    LITERT = "LiteRT"
    QUANTIZER = "quantizer"
    TORCH = "PyTorch"


_KEPT = 384 << 20
"""Bytes with which a worker that has nothing to do is stopped: what it loaded is far less, but
TensorFlow keeps the weights of models that it is done with."""


class WorkerPool:
    """One worker of each kind. Calls of one kind queue up; kinds run side by side.

    Use it as a context manager: leaving it stops every process, also those that are busy in
    another thread, whose calls then raise `WorkerCrashed`.

    Args:
        timeout: Seconds that one call may take.
        memory: Bytes that each worker may take; half of the machine's memory by default.
        preload: What workers of each kind import when they start.
        make_worker: Builds a worker of a kind; for tests.
    """

    def __init__(
        self,
        *,
        timeout: float = 1800.0,
        memory: int | None = None,
        preload: Mapping[WorkerKind, Sequence[str]] | None = None,
        make_worker: Callable[[WorkerKind, float], Worker] | None = None,
    ) -> None:
        make = make_worker or partial(_make_worker, memory=memory, preload=preload or {})
        self._workers = {kind: make(kind, timeout) for kind in WorkerKind}
        self._locks = {kind: threading.Lock() for kind in WorkerKind}
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, *kinds: WorkerKind) -> None:
        """Start these workers, so that their imports overlap with our work."""
        for kind in kinds:
            with self._locks[kind]:
                self._workers[kind].start()

    def release(self, kind: WorkerKind) -> None:
        """Stop a worker that is not needed for now; a later call starts a new one."""
        with self._locks[kind]:
            self._workers[kind].stop()

    def call(
        self,
        kind: WorkerKind,
        function: str,
        /,
        progress: ProgressCallback | None = None,
        **arguments: Any,
    ) -> Any:
        """Call ``module:function`` in the worker of a kind; see `Worker.call`."""
        self._relieve()
        with self._locks[kind]:
            if self._closed:
                raise WorkerError("the workers have been stopped", where=f"{kind.value} worker")
            return self._workers[kind].call(function, progress, **arguments)

    def _relieve(self) -> None:
        """Stop workers that are idle and hold much memory; not PyTorch's, which holds the model."""
        for kind, worker in self._workers.items():
            if kind is not WorkerKind.TORCH and self._locks[kind].acquire(blocking=False):
                try:
                    if worker.memory() > _KEPT:
                        worker.stop()
                finally:
                    self._locks[kind].release()

    def stop(self) -> None:
        """Stop every process. Nothing can be called afterwards."""
        self._closed = True
        for worker in self._workers.values():
            worker.kill()
        for kind, worker in self._workers.items():
            with self._locks[kind]:
                worker.stop()


def _make_worker(
    kind: WorkerKind,
    timeout: float,
    memory: int | None,
    preload: Mapping[WorkerKind, Sequence[str]],
) -> Worker:
    return Worker(kind.value, preload=tuple(preload.get(kind, ())), timeout=timeout, memory=memory)
