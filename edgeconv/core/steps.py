"""Named steps that are timed and can be watched, run here or one after the other in a thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class Observer(Protocol):
    """Follows the steps of a conversion; called from two threads."""

    def started(self, step: str) -> None:
        """A step begins."""

    def advanced(self, step: str, done: int, total: int) -> None:
        """A step has done this much."""

    def finished(self, step: str) -> None:
        """A step has ended, well or not."""


class Nobody:
    """An observer that does not look."""

    def started(self, step: str) -> None:
        """Ignore it."""

    def advanced(self, step: str, done: int, total: int) -> None:
        """Ignore it."""

    def finished(self, step: str) -> None:
        """Ignore it."""


class Steps:
    """Runs and times steps.

    Args:
        observer: Follows them.
        thread: Runs what is submitted; of one thread.

    Attributes:
        seconds: What each step that has ended took.
    """

    def __init__(self, observer: Observer, thread: ThreadPoolExecutor) -> None:
        self.observer = observer
        self.seconds: dict[str, float] = {}
        self._thread = thread
        self._pending: list[Future[None]] = []

    def run(self, name: str, action: Callable[[], _T]) -> _T:
        """Run a step now, and return what it returns."""
        began = time.monotonic()
        self.observer.started(name)
        try:
            return action()
        finally:
            self.seconds[name] = round(time.monotonic() - began, 3)
            self.observer.finished(name)

    def submit(self, name: str, action: Callable[[], None]) -> None:
        """Run a step in the thread, after those submitted before; none runs after a failure."""
        self._pending.append(self._thread.submit(self._after, list(self._pending), name, action))

    def wait(self) -> None:
        """Wait for everything submitted, and raise what the first failure raised."""
        for future in self._pending:
            future.result()

    def _after(self, before: list[Future[None]], name: str, action: Callable[[], None]) -> None:
        for future in before:
            future.result()
        self.run(name, action)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect what our own modules warn of, without repeats."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if text not in messages:
                messages.append(text)

    handler = Collector(logging.WARNING)
    logger = logging.getLogger("edgeconv")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
