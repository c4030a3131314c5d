"""The command line as a program: what happens to signals, streams and exit codes.

Little is imported before signals are taken care of, so that an early Ctrl-C is as quiet as a late
one.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

_INTERRUPTED = 128 + signal.SIGINT


def _leave_at_once(signum: int, _frame: FrameType | None) -> NoReturn:
    """End a process that has done nothing yet."""
    os._exit(128 + signum)


def _terminate(signum: int, _frame: FrameType | None) -> NoReturn:
    """Leave through every context manager, which stop processes and remove partial files."""
    sys.exit(128 + signum)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    import click

    from edgeconv.commands.console import EXIT_USAGE, reported, say
    from edgeconv.commands.group import cli

    if signal.getsignal(signal.SIGINT) is _leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    words = sys.argv[1:] if arguments is None else arguments
    try:
        # A command reports its own errors; this is for what comes before and after.
        with reported(as_json=False, verbose=not {"-v", "--verbose"}.isdisjoint(words)):
            code = cli.main(args=arguments, prog_name="edgeconv", standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        say(error)
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        _ignore_interrupts()
        say("interrupted; nothing was left behind")
        return _INTERRUPTED
    return code if isinstance(code, int) else 0


def _ignore_interrupts() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> None:
    """Run as a program."""
    # A shell's background jobs, and what nohup starts, ignore them.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave_at_once)
    # OpenMP's threads spin while they wait, on cores that the workers need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminate)
    code = run()
    _ignore_interrupts()
    from edgeconv.commands.console import flushed

    sys.exit(flushed(code))
