"""What is said of a worker that failed, and of the errors that cross from it to its parent."""

from __future__ import annotations

import errno
import signal
import traceback

from edgeconv.core.disk import disk_full, is_disk_full
from edgeconv.core.errors import (
    EdgeconvError,
    LimitExceeded,
    ToolMissing,
    UsageError,
    WorkerCrashed,
    WorkerError,
    WorkerTimeout,
)
from edgeconv.core.wording import named
from edgeconv.toolchain.worker.limits import is_out_of_memory

_LIBRARY_NOT_MAPPED = "failed to map segment"


def describe(function: str, error: Exception) -> EdgeconvError:
    """Turn whatever a worker function raised into a typed error that can cross processes."""
    if isinstance(error, EdgeconvError):
        return error
    details = traceback.format_exc()
    if isinstance(error, ModuleNotFoundError) and error.name and "edgeconv" not in error.name:
        return ToolMissing(
            f"the Python package {error.name} is not installed",
            hint=f"install it: pip install {error.name.partition('.')[0].replace('_', '-')}",
            details=details,
        )
    known = of_the_machine(error, details)
    if known is not None:
        return known
    text = str(error).strip().splitlines()
    return WorkerError(
        f"{function.rpartition(':')[2]} failed",
        why=f"{type(error).__name__}: {text[0] if text else 'no message'}",
        hint="run with --verbose for the whole traceback",
        details=details,
    )


def of_the_machine(error: BaseException, details: str = "") -> EdgeconvError | None:
    """Return the error for one that says that the machine has not enough; None for any other."""
    if is_disk_full(error):
        return disk_full(details)
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return UsageError(
            "too many files are open",
            why="the limit of this process, or of the machine, is reached",
            hint="raise it, for example with: ulimit -n 1024",
            details=details,
        )
    if is_out_of_memory(error) or _LIBRARY_NOT_MAPPED in str(error):
        return LimitExceeded(
            "there is not enough memory",
            why=f"{str(error).strip().splitlines()[0]}" if str(error).strip() else "",
            hint=f"raise {named('memory_limit')} or ulimit -v, or give a smaller model or input",
            details=details,
        )
    return None


def died(worker: str, function: str, code: int, said: str, memory: int) -> WorkerError:
    """Return the error for a worker that ended in the middle of a call.

    Args:
        worker: What it is, for messages.
        function: What it was doing.
        code: Its exit status, negative for a signal.
        said: The end of what it printed.
        memory: Bytes that it might have.
    """
    where = f"{worker} worker"
    if code == -signal.SIGXCPU:
        return LimitExceeded(
            "it was stopped, because it took more processor time than a sound file could need",
            where=where,
            why=f"in {function}",
            hint="do not trust this file; or write it again, if it is yours",
            details=said,
        )
    if is_out_of_memory(RuntimeError(said)) or _LIBRARY_NOT_MAPPED in said:
        return no_memory(worker, function, said, memory)
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
    return WorkerCrashed(
        f"the process died ({how})",
        where=where,
        why=f"in {function}" + (f"; its last words were: {last}" if last else ""),
        hint="run with --verbose for its output; report it with the model if you can",
        details=said,
    )


def no_memory(worker: str, function: str, said: str, memory: int) -> LimitExceeded:
    """Return the error for a worker that needs more memory than it may have."""
    return LimitExceeded(
        f"more than {memory / 2**20:,.0f} MB of memory are needed",
        where=f"{worker} worker",
        why=f"{function} was stopped",
        hint=f"raise {named('memory_limit')}, or give a smaller model or input",
        details=said,
    )


def no_answer(worker: str, function: str, said: str, seconds: float) -> WorkerTimeout:
    """Return the error for a worker that did not answer in time."""
    return WorkerTimeout(
        f"no answer within {seconds:g} seconds",
        where=f"{worker} worker",
        why=f"{function} was stopped",
        hint=f"raise {named('timeout')}, or try a smaller model",
        details=said,
    )
