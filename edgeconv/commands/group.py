"""The command that the subcommands belong to."""

from __future__ import annotations

from typing import Any

import click

from edgeconv.commands import COMMANDS
from edgeconv.commands.console import stdout_failed


class _InOrder(click.Group):
    """Lists the subcommands in the order they were added, and minds where its help goes.

    Commands report their own errors: an `OSError` that comes through is one of stdout, on which
    click prints help and version. Click itself would end with 1, which means a failed gate.
    """

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        """Parse the command line."""
        try:
            return super().make_context(*arguments, **extra)
        except OSError as error:
            raise click.exceptions.Exit(stdout_failed(error)) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            raise click.exceptions.Exit(stdout_failed(error)) from error

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
