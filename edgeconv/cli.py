"""The command line: its subcommands, and what happens to signals and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from edgeconv.commands import COMMANDS
from edgeconv.console import EXIT_INTERRUPTED, EXIT_USAGE


class _InOrder(click.Group):
    """Lists the subcommands in the order they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(
    cls=_InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="edgeconv", message="%(prog)s %(version)s")
def cli() -> None:
    """Take a PyTorch model to edge hardware, and prove that it still computes the same."""


for _command in COMMANDS:
    cli.add_command(_command)


def _terminate(signum: int, _frame: FrameType | None) -> NoReturn:
    """Leave through every context manager, which stop processes and remove partial files."""
    sys.exit(128 + signum)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="edgeconv", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing was left behind", err=True)
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


def main() -> None:
    """Run as a program."""
    # OpenMP's threads spin while they wait, on cores that the workers need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run())
