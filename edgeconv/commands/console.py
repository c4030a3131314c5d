"""What people see while a command runs: progress, log, errors; and the exit codes.

Exit codes: 0 done; 1 a parity gate failed, the bundle is there; 2 the call or its input is wrong;
3 the model cannot be converted, a native runtime failed on it, or edgeconv itself did; 4 a tool is
missing; 130 interrupted; 141 nobody reads stdout any more; 143 terminated.
"""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

import click

from edgeconv.core.declare import flags, specs
from edgeconv.core.errors import (
    ConversionError,
    EdgeconvError,
    LimitExceeded,
    ToolMissing,
    UsageError,
    WorkerError,
)
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.core.visible import visible
from edgeconv.core.wording import Wording, in_flags

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

EXIT_GATE, EXIT_USAGE, EXIT_MODEL, EXIT_TOOL = 1, 2, 3, 4
EXIT_PIPE = 128 + signal.SIGPIPE

_EXIT_CODES: tuple[tuple[type[EdgeconvError], int], ...] = (
    (UsageError, EXIT_USAGE),
    (LimitExceeded, EXIT_USAGE),
    (ToolMissing, EXIT_TOOL),
    (ConversionError, EXIT_MODEL),
    (WorkerError, EXIT_MODEL),
)

# Shorter steps would only flicker.
_SHOWN_AFTER = 0.3


class Display:
    """Shows running steps and log messages. A context manager, and an `Observer`.

    Args:
        quiet: Show errors only.
        verbose: Show what the modules log in detail.
    """

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._progress: Progress | None = None
        self._handler: _ConsoleHandler | None = None
        self._before = (logging.NOTSET, True)

    def __enter__(self) -> Self:
        console = _console()
        if console.is_terminal and not self._quiet:
            self._progress = _progress(console)
            self._progress.start()
        self._handler = _ConsoleHandler(console)
        self._handler.setLevel(self._level())
        self._before = (_logger().level, _logger().propagate)
        _logger().addHandler(self._handler)
        _logger().setLevel(min(self._level(), logging.WARNING))
        _logger().propagate = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
        if self._handler is not None:
            _logger().removeHandler(self._handler)
            level, _logger().propagate = self._before
            _logger().setLevel(level)

    def started(self, step: str) -> None:
        """Show a step."""
        self._began[step] = time.monotonic()
        if self._progress is not None:
            self._tasks[step] = self._progress.add_task(step, total=None)

    def advanced(self, step: str, done: int, total: int) -> None:
        """Move a step's bar."""
        if self._progress is not None and step in self._tasks:
            self._progress.update(self._tasks[step], completed=done, total=total)

    def finished(self, step: str) -> None:
        """Replace a step's bar by a line with its time."""
        seconds = time.monotonic() - self._began.pop(step, time.monotonic())
        if self._progress is None:
            return
        self._progress.remove_task(self._tasks.pop(step))
        if seconds >= _SHOWN_AFTER:
            self._progress.console.print(f"  {step:<24}{seconds:7.1f} s", highlight=False)

    def _level(self) -> int:
        if self._quiet:
            return logging.ERROR
        return logging.DEBUG if self._verbose else logging.WARNING


def _logger() -> logging.Logger:
    return logging.getLogger("edgeconv")


class _ConsoleHandler(logging.Handler):
    """Prints log records without disturbing the progress display."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        with suppress(OSError):  # nobody reads stderr
            self._console.print(visible(text), markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    from rich.console import Console

    class Patient(Console):
        """Goes on where nobody reads stderr; rich would end the process, with 1."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Patient(stderr=True)


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


@contextmanager
def reported(*, as_json: bool, verbose: bool) -> Iterator[None]:
    """Turn errors into a message on stderr and an exit code.

    Args:
        as_json: Print the error on stdout too, as a JSON object with its ``exit_code``.
        verbose: Print long technical text and tracebacks; show Python's warnings.
    """
    try:
        with warnings.catch_warnings():
            if not verbose:
                warnings.simplefilter("ignore")
            yield
    except EdgeconvError as error:
        _fail(error, as_json=as_json, verbose=verbose)
    except (click.exceptions.Exit, click.ClickException, click.Abort):
        raise
    except Exception as error:  # noqa: BLE001 - the edge: what nobody foresaw is told in one line
        from edgeconv.toolchain.worker.errors import of_the_machine

        known = of_the_machine(error, traceback.format_exc())
        if known is not None:
            _fail(known, as_json=as_json, verbose=verbose)
        text = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {text[0] if text else 'no message'}"
        unforeseen = EdgeconvError(
            f"edgeconv failed in a way that it should not: {what}",
            hint="run with --verbose, and report what it prints",
        )
        _fail(unforeseen, as_json=as_json, verbose=verbose)


def _fail(error: EdgeconvError, *, as_json: bool, verbose: bool) -> NoReturn:
    code = next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), EXIT_MODEL)
    in_words = _wording()
    say(f"error: {error.text(in_words)}")
    if verbose:
        say(error.details or traceback.format_exc())
    if as_json:
        show(json.dumps({**error.to_dict(in_words), "exit_code": code}, indent=2))
    raise click.exceptions.Exit(code)


def _wording() -> Wording:
    """Return how the command line calls options; those not listed are called like in Python."""
    return in_flags(flags((*specs(Job), *specs(ConvertOptions))))


def say(what: str | click.ClickException) -> None:
    """Write to stderr, if anybody reads it."""
    with suppress(OSError, ValueError):
        if isinstance(what, str):
            click.echo(visible(what), err=True)
        else:
            shown = io.StringIO()
            what.show(shown)
            click.echo(visible(shown.getvalue()), err=True, nl=False)


def show(text: str) -> None:
    """Write a result to stdout.

    Raises:
        click.exceptions.Exit: Nobody reads it any more, or it cannot be written.
    """
    try:
        click.echo(visible(text))
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        raise click.exceptions.Exit(stdout_failed(error)) from error


def flushed(code: int) -> int:
    """Return an exit code after what is left for stdout has been written."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        return stdout_failed(error)
    return code


def stdout_failed(error: Exception) -> int:
    """Tell of an error on stdout, keep Python from trying again, and return the exit code."""
    with suppress(OSError, ValueError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
    if isinstance(error, BrokenPipeError):
        return EXIT_PIPE
    say(f"error: the result cannot be written to stdout: {getattr(error, 'strerror', '') or error}")
    return EXIT_USAGE
